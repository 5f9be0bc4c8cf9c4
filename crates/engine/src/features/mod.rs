//! From what is known about a customer to the row a model reads: one code path for training and serving.

pub mod catalogue_row;
pub mod customer;
pub mod derived;
pub mod drift;
mod identities;
pub mod interactions;
pub mod purchases;
pub mod schema;
mod stored;
pub mod value;

pub use customer::{CustomerFold, CustomerVector};
pub use derived::{Bend, DerivedRule, Factor};
pub use schema::{FeatureFault, FeatureRule, FeatureSchema, Given, Impute, NamedImpute, Row, Transform};
pub use value::Value;

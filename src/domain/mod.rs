//! The vocabulary every other module speaks. Pure but for `durable`: no I/O, no clocks read, no web types.

pub mod durable;
pub mod feature;
pub mod ids;
pub mod interaction;
pub mod job;
pub mod lead;
pub mod normal;
pub mod score;
pub mod time;

pub use feature::{Catalogued, catalogued};
pub use ids::{CustomerKey, ModelName, ModelVersion, Promotions};
pub use interaction::{Channel, Interaction, InteractionId, LabelId, SealedId, Sentiment};
pub use job::{JobName, JobStatus};
pub use lead::LeadScore;
pub use score::{Estimate, Interval, Probability, Source, Tier};

//! The vocabulary every other module speaks. Pure, but for `durable` and the clocks of `time`: no I/O, no web types.

pub mod durable;
pub mod feature;
pub mod ids;
pub mod interaction;
pub mod job;
pub mod lead;
pub mod normal;
pub mod privacy;
pub mod purchase;
pub mod resilience;
pub mod score;
pub mod template;
pub mod text;
pub mod time;
pub mod trace;
pub mod words;

pub use feature::{Catalogued, FeatureGroup, catalogued};
pub use ids::{CustomerKey, ModelName, ModelVersion, Promotions};
pub use interaction::{
    Annotation, Channel, ExtractedInteraction, Interaction, InteractionId, InteractionRow, LabelId, SealedId, Sentiment,
};
pub use job::{JobName, JobStatus};
pub use lead::{LeadScore, RollingPlaces};
pub use purchase::{Purchase, PurchaseFault, PurchaseText};
pub use score::{Estimate, Interval, Probability, Source, Tier};

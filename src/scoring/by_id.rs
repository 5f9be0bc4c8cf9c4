//! Prediction by id: the customer's stored features stand in for those that a request does not bring.
//!
//! They are scored as they were stored, as of their own time, and the answer says that time and their age: between two
//! passes of the features job a recency is up to that much too young. Only interactions that had ended by then are in
//! them, so the conversation that is going on cannot leak in.

use super::feature_table::StoredFeatures;
use super::task::Score;
use super::{AnswerInProgress, Ask, AskFault, Scorer, Warning};
use scoreline_domain::CustomerKey;
use scoreline_domain::time::Timestamp;
use scoreline_engine::features::FeatureFault;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::ReadCustomer;
use scoreline_engine::inference::manifest::Task;

impl Scorer {
    /// Reads the features that are stored of the customer, for a question that brings none. A customer of whom nothing
    /// is stored, or not what this model needs, is a new customer; the warnings say which.
    pub(super) fn read_stored<E: Score>(
        &self,
        answer: &mut AnswerInProgress<'_>,
        ask: &Ask<'_>,
    ) -> Result<ReadCustomer, AskFault> {
        let customer = ask.customer.ok_or(AskFault::Nothing)?;
        // Customers are stored, leads are not.
        if E::TASK != Task::Clv {
            return Ok(ReadCustomer::New);
        }
        let Some(features) = ask.stored.copied().or_else(|| self.parts.table.find(&customer)) else {
            let unknown =
                if self.parts.table.is_complete() { Warning::NothingStored } else { Warning::NothingStoredYet };
            answer.warnings.push(unknown);
            return Ok(ReadCustomer::New);
        };
        answer.features_as_of = Some(features.as_of);
        if self.parts.table.is_stale(&features, answer.now) {
            answer.warnings.push(Warning::StoredStale);
        }
        // The caller cannot mend what is stored, so it is no error of theirs.
        let read = answer.snapshot.read_catalogued(&features.values).unwrap_or_else(|_| {
            answer.warnings.push(Warning::StoredUnfit);
            ReadCustomer::New
        });
        if let (ReadCustomer::New, Some(position)) = (&read, answer.snapshot.lacks(&features.values)) {
            answer.warnings.push(Warning::StoredLacks(position));
        }
        Ok(read)
    }

    /// What is stored of the customer a question without features is about.
    pub(super) fn stored(&self, task: Task, ask: &Ask<'_>) -> Option<StoredFeatures> {
        let asked = ask.customer.filter(|_| task == Task::Clv && ask.features.is_none())?;
        self.parts.table.find(&asked)
    }

    /// The stored features that an answer was made from, as the model reads them; `None` once they are others.
    pub(super) fn stored_as_of(
        &self,
        snapshot: &ModelSnapshot,
        customer: Option<CustomerKey>,
        as_of: Option<Timestamp>,
    ) -> Option<ReadCustomer> {
        let features = self.parts.table.find(&customer?).filter(|features| Some(features.as_of) == as_of)?;
        snapshot.read_catalogued(&features.values).ok()
    }
}

impl Ask<'_> {
    /// What the question says of its customer, as another model reads it.
    pub(super) fn read(&self, snapshot: &ModelSnapshot) -> Result<ReadCustomer, FeatureFault> {
        match (self.features, self.stored) {
            (Some(features), _) => snapshot.read(features.iter().copied()),
            (None, Some(stored)) => snapshot.read_catalogued(&stored.values),
            (None, None) => Ok(ReadCustomer::New),
        }
    }
}

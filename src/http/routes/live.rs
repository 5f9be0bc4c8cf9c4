//! Live calls: one JSON object in, one out, and somebody waits. Both doors answer them from here: the short lane within a
//! single poll, the router with a handler for each.

use super::call::Call;
use super::{genesys_clv, genesys_lead, genesys_route, predict_clv, predict_lead, route_tier};
use crate::http::admission::{Class, WhenOverloaded};
use crate::http::edge::error::ApiError;
use crate::http::edge::observe::ErrorForm;
use crate::http::state::{HttpState, SharedState};
use crate::http::wire::response::Reply;

/// The endpoints that somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    PredictClv,
    PredictLead,
    RouteTier,
    GenesysClv,
    GenesysRoute,
    GenesysLead,
}

impl Endpoint {
    /// Answers a call that has been let in and read.
    ///
    /// # Errors
    /// What is wrong with it. On an endpoint for data actions it gets the body of `flat_error`.
    pub(crate) async fn answer(self, app: &HttpState, call: &mut Call) -> Result<Reply, ApiError> {
        let permit = app.admission.enter(Class::Live);
        call.shed = permit.is_err();
        call.refuse = !self.is_flat() && app.admission.when_overloaded() == WhenOverloaded::Refuse;
        match self {
            Self::PredictClv => predict_clv::handle(app, call).await,
            Self::PredictLead => predict_lead::handle(app, call).await,
            Self::RouteTier => route_tier::handle(app, call).await,
            Self::GenesysClv => genesys_clv::handle(app, call).await,
            Self::GenesysRoute => genesys_route::handle(app, call).await,
            Self::GenesysLead => genesys_lead::handle(app, call).await,
        }
    }

    /// How its errors are written.
    pub(crate) fn errors(self, state: &SharedState) -> ErrorForm {
        if !self.is_flat() {
            return ErrorForm::Documented;
        }
        let write = if self == Self::GenesysLead { genesys_lead::error } else { genesys_clv::error };
        let app = state.clone();
        ErrorForm::Flat(Box::new(move |error: &ApiError, id: &str| write(&app, error, id)))
    }

    /// Whether it is for data actions: a flow cannot read a failure.
    fn is_flat(self) -> bool {
        match self {
            Self::GenesysClv | Self::GenesysRoute | Self::GenesysLead => true,
            Self::PredictClv | Self::PredictLead | Self::RouteTier => false,
        }
    }
}

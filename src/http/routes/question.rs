//! A question about a customer, as the endpoints that answer one ask it.

use super::conversation::Asked;
use crate::http::edge::deadline::Hurry;
use crate::http::edge::error::ApiError;
use crate::http::state::HttpState;
use crate::http::wire::Explained;
use crate::http::wire::answer::Context;
use crate::http::wire::request::{PredictRequest, checked_request_id};
use crate::scoring::explanation::Detail;
use crate::scoring::{Ask, Prefer, Scored, Scorer};
use scoreline_domain::CustomerKey;
use scoreline_domain::privacy::{IdHasher, Screen};

/// A request with its checked transport fields.
pub(super) struct ClvQuestion<'r, 'b> {
    request: &'r PredictRequest<'b>,
    context: Context<'r>,
    hurry: Hurry,
}

impl<'r, 'b> ClvQuestion<'r, 'b> {
    /// `otherwise` gives the id of a request that brings none; `hurry` is what its caller says of their time.
    pub(super) fn new(
        request: &'r PredictRequest<'b>,
        screen: Screen,
        otherwise: impl FnOnce() -> &'r str,
        hurry: Hurry,
    ) -> Result<Self, ApiError> {
        let request_id = checked_request_id(request.id(), screen, otherwise)?;
        let features_as_of = request.features_as_of().map_err(|err| err.of_request(request.id()))?;
        Ok(Self { request, context: Context { request_id, features_as_of }, hurry })
    }

    pub(super) fn context(&self) -> Context<'r> {
        self.context
    }

    /// The customer the question is about.
    pub(super) fn customer(&self, hasher: &IdHasher) -> Option<CustomerKey> {
        self.request.customer_id.as_deref().map(|id| hasher.key(id))
    }

    pub(super) async fn score(&self, scorer: &Scorer, hasher: &IdHasher, prefer: Prefer) -> Result<Scored, ApiError> {
        self.request.pass(hasher.screen())?;
        let features = self.request.named_features();
        let Hurry { deadline, shed, .. } = self.hurry;
        let dated = self.context.features_as_of;
        let ask = Ask { dated, deadline, shed, ..self.request.ask(features.as_deref(), hasher, prefer) };
        let scored = scorer.score(ask).await.map_err(|fault| ApiError::from(fault).of_request(self.request.id()))?;
        self.hurry.takes(scored.reason).map_err(|full| ApiError::from(full).of_request(self.request.id()))?;
        Ok(scored)
    }

    /// Whether the question can be answered as asked; the customer it is about.
    ///
    /// # Errors
    /// As `score`, but that nobody is refused for want of room.
    pub(super) fn check(&self, scorer: &Scorer, hasher: &IdHasher) -> Result<Option<CustomerKey>, ApiError> {
        self.request.pass(hasher.screen())?;
        let features = self.request.named_features();
        let ask = self.request.ask(features.as_deref(), hasher, Prefer::Exact);
        scorer.check(&ask).map_err(|fault| ApiError::from(fault).of_request(self.request.id()))?;
        Ok(ask.customer)
    }

    /// Notes the answer for the agent's page, where the request names a conversation; the address of the page.
    pub(super) fn note(&self, app: &HttpState, scored: &Scored) -> Option<String> {
        // A page that nobody can look at costs nothing.
        app.widget.as_ref()?;
        let conversation = self.request.conversation_id.as_deref()?;
        let features = self.request.named_features();
        let customer = self.request.customer_id.as_deref().map(|id| app.hasher.key(id));
        Asked { conversation, customer, features: features.as_deref() }.note_customer(app, scored)
    }

    /// Explains the answer where the request asks for it; one that does not pays nothing.
    pub(super) async fn explain(&self, scorer: &Scorer, hasher: &IdHasher, scored: &Scored) -> Option<Explained> {
        let detail = self.request.explain?.0?;
        // Boxed, so that a request without reasons has no room for them in its future.
        Some(Box::pin(self.explained(scorer, hasher, scored, detail)).await)
    }

    async fn explained(&self, scorer: &Scorer, hasher: &IdHasher, scored: &Scored, detail: Detail) -> Explained {
        let features = self.request.named_features();
        let customer = self.request.customer_id.as_deref().filter(|_| features.is_none());
        let customer = customer.map(|id| hasher.key(id));
        Explained::new(scorer.explain(features.as_deref(), customer, scored, detail).await, scorer)
    }
}

//! What of a request is looked at for personal data before it is used: every text there is a field for.

use super::values::{FeatureValue, Features};
use crate::http::edge::error::{ApiError, Code, LONGEST_NAME};
use scoreline_domain::privacy::Screen;
use scoreline_domain::privacy::screen::{RefusedText, public};
use scoreline_domain::privacy::scrub::Personal;
use scoreline_domain::text::shown;

/// The texts of one request.
pub(crate) struct Texts<'a, const N: usize> {
    /// The caller's own id, to refuse the request under.
    pub request_id: Option<&'a str>,
    /// Name and value of the field that names a customer or lead.
    pub id: (&'static str, Option<&'a str>),
    pub conversation: Option<&'a str>,
    pub others: [(&'static str, Option<&'a str>); N],
    pub features: Option<&'a Features<'a>>,
}

impl<const N: usize> Texts<'_, N> {
    /// # Errors
    /// Names the first field that is refused, and never its value.
    pub(crate) fn pass(&self, screen: Screen) -> Result<(), ApiError> {
        let (name, id) = self.id;
        let id = id.map_or(Ok(()), |id| screen.identifier(id)).map_err(|why| id_refusal(name, why));
        id.and_then(|()| self.others_pass(screen)).map_err(|err| err.of_request(self.request_id))
    }

    fn others_pass(&self, screen: Screen) -> Result<(), ApiError> {
        if let Some(id) = self.conversation {
            screen.conversation(id).map_err(|why| refusal("conversationId", why))?;
        }
        for (name, text) in self.others {
            if let Some(text) = text {
                screen.text(text).map_err(|why| refusal(name, why))?;
            }
        }
        for ((name, value), place) in self.features.iter().flat_map(|features| &features.0).zip(1..) {
            // The name of a feature stands in messages and warnings.
            public(name).map_err(|why| ApiError::personal_name("features.", Some(place), why))?;
            match value {
                Some(FeatureValue::Text(text)) => screen.text(text),
                // A number is a number, whatever else it looks like.
                Some(FeatureValue::Typed(text)) if text.trim().parse::<f64>().is_err() => screen.text(text),
                Some(FeatureValue::Typed(_) | FeatureValue::Number(_)) | None => Ok(()),
            }
            .map_err(|why| refusal(&format!("features.{name}"), why))?;
        }
        Ok(())
    }
}

/// The refusal of an identifier. The first that a flow of the platform has of its caller is their number.
fn id_refusal(field: &'static str, why: RefusedText) -> ApiError {
    match (field, why) {
        ("customerId", RefusedText::Personal(Personal::Phone)) => {
            let looks = Personal::Phone.as_str();
            let message = format!(
                "`{field}` looks like {looks}; give the external contact id (Call.ExternalContactId), not the number"
            );
            ApiError::field(Code::PiiRefused, field, message)
        }
        _ => refusal(field, why),
    }
}

/// The refusal of one field.
pub(crate) fn refusal(field: &str, why: RefusedText) -> ApiError {
    let code = match why {
        RefusedText::Personal(_) => Code::PiiRefused,
        RefusedText::NotHashed | RefusedText::Unfilled => Code::InvalidField,
    };
    let field = shown(field, LONGEST_NAME);
    ApiError::field(code, &*field, format!("`{field}` {why}"))
}

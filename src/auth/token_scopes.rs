//! Which of our scopes an issuer's tokens have: in which claims they say so, under which names, and what stands for
//! tokens that say nothing.

use super::caller::{Scope, Scopes};
use super::fault::AuthRefusal;
use super::file::{IssuerRecord, Names};
use super::token::Token;

/// Claims that are known to hold scopes, roles or permissions. Any other must have a namespace, so that a misspelt name
/// does not shut everybody out in silence.
const KNOWN_CLAIMS: [&str; 6] = ["scope", "scp", "roles", "role", "permissions", "groups"];

pub(super) struct TokenScopes {
    claims: Vec<String>,
    names: Vec<(String, Scopes)>,
    /// Of a token without any of the claims.
    grants: Scopes,
}

impl TokenScopes {
    /// As a record says, and `most` at most.
    ///
    /// # Errors
    /// What is wrong with the record.
    pub(super) fn new(record: &IssuerRecord, most: Scopes) -> Result<Self, String> {
        let is_claim = |name: &String| KNOWN_CLAIMS.contains(&name.as_str()) || name.contains([':', '/']);
        if record.scope_claims.is_empty() || !record.scope_claims.iter().all(is_claim) {
            let known = KNOWN_CLAIMS.map(|name| format!("`{name}`")).join(", ");
            return Err(format!(
                "`scope_claims` must be a list of {known}, or names such as `https://example.com/roles`"
            ));
        }
        if !record.scope_prefix.is_empty() && !record.scope_names.is_empty() {
            return Err("`scope_prefix` and `scope_names` say the same: keep `scope_names`".to_owned());
        }
        let mut names = Vec::new();
        for (name, meant) in &record.scope_names {
            if name.is_empty() || name.contains(' ') {
                return Err("`scope_names`: a name must have one letter or more, and no blanks".to_owned());
            }
            names.push((name.clone(), within("scope_names", meant.as_slice(), most)?));
        }
        if names.is_empty() {
            let own =
                |scope: Scope| (format!("{}{}", record.scope_prefix, scope.as_str()), Scopes::default().with(scope));
            names = most.iter().map(own).collect();
        }
        Ok(Self { claims: record.scope_claims.clone(), names, grants: within("grants", &record.grants, most)? })
    }

    /// The scopes of a token; names that mean nothing here are for somebody else.
    ///
    /// # Errors
    /// `Claims` when they cannot be read.
    pub(super) fn of(&self, token: &Token<'_>) -> Result<Scopes, AuthRefusal> {
        let claims: Vec<_> = self.claims.iter().map(String::as_str).collect();
        let claimed = token.named(&claims)?;
        if claimed.is_empty() {
            return Ok(self.grants);
        }
        let meant = |name: &str| self.names.iter().find(|(known, _)| known == name).map(|(_, scopes)| *scopes);
        Ok(words(&claimed).filter_map(meant).fold(Scopes::default(), Scopes::union))
    }

    /// The scopes of a token of our own endpoint.
    ///
    /// # Errors
    /// `Claims` when they cannot be read.
    pub(super) fn of_ours(token: &Token<'_>) -> Result<Scopes, AuthRefusal> {
        let claimed = token.named(&["scope"])?;
        Ok(words(&claimed).filter_map(Scope::parse).fold(Scopes::default(), Scopes::with))
    }
}

/// The names in claims, each of them text separated by blanks, or a list.
fn words(claims: &[Names]) -> impl Iterator<Item = &str> {
    claims.iter().flat_map(Names::as_slice).flat_map(|text| text.split(' '))
}

fn within(key: &str, names: &[String], most: Scopes) -> Result<Scopes, String> {
    let scopes = Scopes::parse(names.iter().map(String::as_str)).map_err(|err| format!("`{key}`: {err}"))?;
    if most.includes(scopes) {
        Ok(scopes)
    } else {
        Err(format!("`{key}` must stay within `scopes`, which is `{most}`: got `{scopes}`"))
    }
}

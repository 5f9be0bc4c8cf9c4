//! Who calls, and what they may do: scopes, a certificate's identity, and the caller both become.

use std::fmt;
use std::sync::Arc;

use super::fault::AuthFault;
use super::pace::Pace;

/// What a route asks for. A caller has any set of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Customer value and routing.
    Predict,
    /// Lead priorities.
    Leads,
    /// Outcomes and other facts told to the server.
    Events,
    /// The admin listener: models, outcomes, metrics.
    Admin,
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

/// The identity in a client certificate whose chain and revocation the TLS layer has checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerIdentity {
    /// The name the TLS layer found in the subject (its common name); empty when there is none to rely on.
    pub subject: String,
    /// Subject alternative names: DNS names, URIs, addresses.
    pub sans: Vec<String>,
}

/// How a caller proved who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    ApiKey,
    /// A token of our own endpoint.
    ClientToken,
    /// A token of an external issuer.
    IssuerToken,
    Certificate,
}

/// Somebody who proved who they are.
#[derive(Debug)]
pub struct Caller {
    name: String,
    proof: Proof,
    scopes: Scopes,
    pace: Arc<Pace>,
}

/// The names of a list that are no scopes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a scope; scopes are `predict`, `leads`, `events`, `admin`")]
pub struct UnknownScope(pub String);

impl Scope {
    pub const ALL: [Self; 4] = [Self::Predict, Self::Leads, Self::Events, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Leads => "leads",
            Self::Events => "events",
            Self::Admin => "admin",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Scopes {
    /// # Errors
    /// The first name that is not a scope.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownScope> {
        names.into_iter().try_fold(Self::default(), |scopes, name| {
            Scope::parse(name).map(|scope| scopes.with(scope)).ok_or_else(|| UnknownScope(name.to_owned()))
        })
    }

    #[must_use]
    pub fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    pub fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl fmt::Display for Scopes {
    /// Separated by spaces, as in a token response.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, scope) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Scope::as_str)).finish()
    }
}

impl Caller {
    pub(super) fn new(name: String, proof: Proof, scopes: Scopes, pace: Arc<Pace>) -> Self {
        Self { name, proof, scopes, pace }
    }

    /// A name that may be logged: chosen by the operator, never a secret, never a person's.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn proof(&self) -> Proof {
        self.proof
    }

    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// Takes one request of a route of this scope from the rate.
    ///
    /// # Errors
    /// `AuthFault::Forbidden` without the scope, `AuthFault::TooFast` above the rate.
    pub fn admit(&self, scope: Scope) -> Result<(), AuthFault> {
        if !self.scopes.contains(scope) {
            return Err(AuthFault::Forbidden(scope));
        }
        self.pace.take(scope).map_err(|retry_after| AuthFault::TooFast { retry_after })
    }

    pub(super) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_a_set_of_four_names() {
        let scopes = Scopes::parse(["leads", "predict"]).expect("scopes");
        assert!(scopes.contains(Scope::Predict) && scopes.contains(Scope::Leads));
        assert!(!scopes.contains(Scope::Admin) && !scopes.contains(Scope::Events));
        assert_eq!(scopes.to_string(), "predict leads");
        assert_eq!(Scopes::parse(["predict", "Leads"]), Err(UnknownScope("Leads".into())));
        assert_eq!(scopes.union(Scopes::default().with(Scope::Admin)).to_string(), "predict leads admin");
        assert!(scopes.includes(Scopes::default()) && !scopes.includes(Scopes::default().with(Scope::Admin)));
    }
}

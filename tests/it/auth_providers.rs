//! Tokens as identity providers really issue them: Entra ID in both of its versions and Auth0, with their claims for roles
//! and permissions.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use scoreline::auth::{AuthFault, Scope};
use serde_json::{Value, json};

use crate::auth_tokens::predict;
use crate::support::TestApp;
use crate::support::identity::{CredentialsFile, NOW, SigningKey, key_set};

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const APP: &str = "6e74172b-be56-4843-9ff4-e66a39bb12e3";
const CLIENT: &str = "d1f1b1f0-54e0-4a8e-9a39-4c3c5b0f7f11";

/// An issuer with its key and what its record says beside the usual.
struct Issuer<'a> {
    name: &'a str,
    iss: &'a str,
    audience: &'a str,
    keys: String,
    more: &'a str,
}

struct World {
    app: TestApp,
    _file: CredentialsFile,
}

impl World {
    async fn new(issuers: &[Issuer<'_>]) -> Self {
        let file = CredentialsFile::new("");
        let record = |issuer: &Issuer<'_>| {
            let Issuer { name, iss, audience, keys, more } = issuer;
            let keys = file.beside(&format!("{name}.json"), keys);
            format!(
                "[[issuer]]\nname = \"{name}\"\nissuer = \"{iss}\"\naudience = \"{audience}\"\n\
                 algorithms = [\"RS256\"]\njwks_file = \"{}\"\nscopes = [\"predict\", \"leads\"]\n{more}\n",
                keys.display()
            )
        };
        let records = issuers.iter().map(record).collect::<Vec<_>>().concat();
        file.write(&records);
        let app = TestApp::guarded(&file.settings());
        let auth = app.auth.clone().expect("on");
        auth.fetch_keys(Duration::from_secs(10), crate::auth_issuers::spawn).await;
        Self { app, _file: file }
    }

    /// The caller's name, or why there is none.
    fn check(&self, token: &str, scope: Scope) -> Result<String, AuthFault> {
        let header = format!("Bearer {token}");
        let caller = self.app.auth.as_ref().expect("on").check(Some(header.as_bytes()), None, scope);
        caller.map(|caller| caller.name().to_owned())
    }
}

/// A key set as Entra ID serves it: no `alg`, but certificates and members of its own.
fn entra_keys(key: &SigningKey) -> String {
    let mut jwk = key.jwk();
    let members = jwk.as_object_mut().expect("an object");
    members.remove("alg");
    members.extend([
        ("use".to_owned(), json!("sig")),
        ("x5t".to_owned(), json!(key.kid)),
        ("x5c".to_owned(), json!(["MIIC/TCCAeWgAwIBAgIIUd7j/OIahkYwDQYJKoZIhvcNAQELBQAwLTErMCkGA1UEAxMiYWNjb3VudHM"])),
        ("cloud_instance_name".to_owned(), json!("microsoftonline.com")),
        ("issuer".to_owned(), json!(format!("https://login.microsoftonline.com/{TENANT}/v2.0"))),
    ]);
    json!({ "keys": [jwk] }).to_string()
}

fn entra_v2_issuer() -> String {
    format!("https://login.microsoftonline.com/{TENANT}/v2.0")
}

fn entra_v1_issuer() -> String {
    format!("https://sts.windows.net/{TENANT}/")
}

/// An application's token of version 2.
fn entra_v2() -> Value {
    json!({
        "aud": APP, "iss": entra_v2_issuer(), "iat": NOW - 300, "nbf": NOW - 300, "exp": NOW + 3600,
        "aio": "k2RgYPjwY/2ZGWqTVk1aLfTwCAA=", "azp": CLIENT, "azpacr": "1", "oid": "5b3d5f0e-5d1f-4b0e-8a93-0d8c11d40c6a",
        "rh": "1.AQ8Av4j5cvGGr0GRqy180BHbR.", "roles": ["Scoreline.Predict"], "sub": "5b3d5f0e-5d1f-4b0e-8a93-0d8c11d40c6a",
        "tid": TENANT, "uti": "Nz1x2EoXCUeYRwlV9F8MAA", "ver": "2.0", "xms_ftd": "bm90IGEgc2VjcmV0"
    })
}

/// The same of version 1: another issuer, an address as audience, `appid`.
fn entra_v1() -> Value {
    json!({
        "aud": format!("api://{APP}"), "iss": entra_v1_issuer(), "iat": NOW - 300, "nbf": NOW - 300, "exp": NOW + 3600,
        "aio": "k2RgYPjwY/2ZGWqTVk1aLfTwCAA=", "appid": CLIENT, "appidacr": "1", "idp": entra_v1_issuer(),
        "oid": "5b3d5f0e-5d1f-4b0e-8a93-0d8c11d40c6a", "rh": "1.AQ8Av4j5cvGGr0GRqy180BHbR.",
        "roles": ["Scoreline.Predict"], "sub": "5b3d5f0e-5d1f-4b0e-8a93-0d8c11d40c6a", "tid": TENANT,
        "uti": "Nz1x2EoXCUeYRwlV9F8MAA", "ver": "1.0"
    })
}

/// A token of Auth0 for a machine, of an API with role-based access control.
fn auth0() -> Value {
    json!({
        "iss": "https://contact-centre.eu.auth0.com/", "sub": "Zy0Jb3XnJ9mF1eQvUqVZ5pC2d8wKxR4L@clients",
        "aud": "https://scoreline.example.com/", "iat": NOW - 60, "exp": NOW + 86_400, "gty": "client-credentials",
        "azp": "Zy0Jb3XnJ9mF1eQvUqVZ5pC2d8wKxR4L", "scope": "read:everything", "permissions": ["predict:scores"]
    })
}

fn but(mut claims: Value, changes: &[(&str, Value)]) -> Value {
    let members = claims.as_object_mut().expect("an object");
    for (name, value) in changes {
        members.remove(*name);
        if !value.is_null() {
            members.insert((*name).to_owned(), value.clone());
        }
    }
    claims
}

const ROLES: &str = "scope_claims = [\"roles\"]\nscope_names = { \"Scoreline.Predict\" = \"predict\", \
                     \"Scoreline.All\" = [\"predict\", \"leads\"] }";
const NO_PREDICT: Result<String, AuthFault> = Err(AuthFault::Forbidden(Scope::Predict));

#[tokio::test]
async fn tokens_of_entra_id_get_in_by_their_roles_in_both_versions() {
    let key = SigningKey::new("ntAq9tGv0rTXrLKMmJq9Rb0Yj3E", Algorithm::RS256);
    let (v1, v2, uri) = (entra_v1_issuer(), entra_v2_issuer(), format!("api://{APP}"));
    let world = World::new(&[
        Issuer { name: "entra", iss: &v2, audience: APP, keys: entra_keys(&key), more: ROLES },
        Issuer { name: "entra-v1", iss: &v1, audience: &uri, keys: entra_keys(&key), more: ROLES },
    ])
    .await;
    let header = json!({"typ": "JWT", "alg": "RS256", "x5t": key.kid, "kid": key.kid}).to_string();
    for (claims, record) in [(entra_v2(), "entra#"), (entra_v1(), "entra-v1#")] {
        let token = |changes: &[(&str, Value)]| key.token_with(&header, &but(claims.clone(), changes).to_string());
        let reply = predict(&world.app, format!("Bearer {}", token(&[])).as_bytes()).await;
        assert_eq!(reply.status, 200, "{record}: {}", reply.text);
        for (roles, scopes) in [
            (json!(["Scoreline.Predict"]), &[Scope::Predict][..]),
            (json!("Scoreline.Predict"), &[Scope::Predict]),
            (json!(["Scoreline.Predict", "Scoreline.Predict", "Else.Role"]), &[Scope::Predict]),
            (json!(["Scoreline.All"]), &[Scope::Predict, Scope::Leads]),
            (json!(["scoreline.predict"]), &[]),
            (json!(["predict", "admin"]), &[]),
            (json!([]), &[]),
            (Value::Null, &[]),
        ] {
            let token = token(&[("roles", roles.clone()), ("aud", json!(["other", claims["aud"]]))]);
            for scope in Scope::ALL {
                let said = world.check(&token, scope);
                if scopes.contains(&scope) {
                    assert!(said.as_ref().is_ok_and(|name| name.starts_with(record)), "{roles} {scope:?}: {said:?}");
                } else {
                    assert_eq!(said, Err(AuthFault::Forbidden(scope)), "{roles}");
                }
            }
        }
        // A scope of the delegated kind counts only where the record says so.
        let delegated = token(&[("roles", Value::Null), ("scp", json!("Scoreline.Predict"))]);
        assert_eq!(world.check(&delegated, Scope::Predict), NO_PREDICT);
    }
    // A version's issuer with the other's audience is somebody else's token.
    let mixed = key.token_with(&header, &but(entra_v1(), &[("aud", json!(APP))]).to_string());
    assert!(world.check(&mixed, Scope::Predict).is_err());
}

#[tokio::test]
async fn tokens_of_auth0_get_in_by_permissions_beside_or_instead_of_scope() {
    let key = SigningKey::new("kd9W3qT2yR5uL0pXcVbNm", Algorithm::RS256);
    let issuer = |more| Issuer {
        name: "auth0",
        iss: "https://contact-centre.eu.auth0.com/",
        audience: "https://scoreline.example.com/",
        keys: key_set(&[&key]),
        more,
    };
    let names = "scope_claims = [\"permissions\", \"scope\", \"https://example.com/roles\"]\n\
                 scope_names = { \"predict:scores\" = \"predict\", \"rank:leads\" = \"leads\" }";
    let world = World::new(&[issuer(names)]).await;
    let reply = predict(&world.app, format!("Bearer {}", key.token(&auth0())).as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    for (changes, leads, predicts) in [
        (&[][..], false, true),
        (&[("scope", Value::Null)], false, true),
        (&[("permissions", Value::Null), ("scope", json!("rank:leads predict:scores"))], true, true),
        // What both claims say counts.
        (&[("scope", json!("rank:leads"))], true, true),
        (&[("permissions", json!([])), ("scope", Value::Null)], false, false),
        (&[("permissions", Value::Null), ("https://example.com/roles", json!(["rank:leads"]))], true, false),
    ] {
        let token = key.token(&but(auth0(), changes));
        assert_eq!(world.check(&token, Scope::Leads).is_ok(), leads, "{changes:?}");
        assert_eq!(world.check(&token, Scope::Predict).is_ok(), predicts, "{changes:?}");
    }
    for wrong in [json!(7), json!({"predict:scores": true}), json!([["predict:scores"]])] {
        let token = key.token(&but(auth0(), &[("permissions", wrong.clone())]));
        let told = world.check(&token, Scope::Predict).expect_err("refused").to_string();
        assert!(told.contains("of another type"), "{wrong}: {told}");
    }
    let twice = auth0().to_string().replacen('{', "{\"permissions\":[\"rank:leads\"],", 1);
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": key.kid}).to_string();
    assert!(world.check(&key.token_with(&header, &twice), Scope::Predict).is_err(), "a claim that is there twice");

    // A record of today: our own names in `scope`, and other claims of any shape are somebody else's.
    let world = World::new(&[issuer("")]).await;
    let token = key.token(&but(auth0(), &[("scope", json!("predict")), ("permissions", json!({"odd": 1}))]));
    assert!(world.check(&token, Scope::Predict).is_ok());
    assert_eq!(world.check(&key.token(&auth0()), Scope::Predict), NO_PREDICT);
    let world = World::new(&[issuer("scope_prefix = \"predict:\"\n")]).await;
    let prefixed = |name: &str| key.token(&but(auth0(), &[("scope", json!(name))]));
    assert!(world.check(&prefixed("predict:predict predict:admin"), Scope::Predict).is_ok());
    assert!(world.check(&prefixed("predict:admin"), Scope::Admin).is_err(), "beyond the record's scopes");
    assert_eq!(world.check(&prefixed("predict"), Scope::Predict), NO_PREDICT);
}

#[tokio::test]
async fn a_token_without_a_claim_on_scopes_gets_what_its_record_grants_and_no_other_does() {
    let key = SigningKey::new("kd9W3qT2yR5uL0pXcVbNm", Algorithm::RS256);
    let iss = entra_v2_issuer();
    let more = format!("{ROLES}\ngrants = [\"predict\"]");
    let world =
        World::new(&[Issuer { name: "entra", iss: &iss, audience: APP, keys: entra_keys(&key), more: &more }]).await;
    let check = |roles: Value, scope| world.check(&key.token(&but(entra_v2(), &[("roles", roles)])), scope);
    assert!(check(Value::Null, Scope::Predict).is_ok());
    assert!(check(Value::Null, Scope::Leads).is_err());
    assert_eq!(check(json!([]), Scope::Predict), NO_PREDICT, "it says that there is none");
    assert_eq!(check(json!(["Else.Role"]), Scope::Predict), NO_PREDICT);
    assert!(check(json!(["Scoreline.All"]), Scope::Leads).is_ok());
}

#[tokio::test]
async fn callers_are_told_apart_by_their_client_where_there_is_no_subject() {
    let key = SigningKey::new("kd9W3qT2yR5uL0pXcVbNm", Algorithm::RS256);
    let iss = entra_v2_issuer();
    let world =
        World::new(&[Issuer { name: "entra", iss: &iss, audience: APP, keys: entra_keys(&key), more: ROLES }]).await;
    let nobody = [("sub", Value::Null), ("azp", Value::Null)];
    let name = |changes: &[(&str, Value)]| {
        let claims = but(but(entra_v2(), &nobody), changes);
        world.check(&key.token(&claims), Scope::Predict).expect("accepted")
    };
    let one = name(&[("sub", json!("client-1"))]);
    for claim in ["client_id", "azp", "appid"] {
        assert_eq!(name(&[(claim, json!("client-1"))]), one, "{claim}");
        assert_ne!(name(&[(claim, json!("client-2"))]), one, "{claim}");
    }
    assert_eq!(name(&[("sub", json!("client-1")), ("azp", json!("client-2"))]), one, "a subject comes first");
    let long = key.token(&but(but(entra_v2(), &nobody), &[("azp", json!("x".repeat(600)))]));
    assert!(world.check(&long, Scope::Predict).is_err());
}

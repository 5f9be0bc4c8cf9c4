//! Tokens of an external issuer: a table of bad ones, each refused with 401 over the real router, and a thousand good ones.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use scoreline_domain::time::Stopwatch;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::identity::{
    AUDIENCE, CredentialsFile, ISSUER, NOW, SigningKey, claims, claims_but, issuer_record, key_set, name, signed,
};
use crate::support::test_app::Reply;

const BODY: &str = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;

struct Party {
    app: TestApp,
    _file: CredentialsFile,
    rsa: SigningKey,
    ec: SigningKey,
    ed: SigningKey,
}

/// An app that takes the tokens of three keys, and knows a fourth.
async fn party() -> Party {
    let rsa = SigningKey::new("rsa-1", Algorithm::RS256);
    let ec = SigningKey::new("ec-1", Algorithm::ES256);
    let ed = SigningKey::new("ed-1", Algorithm::EdDSA);
    let other = SigningKey::new("ec-2", Algorithm::ES256);
    let file = CredentialsFile::new("");
    let keys = file.beside("keys.json", &key_set(&[&rsa, &ec, &ed, &other]));
    file.write(&issuer_record(&format!("jwks_file = \"{}\"", keys.display())));
    let app = TestApp::guarded(&file.settings());
    let auth = app.auth.clone().expect("on");
    auth.fetch_keys(Duration::from_secs(10), crate::auth_issuers::spawn).await;
    Party { app, _file: file, rsa, ec, ed }
}

pub async fn predict(app: &TestApp, authorization: &[u8]) -> Reply {
    let value = HeaderValue::from_bytes(authorization).expect("bytes a header may have");
    let request = Request::post("/v1/predict/clv").header("authorization", value);
    app.send(request.body(Body::from(BODY)).expect("a request")).await
}

fn bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}

fn flip(token: &str, position: usize) -> String {
    let mut bytes = token.as_bytes().to_vec();
    bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).expect("ASCII")
}

fn head(algorithm: &str, kid: &str) -> String {
    json!({"alg": algorithm, "typ": "JWT", "kid": kid}).to_string()
}

/// Every bad token there is a name for.
#[expect(clippy::too_many_lines, reason = "a table")]
fn bad(party: &Party) -> Vec<(String, Vec<u8>)> {
    let Party { rsa, ec, ed, .. } = party;
    let good = rsa.token(&claims());
    let text = claims().to_string();
    let parts: Vec<&str> = good.split('.').collect();
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let mut table: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, header: Vec<u8>| table.push((name.to_owned(), header));

    // Headers that are no bearer token.
    add("nothing", b"".to_vec());
    add("scheme only", b"Bearer".to_vec());
    add("scheme and space", b"Bearer ".to_vec());
    add("blanks only", b"Bearer   ".to_vec());
    add("no scheme", good.clone().into_bytes());
    add("other scheme", format!("Token {good}").into_bytes());
    add("basic", format!("Basic {}", STANDARD.encode("user:secret")).into_bytes());
    add("two tokens", format!("Bearer {good} {good}").into_bytes());
    add("a list", format!("Bearer {good}, Bearer {good}").into_bytes());
    add("quoted", format!("Bearer \"{good}\"").into_bytes());
    add("not UTF-8", b"Bearer \xff\xfe\xfd".to_vec());
    add("UTF-8 that is no token", "Bearer töken".as_bytes().to_vec());
    add("a tab", format!("Bearer\t{good}").into_bytes());
    add("a blank and a tab", format!("Bearer \t{good}").into_bytes());
    add("a tab and a blank", format!("Bearer\t {good}").into_bytes());
    add("no blank", format!("Bearer{good}").into_bytes());
    add("huge", bearer(&"a".repeat(9000)));
    add("huge and signed", bearer(&rsa.token(&claims_but("sub", json!("x".repeat(8000))))));
    add("megabyte", bearer(&"a.".repeat(500_000)));

    // Forms.
    add("one part", bearer("abc"));
    add("two parts", bearer(message));
    add("four parts", bearer(&format!("{good}.x")));
    add("five parts, encrypted", bearer(&format!("{good}.x.y")));
    add("dots", bearer("..."));
    add("no signature", bearer(&format!("{message}.")));
    add("no claims", bearer(&format!("{}..{signature}", parts[0])));
    add("no header", bearer(&format!(".{}.{signature}", parts[1])));
    add("truncated", bearer(&good[..good.len() - 8]));
    add("padded", bearer(&format!("{good}==")));
    add(
        "standard base64",
        bearer(&format!("{}.{}.{signature}", STANDARD.encode(head("RS256", "rsa-1") + " "), parts[1])),
    );
    add("header is a list", bearer(&rsa.token_with(r#"["RS256","rsa-1"]"#, &text)));
    add("claims are a list", bearer(&rsa.token_with(&head("RS256", "rsa-1"), r#"["a"]"#)));
    add("claims are text", bearer(&rsa.token_with(&head("RS256", "rsa-1"), "\"claims\"")));
    add("claims are not JSON", bearer(&rsa.token_with(&head("RS256", "rsa-1"), "{iss}")));
    add("claims with something behind", bearer(&rsa.token_with(&head("RS256", "rsa-1"), &format!("{text}{text}"))));
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(2000), "]".repeat(2000));
    add("nested arrays", bearer(&rsa.token_with(&head("RS256", "rsa-1"), &deep)));
    add("unknown typ", bearer(&rsa.token_with(r#"{"alg":"RS256","typ":"id+jwt","kid":"rsa-1"}"#, &text)));
    add(
        "critical extension",
        bearer(&rsa.token_with(r#"{"alg":"RS256","kid":"rsa-1","crit":["b64"],"b64":false}"#, &text)),
    );
    add("critical is null", bearer(&rsa.token_with(r#"{"alg":"RS256","kid":"rsa-1","crit":null}"#, &text)));

    // Algorithms.
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(head(none, "rsa-1")), parts[1]);
        add(&format!("alg `{none}`, no signature"), bearer(&unsigned));
        add(&format!("alg `{none}`, old signature"), bearer(&format!("{unsigned}{signature}")));
    }
    add("no alg", bearer(&rsa.token_with(r#"{"kid":"rsa-1"}"#, &text)));
    add("alg is a list", bearer(&rsa.token_with(r#"{"alg":["RS256"],"kid":"rsa-1"}"#, &text)));
    add("alg in small letters", bearer(&rsa.token_with(&head("rs256", "rsa-1"), &text)));
    add("alg with a blank", bearer(&rsa.token_with(&head("RS256 ", "rsa-1"), &text)));
    add("alg twice", bearer(&rsa.token_with(r#"{"alg":"RS256","alg":"RS256","kid":"rsa-1"}"#, &text)));
    let pem = rsa.public_pem();
    let n = rsa.jwk()["n"].as_str().expect("a modulus").to_owned();
    let secrets: [(&str, Vec<u8>); 5] = [
        ("the public key in PEM", pem.clone().into_bytes()),
        ("the public key in PEM without the last newline", pem.trim_end().as_bytes().to_vec()),
        ("the modulus", URL_SAFE_NO_PAD.decode(&n).expect("base64")),
        ("the key as JWK", rsa.jwk().to_string().into_bytes()),
        ("an empty secret", Vec::new()),
    ];
    for (what, secret) in secrets {
        for (kid, algorithm) in [("rsa-1", Algorithm::HS256), ("rsa-1", Algorithm::HS512)] {
            let key = EncodingKey::from_secret(&secret);
            let token = signed(&head(&name(algorithm), kid), &text, &key, algorithm);
            add(&format!("{algorithm:?} with {what}"), bearer(&token));
        }
    }
    add("RS512 that is not allowed", bearer(&signed(&head("RS512", "rsa-1"), &text, &rsa.key, Algorithm::RS512)));
    add("PS256 that is not allowed", bearer(&signed(&head("PS256", "rsa-1"), &text, &rsa.key, Algorithm::PS256)));
    add("RS256 signature named ES256", bearer(&rsa.token_with(&head("ES256", "rsa-1"), &text)));
    add("RS256 signature under an EC key", bearer(&rsa.token_with(&head("RS256", "ec-1"), &text)));
    add("EdDSA signature under an EC key", bearer(&ed.token_with(&head("EdDSA", "ec-1"), &text)));
    add("ES256 named ES384", bearer(&ec.token_with(&head("ES384", "ec-1"), &text)));

    // Keys.
    let thief = SigningKey::new("rsa-1", Algorithm::EdDSA);
    add("no kid and several keys that fit", bearer(&ec.token_with(r#"{"alg":"ES256"}"#, &text)));
    add("no kid and another's key", bearer(&thief.token_with(r#"{"alg":"EdDSA"}"#, &text)));
    for kid in
        ["", "rsa-2", "RSA-1", "rsa-1 ", "../rsa-1", "/dev/null", "rsa-1' OR '1'='1", "https://evil.example/k", "ec-1"]
    {
        add(&format!("kid `{kid}`"), bearer(&rsa.token_with(&head("RS256", kid), &text)));
    }
    add("kid with a zero byte", bearer(&rsa.token_with(r#"{"alg":"RS256","kid":"rsa-1\u0000"}"#, &text)));
    add("kid is a number", bearer(&rsa.token_with(r#"{"alg":"RS256","kid":1}"#, &text)));
    add("kid is null", bearer(&rsa.token_with(r#"{"alg":"RS256","kid":null}"#, &text)));
    add("kid twice", bearer(&rsa.token_with(r#"{"alg":"RS256","kid":"rsa-1","kid":"ec-1"}"#, &text)));
    add("kid without end", bearer(&rsa.token_with(&head("RS256", &"k".repeat(4000)), &text)));
    let own = |member: &str, value: Value| {
        let mut header = json!({"alg": "EdDSA", "kid": "ed-1"});
        header[member] = value;
        bearer(&thief.token_with(&header.to_string(), &text))
    };
    add("jwk in the header", own("jwk", thief.jwk()));
    add("jku in the header", own("jku", json!("https://evil.example/keys")));
    add("x5u in the header", own("x5u", json!("https://evil.example/cert")));
    add("x5c in the header", own("x5c", json!(["MIIB"])));
    add("another's key", bearer(&thief.token_with(&head("EdDSA", "ed-1"), &text)));

    // Signatures.
    add(
        "signature of another token",
        bearer(&{
            let other = rsa.token(&claims_but("sub", json!("other")));
            format!("{message}.{}", other.rsplit_once('.').expect("three parts").1)
        }),
    );
    add("signature flipped", bearer(&flip(&good, good.len() - 40)));
    add("claims flipped", bearer(&flip(&good, parts[0].len() + 30)));
    add("header flipped", bearer(&flip(&good, 20)));
    add("signature of zeros", bearer(&format!("{message}.{}", URL_SAFE_NO_PAD.encode([0_u8; 256]))));
    let ec_good = ec.token(&claims());
    let (ec_message, _) = ec_good.rsplit_once('.').expect("three parts");
    add("ECDSA of zeros", bearer(&format!("{ec_message}.{}", URL_SAFE_NO_PAD.encode([0_u8; 64]))));
    add(
        "claims of one, signature of another",
        bearer(&{
            let admin = URL_SAFE_NO_PAD.encode(claims_but("scope", json!("admin predict")).to_string());
            format!("{}.{admin}.{signature}", parts[0])
        }),
    );

    // Claims, all well signed.
    let mut claim = |name: &str, what: &str, value: Value| {
        table.push((format!("{name} {what}"), bearer(&rsa.token(&claims_but(name, value)))));
    };
    for required in ["exp", "iss", "aud"] {
        claim(required, "is missing", Value::Null);
        claim(required, "is an object", json!({"value": 1}));
        claim(required, "is a nested list", json!([[AUDIENCE]]));
        claim(required, "is true", json!(true));
    }
    claim("exp", "is text", json!((NOW + 3600).to_string()));
    claim("exp", "is a list", json!([NOW + 3600]));
    claim("exp", "is over", json!(NOW - 31));
    claim("exp", "is long over", json!(1));
    claim("exp", "is 0", json!(0));
    claim("exp", "is negative", json!(-1));
    claim("exp", "is minus a lot", json!(-1e300));
    claim("nbf", "is text", json!((NOW - 10).to_string()));
    claim("nbf", "is in the future", json!(NOW + 31));
    claim("nbf", "is far in the future", json!(1e18));
    claim("nbf", "is a list", json!([0]));
    claim("iat", "is in the future", json!(NOW + 31));
    claim("iat", "is text", json!("now"));
    claim("iss", "is another", json!("https://login.example.org/"));
    claim("iss", "has no slash at the end", json!(ISSUER.trim_end_matches('/')));
    claim("iss", "is in capitals", json!(ISSUER.to_uppercase()));
    claim("iss", "is a list", json!([ISSUER]));
    claim("iss", "is empty", json!(""));
    claim("iss", "is ourselves", json!("scoreline"));
    claim("iss", "is a number", json!(7));
    claim("aud", "is another", json!("other-api"));
    claim("aud", "is part of ours", json!("scoreline"));
    claim("aud", "is an empty list", json!([]));
    claim("aud", "is a list of others", json!(["a", "b"]));
    claim("aud", "is a list with a number", json!([AUDIENCE, 7]));
    claim("aud", "is empty", json!(""));
    claim("sub", "is a number", json!(7));
    claim("scope", "is a number", json!(7));
    claim("scope", "is an object", json!({"predict": true}));
    claim("scope", "is a nested list", json!([["predict"]]));

    let mut written = |what: &str, claims: String| {
        table.push((what.to_owned(), bearer(&rsa.token_with(&head("RS256", "rsa-1"), &claims))));
    };
    let with = |member: &str| format!("{},{member}}}", &text[..text.len() - 1]);
    for twice in [
        format!("\"exp\":{}", NOW + 7200),
        format!("\"iss\":\"{ISSUER}\""),
        format!("\"aud\":\"{AUDIENCE}\""),
        "\"scope\":\"admin\"".to_owned(),
        "\"nbf\":1".to_owned(),
        "\"sub\":\"other\"".to_owned(),
    ] {
        written(&format!("{twice} twice"), with(&twice));
    }
    written("exp is null", text.replace(&format!("\"exp\":{}", NOW + 3600), "\"exp\":null"));
    written("nbf is null", text.replace(&format!("\"nbf\":{}", NOW - 10), "\"nbf\":null"));
    written("exp is beyond numbers", text.replace(&format!("\"exp\":{}", NOW + 3600), "\"exp\":1e999"));
    written("exp is NaN", text.replace(&format!("\"exp\":{}", NOW + 3600), "\"exp\":NaN"));
    written("empty object", "{}".to_owned());

    // API keys.
    for key in ["sk_", "sk__", "sk_a", "sk_a_", "sk_unknown_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "SK_a_b"] {
        table.push((format!("API key `{key}`"), bearer(key)));
    }
    table
}

#[tokio::test]
async fn every_bad_token_is_refused_with_401() {
    let party = party().await;
    let good = party.rsa.token(&claims());
    assert_eq!(predict(&party.app, &bearer(&good)).await.status, 200, "the table is made from a good one");
    let table = bad(&party);
    assert!(table.len() >= 64, "{} bad tokens", table.len());
    let mut times = Vec::new();
    for (name, authorization) in &table {
        let began = Stopwatch::start();
        let reply = predict(&party.app, authorization).await;
        times.push(began.elapsed());
        assert_eq!(reply.status, 401, "{name}: {}", reply.text);
        let body = reply.json();
        assert_eq!(body["error"]["code"], "unauthenticated", "{name}");
        let challenge = reply.headers["www-authenticate"].to_str().expect("text");
        assert!(challenge.starts_with("Bearer"), "{name}: {challenge}");
        // What was presented does not come back.
        let presented = String::from_utf8_lossy(authorization);
        let token = presented.rsplit(' ').next().unwrap_or_default();
        assert!(token.len() < 12 || !reply.text.contains(token), "{name}");
    }
    times.sort();
    println!(
        "{} bad tokens refused, median {:?}, slowest {:?}",
        table.len(),
        times[times.len() / 2],
        times[times.len() - 1]
    );
    assert_eq!(predict(&party.app, &bearer(&good)).await.status, 200);
}

#[tokio::test]
async fn a_thousand_good_tokens_are_accepted() {
    let party = party().await;
    let scopes = [
        json!("predict"),
        json!("openid predict leads"),
        json!(["predict"]),
        json!(["events", "predict admin"]),
        json!("predict predict"),
    ];
    let audiences = [json!(AUDIENCE), json!([AUDIENCE]), json!(["other", AUDIENCE])];
    let expiries = [json!(NOW + 3600), json!(NOW - 29), json!(NOW as f64 + 0.5), json!(1e12)];
    for number in 0..1000_usize {
        // RSA signing is the slow part: one in ten is enough of it.
        let key = match number % 10 {
            0 => &party.rsa,
            odd if odd % 2 == 1 => &party.ec,
            _ => &party.ed,
        };
        let mut claims = claims();
        claims["sub"] = json!(format!("client-{number}"));
        claims["aud"] = audiences[number % audiences.len()].clone();
        claims["exp"] = expiries[number % expiries.len()].clone();
        claims["unknown"] = json!({"of": ["no", "meaning"], "aud": "x"});
        let scope = if number % 7 == 0 { "scp" } else { "scope" };
        claims.as_object_mut().expect("an object").remove("scope");
        claims[scope] = scopes[number % scopes.len()].clone();
        if number % 3 == 0 {
            claims.as_object_mut().expect("an object").remove("nbf");
        } else {
            claims["nbf"] = json!(NOW + 29);
        }
        // One blank or more, says RFC 9110.
        let scheme = ["Bearer ", "bearer  ", "BEARER     "][number % 3];
        let reply = predict(&party.app, format!("{scheme}{}", key.token(&claims)).as_bytes()).await;
        assert_eq!(reply.status, 200, "{number}: {claims}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_token_without_a_key_id_is_taken_by_the_only_key_that_fits() {
    let party = party().await;
    for (key, algorithm) in [(&party.rsa, "RS256"), (&party.ed, "EdDSA")] {
        let token = key.token_with(&json!({ "alg": algorithm }).to_string(), &claims().to_string());
        let reply = predict(&party.app, &bearer(&token)).await;
        assert_eq!(reply.status, 200, "{algorithm}: {}", reply.text);
    }
    let token = party.ec.token_with(r#"{"alg":"ES256"}"#, &claims().to_string());
    let reply = predict(&party.app, &bearer(&token)).await;
    assert_eq!(reply.status, 401, "two keys fit");
    assert!(reply.text.contains("must name its key"), "{}", reply.text);
}

#[tokio::test]
async fn a_token_ends_on_time_though_it_was_verified_a_moment_ago() {
    let party = party().await;
    let token = bearer(&party.ed.token(&claims_but("exp", json!(NOW + 5))));
    assert_eq!(predict(&party.app, &token).await.status, 200);
    party.app.clock.advance(Duration::from_secs(34));
    assert_eq!(predict(&party.app, &token).await.status, 200, "30 s of leeway");
    party.app.clock.advance(Duration::from_secs(2));
    let reply = predict(&party.app, &token).await;
    assert_eq!(reply.status, 401);
    assert!(reply.text.contains("expired"), "{}", reply.text);
    assert_eq!(reply.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
}

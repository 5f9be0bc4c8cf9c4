//! An identity provider: keys, tokens, and a server for its key set that can be made to fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use scoreline::auth::{AuthSettings, Rate, Rates};
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2026-11-21T10:00:00Z, where `TestApp`'s clock begins.
pub const NOW: i64 = 1_795_255_200;
pub const ISSUER: &str = "https://login.example.com/";
pub const AUDIENCE: &str = "scoreline-api";

/// A private key with its id.
pub struct SigningKey {
    pub kid: String,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    pair: KeyPair,
}

impl SigningKey {
    pub fn new(kid: &str, algorithm: Algorithm) -> Self {
        let kind = if algorithm == Algorithm::ES256 {
            &PKCS_ECDSA_P256_SHA256
        } else if algorithm == Algorithm::ES384 {
            &PKCS_ECDSA_P384_SHA384
        } else if algorithm == Algorithm::EdDSA {
            &PKCS_ED25519
        } else {
            &PKCS_RSA_SHA256
        };
        let pair = KeyPair::generate_for(kind).expect("a key");
        let pem = pair.serialize_pem();
        let key = if [Algorithm::ES256, Algorithm::ES384].contains(&algorithm) {
            EncodingKey::from_ec_pem(pem.as_bytes())
        } else if algorithm == Algorithm::EdDSA {
            EncodingKey::from_ed_pem(pem.as_bytes())
        } else {
            EncodingKey::from_rsa_pem(pem.as_bytes())
        };
        let key = key.expect("a key in PEM");
        Self { kid: kid.to_owned(), algorithm, key, pair }
    }

    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// The public half.
    pub fn jwk(&self) -> Value {
        if self.algorithm == Algorithm::EdDSA {
            let x = URL_SAFE_NO_PAD.encode(self.pair.public_key_raw());
            return json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x});
        }
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public key");
        jwk.common.key_id = Some(self.kid.clone());
        serde_json::to_value(jwk).expect("JSON")
    }

    pub fn token(&self, claims: &Value) -> String {
        self.token_with(
            &json!({"alg": name(self.algorithm), "typ": "JWT", "kid": self.kid}).to_string(),
            &claims.to_string(),
        )
    }

    /// A token of exactly this text, signed.
    pub fn token_with(&self, header: &str, claims: &str) -> String {
        signed(header, claims, &self.key, self.algorithm)
    }
}

pub fn name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

/// A token of exactly this text, signed.
pub fn signed(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).expect("signed");
    format!("{message}.{signature}")
}

/// Claims that are accepted.
pub fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 3600, "nbf": NOW - 10, "iat": NOW - 10, "sub": "client-7",
        "scope": "predict"})
}

/// `claims` with one of them other; `null` takes it out.
pub fn claims_but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().expect("an object").remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

pub fn key_set(keys: &[&SigningKey]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

/// A credentials file in a folder of its own.
pub struct CredentialsFile {
    folder: TempDir,
}

impl CredentialsFile {
    pub fn new(text: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().expect("temporary folder") };
        file.write(text);
        file
    }

    /// `version = 1` stands before `text`.
    pub fn write(&self, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let beside = self.folder.path().join("next");
        std::fs::write(&beside, format!("version = 1\n{text}")).expect("written");
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).expect("private");
        std::fs::rename(beside, self.path()).expect("renamed");
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("credentials.toml")
    }

    /// Another file of the same folder.
    pub fn beside(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    pub fn settings(&self) -> AuthSettings {
        let rate = Rate { per_second: 0, burst: 1 };
        AuthSettings {
            credentials_file: Some(self.path()),
            token_key_file: None,
            token_ttl: Duration::from_mins(15),
            rates: Rates { predict: rate, leads: rate },
        }
    }
}

/// The record of our issuer; `source` is its `jwks_url` or `jwks_file` line.
pub fn issuer_record(source: &str) -> String {
    format!(
        "[[issuer]]\nname = \"test\"\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\n\
         algorithms = [\"RS256\", \"ES256\", \"ES384\", \"EdDSA\"]\n{source}\n\
         scopes = [\"predict\", \"leads\", \"events\", \"admin\"]\n"
    )
}

/// How the provider answers.
#[derive(Clone, Debug)]
pub enum Answer {
    KeySet(String),
    Status(u16),
    Redirect(String),
    Hang,
    Close,
}

/// The provider's server: one thread, one answer at a time, connections that hang are kept.
pub struct Provider {
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    pub fn new(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, count) = (Arc::clone(&answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answers.lock().expect("no panic").clone();
                if let Some(stream) = respond(stream, &answer) {
                    hanging.push(stream);
                }
            }
        });
        Self { address, answer, asked }
    }

    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().expect("no panic") = answer;
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn record(&self) -> String {
        issuer_record(&format!("jwks_url = \"http://{}/keys\"", self.address))
    }
}

fn respond(mut stream: TcpStream, answer: &Answer) -> Option<TcpStream> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let reply = match answer {
        Answer::Hang => return Some(stream),
        Answer::Close => return None,
        Answer::Status(status) => format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        Answer::Redirect(to) => {
            format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        }
        Answer::KeySet(text) => {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len())
        }
    };
    // Whoever asked may be gone.
    let _ = stream.write_all(reply.as_bytes());
    None
}

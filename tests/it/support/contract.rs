//! What the OpenAPI document of a listener says, held against every reply that a test gets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, Method, StatusCode};
use jsonschema::{Draft, Validator};
use serde_json::Value;

/// A document, and a validator for each of its schemas that was needed so far.
pub struct Contract {
    pub document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Contract {
    pub fn new(document: Value) -> Self {
        Self { document, validators: Mutex::default() }
    }

    /// The path of the document that a request's path is one of: one without placeholders first.
    pub fn path(&self, path: &str) -> Option<&str> {
        let paths = self.document["paths"].as_object().expect("paths").keys();
        let fits = |known: &&String| {
            let (known, asked): (Vec<_>, Vec<_>) = (known.split('/').collect(), path.split('/').collect());
            let is_part =
                |(known, asked): (&&str, &&str)| known.starts_with('{') && !asked.is_empty() || known == asked;
            known.len() == asked.len() && known.iter().zip(&asked).all(is_part)
        };
        paths.filter(fits).min_by_key(|known| known.matches('{').count()).map(String::as_str)
    }

    /// Fails where a reply is none that the document knows.
    pub fn check(&self, method: &Method, path: &str, status: StatusCode, headers: &HeaderMap, text: &str) {
        let said = || format!("{method} {path} -> {status} {text}");
        assert!(headers.contains_key("x-request-id"), "{}", said());
        // What is not in the document is no route; who asks for it is told so in the shape of errors.
        let Some(known) = self.path(path) else { return };
        // A page is asked for its head as for itself.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let operation = &self.document["paths"][known][method.as_str().to_ascii_lowercase()];
        if operation.is_null() {
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{}", said());
            return;
        }
        let mut response = &operation["responses"][status.as_str()];
        assert!(!response.is_null(), "the document does not know this status: {}", said());
        if let Some(reference) = response["$ref"].as_str() {
            response = self.document.pointer(&reference[1..]).expect("a reference leads somewhere");
        }
        let content = response["content"].as_object();
        let kind =
            headers.get("content-type").map(|kind| kind.to_str().expect("text").split(';').next().expect("a part"));
        match (content, kind) {
            (None, _) => assert!(text.is_empty(), "the document knows no body: {}", said()),
            (Some(_), None) => assert!(text.is_empty(), "there is no content type: {}", said()),
            (Some(content), Some(kind)) => {
                let kind =
                    content.get(kind).unwrap_or_else(|| panic!("the document does not know `{kind}`: {}", said()));
                // Of others, the document says that they are text.
                if let Ok(body) = serde_json::from_str::<Value>(text)
                    && kind["schema"]["type"] != "string"
                {
                    let faults: Vec<_> =
                        self.validator(&kind["schema"]).iter_errors(&body).map(|fault| fault.to_string()).collect();
                    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), said());
                }
            }
        }
    }

    /// Of a schema of the document.
    pub fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().expect("no panic while one is made");
        let new = || {
            let mut whole = schema.clone();
            whole["components"] = self.document["components"].clone();
            let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
            Arc::new(options.build(&whole).expect("a schema"))
        };
        Arc::clone(validators.entry(schema.to_string()).or_insert_with(new))
    }
}

//! The OpenAPI documents of the listeners as they were made last. Making one takes longer than a prediction, and it changes
//! only when another version serves.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderValue;
use bytes::Bytes;

/// Those of both listeners. Cheap to clone.
#[derive(Clone, Default)]
pub struct Documents {
    pub(super) public: LastDocument,
    pub(super) admin: LastDocument,
}

/// A document, and what it was made of.
#[derive(Clone, Default)]
pub(super) struct LastDocument(Arc<Mutex<Option<MadeDocument>>>);

type MadeDocument = (Vec<String>, Document);

/// A document as it is sent.
#[derive(Clone)]
pub(super) struct Document {
    pub body: Bytes,
    pub etag: HeaderValue,
}

impl LastDocument {
    /// The document of what it is made of now. Who asks while it is made waits.
    pub(super) fn of(&self, made_of: Vec<String>, make: impl FnOnce() -> Document) -> Document {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, document)) if *of == made_of => document.clone(),
            Some(_) | None => {
                let document = make();
                *last = Some((made_of, document.clone()));
                document
            }
        }
    }
}

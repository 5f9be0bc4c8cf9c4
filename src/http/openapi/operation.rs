//! What one route takes and gives.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::glossary::explain;
use crate::http::edge::error::{Code, InferenceErrorBody};
use crate::http::edge::headers::DEADLINE;

/// What a route is about, for people who look for one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Tag {
    Customers,
    Leads,
    DataActions,
    Inference,
    Facts,
    Server,
    Administration,
}

impl Tag {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Customers => "customers",
            Self::Leads => "leads",
            Self::DataActions => "data actions",
            Self::Inference => "inference protocol",
            Self::Facts => "facts",
            Self::Server => "server",
            Self::Administration => "administration",
        }
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Customers => "What customers are worth, and where they are routed to.",
            Self::Leads => "Which lead to call next.",
            Self::DataActions => "Flat scalars in, flat scalars out, and HTTP 200 with what a flow can go on with.",
            Self::Inference => "The Open Inference Protocol, for clients of model servers.",
            Self::Facts => "What really happened.",
            Self::Server => "Health, tokens, pages and this document.",
            Self::Administration => "Models, jobs and what waits to be written.",
        }
    }
}

/// What one route takes and gives.
pub(crate) struct Operation {
    id: &'static str,
    pub(super) tag: Tag,
    summary: &'static str,
    description: Cow<'static, str>,
    parameters: Vec<Value>,
    body: Option<Value>,
    /// By status.
    responses: BTreeMap<u16, Value>,
    codes: Vec<Code>,
    /// The schema of its errors and their statuses, where they are not those of all.
    error: Option<(Value, StatusOf)>,
    schemas: Schemas,
}

/// The status that an error is answered with.
type StatusOf = fn(Code) -> StatusCode;

impl Operation {
    pub(crate) fn new(tag: Tag, id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            description: Cow::Borrowed(""),
            parameters: Vec::new(),
            body: None,
            responses: BTreeMap::new(),
            codes: Vec::new(),
            error: None,
            schemas: Schemas::default(),
        }
    }

    pub(crate) fn about(mut self, description: impl Into<Cow<'static, str>>) -> Self {
        self.description = description.into();
        self
    }

    /// A part of the path.
    pub(crate) fn at(mut self, name: &'static str, meaning: &'static str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": meaning,
            "schema": {"type": "string", "minLength": 1, "maxLength": 256},
        }));
        self
    }

    /// A field of the query.
    pub(crate) fn asks(mut self, name: &'static str, meaning: &'static str, schema: &Value) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "query", "required": false, "description": meaning, "schema": schema,
        }));
        self
    }

    /// The caller may say how long they wait.
    pub(crate) fn in_time(mut self) -> Self {
        self.parameters.push(json!({
            "name": DEADLINE.as_str(), "in": "header", "required": false,
            "description": "Milliseconds that the caller waits. Lowers `scoring.deadline`, never raises it.",
            "schema": {"type": "integer", "minimum": 1, "maximum": u32::MAX},
        }));
        self
    }

    /// One JSON object.
    pub(crate) fn takes<T: ToSchema>(self, example: &Value) -> Self {
        self.takes_any(Schemas::request::<T>, example)
    }

    /// As `takes`, described by hand.
    pub(crate) fn takes_any(mut self, schema: impl FnOnce(&mut Schemas) -> Value, example: &Value) -> Self {
        let schema = schema(&mut self.schemas);
        self.body = Some(json!({
            "required": true, "content": {"application/json": {"schema": schema, "example": example}},
        }));
        self.refuses(&BODY)
    }

    /// A flat object of scalars, under the name of its schema. Those that are known by name; features stand beside them, and
    /// any other is passed over with a warning.
    pub(crate) fn takes_scalars(self, name: &'static str, known: &[&'static str], example: &Value) -> Self {
        let scalar = json!({"type": ["string", "number", "boolean", "null"]});
        let properties: Map<String, Value> = known.iter().map(|known| ((*known).to_owned(), scalar.clone())).collect();
        let schema = json!({"type": "object", "properties": properties, "additionalProperties": true});
        self.takes_any(|schemas| schemas.named(name, schema), example)
    }

    /// Rows as a JSON array or as NDJSON, or one of them alone where `alone`.
    pub(crate) fn takes_rows<T: ToSchema>(self, alone: bool, example: &Value) -> Self {
        self.takes_rows_of(Schemas::request::<T>, alone, example)
    }

    /// As `takes_rows`, described by hand.
    pub(crate) fn takes_rows_of(
        mut self,
        row: impl FnOnce(&mut Schemas) -> Value,
        alone: bool,
        example: &Value,
    ) -> Self {
        let row = row(&mut self.schemas);
        let rows = json!({"type": "array", "items": row});
        let (schema, shown) =
            if alone { (json!({"anyOf": [row, rows]}), example.clone()) } else { (rows, json!([example])) };
        let lines = json!({
            "schema": {"type": "string", "description": "One object a line."}, "example": example.to_string(),
        });
        self.body = Some(json!({
            "required": true,
            "content": {"application/json": {"schema": schema, "example": shown}, "application/x-ndjson": lines},
        }));
        self.refuses(&BODY).refuses(&[Code::TooManyRows])
    }

    /// The fields of a form.
    pub(crate) fn takes_form(mut self, schema: &Value) -> Self {
        self.body = Some(json!({
            "required": true, "content": {"application/x-www-form-urlencoded": {"schema": schema}},
        }));
        self.refuses(&BODY)
    }

    /// JSON under a status. Several under one are told apart by what they hold.
    pub(crate) fn gives<T: ToSchema>(self, status: StatusCode, meaning: &'static str) -> Self {
        self.gives_as::<T>(&T::name(), status, meaning)
    }

    /// As `gives`, under a name: what is made for several types has one for each of them.
    pub(crate) fn gives_as<T: ToSchema>(mut self, name: &str, status: StatusCode, meaning: &'static str) -> Self {
        let schema = self.schemas.response::<T>(name);
        let content = &mut self.response(status, meaning)["content"]["application/json"]["schema"];
        if let Some(any) = content.get_mut("anyOf").and_then(Value::as_array_mut) {
            any.push(schema);
        } else if content.is_null() {
            *content = schema;
        } else {
            *content = json!({"anyOf": [content.take(), schema]});
        }
        self
    }

    /// What is a part of an answer and has no field of its own there.
    pub(crate) fn within<T: ToSchema>(mut self) -> Self {
        self.schemas.response::<T>(&T::name());
        self
    }

    /// Results of rows: a JSON object with all of them, or a line for each, as they came.
    pub(crate) fn gives_rows<T: ToSchema>(self, name: &str, meaning: &'static str) -> Self {
        self.gives_as::<T>(name, StatusCode::OK, meaning).gives_text(StatusCode::OK, "application/x-ndjson", meaning)
    }

    /// Another content than JSON.
    pub(crate) fn gives_text(mut self, status: StatusCode, content: &'static str, meaning: &'static str) -> Self {
        self.response(status, meaning)["content"][content] = json!({"schema": {"type": "string"}});
        self
    }

    /// An error that browsers without scripts get as a page.
    pub(crate) fn or_page(mut self, status: StatusCode) -> Self {
        let error = json!({"schema": reference("Error")});
        let response = self.response(status, "What is wrong.");
        response["content"] = json!({"application/json": error, "text/html": {"schema": {"type": "string"}}});
        self
    }

    /// Nothing but a header.
    pub(crate) fn points(mut self, status: StatusCode, header: &'static str, meaning: &'static str) -> Self {
        let response = self.response(status, meaning);
        response["headers"][header] = json!({"schema": {"type": "string"}});
        self
    }

    /// Its answer leads to another operation.
    pub(crate) fn leads_to(
        mut self,
        status: StatusCode,
        operation: &'static str,
        parameter: &'static str,
        value: &'static str,
    ) -> Self {
        let response = self.responses.get_mut(&status.as_u16()).expect("a status that is given");
        response["links"][operation] = json!({"operationId": operation, "parameters": {parameter: value}});
        self
    }

    /// Errors, beside those of credentials and of bodies.
    pub(crate) fn refuses(mut self, codes: &[Code]) -> Self {
        self.refuse(codes);
        self
    }

    pub(super) fn refuse(&mut self, codes: &[Code]) {
        self.codes.extend(codes);
    }

    /// Errors in the shape of a data action: most are HTTP 200.
    pub(crate) fn refuses_flat<T: ToSchema>(mut self, name: &str) -> Self {
        self.error = Some((self.schemas.response::<T>(name), Code::flat_status));
        self.gives_as::<T>(name, StatusCode::OK, "")
    }

    /// Errors in the words of the Open Inference Protocol.
    pub(crate) fn refuses_inference(mut self, codes: &[Code]) -> Self {
        let schema = self.schemas.response::<InferenceErrorBody<'_>>("InferenceError");
        self.error = Some((schema, Code::inference_status));
        self.refuses(codes)
    }

    /// Its body may be left out.
    pub(crate) fn needs_no_body(mut self) -> Self {
        if let Some(body) = &mut self.body {
            body["required"] = json!(false);
        }
        self
    }

    fn response(&mut self, status: StatusCode, meaning: &'static str) -> &mut Value {
        let new = || json!({"description": meaning, "headers": request_id()});
        self.responses.entry(status.as_u16()).or_insert_with(new)
    }

    /// As the document has it, and the schemas that it refers to.
    pub(super) fn write(self) -> (Value, Schemas) {
        let mut responses: Map<String, Value> =
            self.responses.into_iter().map(|(status, response)| (status.to_string(), response)).collect();
        let mut refused: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
        for code in self.codes {
            let status = self.error.as_ref().map_or_else(|| code.status(), |(_, status)| status(code));
            refused.entry(status.as_u16()).or_default().insert(code.as_str());
        }
        for (status, codes) in refused {
            let names: Vec<_> = codes.into_iter().map(|code| format!("`{code}`")).collect();
            let meaning = names.join(", ");
            let entry = match &self.error {
                None => json!({"$ref": "#/components/responses/Error", "description": meaning}),
                Some((error, _)) => json!({
                    "description": meaning, "headers": request_id(),
                    "content": {"application/json": {"schema": error}},
                }),
            };
            // What is answered under the same status says its own shape.
            responses.entry(status.to_string()).or_insert(entry);
        }
        let mut written = json!({
            "operationId": self.id, "tags": [self.tag.as_str()], "summary": self.summary, "responses": responses,
        });
        if !self.description.is_empty() {
            written["description"] = self.description.into();
        }
        if !self.parameters.is_empty() {
            written["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.body {
            written["requestBody"] = body;
        }
        (written, self.schemas)
    }
}

/// What can be wrong with any body.
const BODY: [Code; 5] =
    [Code::MalformedJson, Code::BodyUnreadable, Code::BodyTimeout, Code::BodyTooLarge, Code::InvalidField];

/// The header that every reply carries.
pub(super) fn request_id() -> Value {
    json!({"x-request-id": {"$ref": "#/components/headers/RequestId"}})
}

/// A reference to a schema of the document.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Schemas by name.
#[derive(Default)]
pub(crate) struct Schemas(Map<String, Value>);

impl Schemas {
    /// Of something that is read; a reference to it.
    pub(crate) fn request<T: ToSchema>(&mut self) -> Value {
        self.collect::<T>(&T::name(), |_| ())
    }

    /// As `request`, under another name, with members that are other or more, some of them required.
    pub(crate) fn request_with<T: ToSchema>(
        &mut self,
        name: &'static str,
        members: Vec<(&str, Value)>,
        required: &[&str],
    ) -> Value {
        let mut whole = serde_json::to_value(T::schema()).expect("a schema can be written");
        for (member, schema) in members {
            whole["properties"][member] = schema;
        }
        if !required.is_empty() {
            whole["required"] = json!(required);
        }
        self.named(name, whole)
    }

    /// Of something that is written: what is absent is left out, never null.
    pub(crate) fn response<T: ToSchema>(&mut self, name: &str) -> Value {
        self.collect::<T>(name, never_null)
    }

    /// Of something that is described by hand.
    pub(crate) fn named(&mut self, name: &'static str, schema: Value) -> Value {
        self.add(name.to_owned(), schema);
        reference(name)
    }

    fn collect<T: ToSchema>(&mut self, name: &str, finish: fn(&mut Value)) -> Value {
        let mut found: Vec<(String, RefOr<Schema>)> = vec![(name.to_owned(), T::schema())];
        T::schemas(&mut found);
        for (name, schema) in found {
            let mut schema = serde_json::to_value(schema).expect("a schema can be written");
            finish(&mut schema);
            self.add(name, schema);
        }
        reference(name)
    }

    pub(super) fn take(&mut self, others: Self) {
        others.0.into_iter().for_each(|(name, schema)| self.add(name, schema));
    }

    /// One name means one thing.
    fn add(&mut self, name: String, mut schema: Value) {
        explain(&mut schema);
        let known = self.0.entry(name).or_insert_with(|| schema.clone());
        debug_assert_eq!(*known, schema, "two shapes of the document have one name");
    }

    pub(super) fn finish(self) -> Map<String, Value> {
        self.0
    }
}

/// Takes null out of a schema.
fn never_null(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for key in ["oneOf", "anyOf"] {
                if let Some(Value::Array(any)) = members.get_mut(key) {
                    any.retain(|one| one["type"] != "null");
                    if let [one] = any.as_mut_slice() {
                        let mut one = one.take();
                        members.remove(key);
                        if let Value::Object(one) = &mut one {
                            members.append(one);
                        }
                    }
                }
            }
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [kind] = types.as_mut_slice() {
                    members["type"] = kind.take();
                }
            }
            members.values_mut().for_each(never_null);
        }
        Value::Array(list) => list.iter_mut().for_each(never_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

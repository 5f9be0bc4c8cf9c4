//! Questions and answers as JSON, with raw tensors behind it where the caller sends or wants them.

use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{AnswerParameters, InferAnswer, OutputColumn, OutputValues};
use super::tensor::{Datatype, Elements, Tensor, TensorData};
use super::{InferParameters, InferQuestion};
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::headers::JSON;
use crate::http::openapi::shape;
use crate::http::wire::json::{append, parse_object, with_body};
use crate::http::wire::values::{WireText, optional_text};

/// How many bytes of a body are JSON; raw tensors follow. Without it all of them are.
pub(crate) static JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// Content type of an answer with raw tensors.
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Body of an inference request. What else stands there is of clients and servers in between.
#[derive(Deserialize)]
struct InferBody<'a> {
    #[serde(borrow, default, deserialize_with = "optional_text")]
    id: Option<WireText<'a>>,
    #[serde(borrow, default)]
    parameters: Option<InferParameters<'a>>,
    #[serde(borrow, default)]
    inputs: Option<Vec<InputBody<'a>>>,
    #[serde(borrow, default)]
    outputs: Option<Vec<WantedBody<'a>>>,
}

#[derive(Deserialize)]
struct InputBody<'a> {
    #[serde(borrow)]
    name: WireText<'a>,
    datatype: Datatype,
    shape: Vec<u64>,
    #[serde(default)]
    parameters: Option<InputParameters>,
    #[serde(borrow, default)]
    data: Option<Elements<'a>>,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

#[derive(Deserialize)]
struct WantedBody<'a> {
    #[serde(borrow)]
    name: WireText<'a>,
    #[serde(default)]
    parameters: Option<WantedParameters>,
}

#[derive(Default, Deserialize)]
struct WantedParameters {
    #[serde(default)]
    binary_data: Option<bool>,
    /// Asks for the largest elements with their labels: there is nothing to choose from here.
    #[serde(default)]
    classification: Option<u64>,
}

/// A question, and in which form its answer is wanted.
pub(crate) struct JsonQuestion<'a> {
    pub question: InferQuestion<'a>,
    pub form: AnswerForm<'a>,
}

/// Which outputs are to come as raw tensors.
pub(crate) struct AnswerForm<'a> {
    all: bool,
    /// Those that say so themselves.
    own: Vec<(WireText<'a>, bool)>,
}

impl<'a> JsonQuestion<'a> {
    /// Of a body that begins with so many bytes of JSON.
    ///
    /// # Errors
    /// When it is no question, or what follows is not what its inputs say.
    pub(crate) fn read(body: &'a [u8], json_length: Option<usize>) -> Result<Self, ApiError> {
        let (json, mut raw) = body.split_at_checked(json_length.unwrap_or(body.len())).ok_or_else(|| {
            let problem = format!("`{JSON_LENGTH}` must be at most the length of the body");
            ApiError::field(Code::InvalidField, JSON_LENGTH.as_str(), problem)
        })?;
        let InferBody { id, parameters, inputs, outputs } = parse_object(json)?;
        let inputs = inputs.unwrap_or_default().into_iter().zip(1..);
        let inputs = inputs.map(|(input, place)| input.tensor(place, &mut raw)).collect::<Result<_, _>>()?;
        if !raw.is_empty() {
            let problem = format!("the body goes on behind its raw tensors for {} bytes", raw.len());
            return Err(ApiError::field(Code::InvalidField, "inputs", problem));
        }
        let mut wanted = Vec::new();
        let mut own = Vec::new();
        for WantedBody { name, parameters } in outputs.unwrap_or_default() {
            let parameters = parameters.unwrap_or_default();
            if parameters.classification.is_some() {
                let problem = "`classification` of an output is not supported";
                return Err(ApiError::field(Code::InvalidField, "outputs", problem));
            }
            own.extend(parameters.binary_data.map(|binary| (name.clone(), binary)));
            wanted.push(name);
        }
        let parameters = parameters.unwrap_or_default();
        let form = AnswerForm { all: parameters.binary_data_output.unwrap_or_default(), own };
        Ok(Self { question: InferQuestion { id, parameters, inputs, outputs: wanted }, form })
    }
}

impl<'a> InputBody<'a> {
    /// The input at this place, which takes its raw bytes from the front of those that are left.
    fn tensor(self, place: usize, raw: &mut &'a [u8]) -> Result<Tensor<'a>, ApiError> {
        let size = self.parameters.unwrap_or_default().binary_data_size;
        let (name, datatype, shape) = (self.name.0, self.datatype, self.shape);
        match (self.data, size) {
            (Some(elements), None) => Tensor::new(name, place, datatype, shape, TensorData::Values(elements)),
            (data, size) => {
                let taken = size.filter(|_| data.is_none()).and_then(|size| raw.split_at_checked(size));
                let (own, rest) = taken.unwrap_or((&[], raw));
                *raw = rest;
                let tensor = Tensor::new(name, place, datatype, shape, TensorData::Raw(own))?;
                match taken {
                    Some(_) => Ok(tensor),
                    None => Err(tensor.fault(
                        "must hold `data`, or a `binary_data_size` of bytes that follow the JSON, and not both",
                    )),
                }
            }
        }
    }
}

/// As the document has a question: what is not listed is passed over, because clients send more.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is used")]
pub(crate) struct InferRequest {
    #[schema(schema_with = shape::optional_request_id, required = false)]
    id: (),
    parameters: Option<InferParameters<'static>>,
    inputs: Vec<InputTensor>,
    /// All of them when there are none.
    outputs: Option<Vec<WantedTensor>>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct InputTensor {
    /// A feature, or something else that is known of each row.
    name: String,
    /// `FP32`, `FP64`, an integer type, `BOOL` or `BYTES`.
    datatype: String,
    /// Rows, and 1 where there are two.
    shape: Vec<u64>,
    #[schema(schema_with = shape::values, required = false)]
    data: (),
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is used")]
struct WantedTensor {
    name: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = InferAnswer)]
pub(crate) struct AnswerBody<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    parameters: &'a AnswerParameters,
    outputs: Vec<OutputBody<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OutputTensor)]
struct OutputBody<'a> {
    name: &'static str,
    #[schema(value_type = String)]
    datatype: Datatype,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = shape::outputs)]
    data: Option<&'a OutputValues>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OutputTensorParameters)]
struct OutputParameters {
    binary_data_size: usize,
}

impl Serialize for OutputValues {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // NaN is written as null.
            Self::Fp64(values) => values.serialize(serializer),
            Self::Bytes(values) => values.serialize(serializer),
        }
    }
}

impl AnswerForm<'_> {
    fn is_raw(&self, output: &str) -> bool {
        let own = self.own.iter().find(|(name, _)| **name == *output);
        own.map_or(self.all, |(_, raw)| *raw)
    }

    pub(crate) fn respond<B: From<Vec<u8>>>(&self, answer: &InferAnswer) -> Response<B> {
        let mut tail: Vec<Vec<u8>> = Vec::new();
        let mut outputs = Vec::with_capacity(answer.outputs.len());
        for OutputColumn { name, values, .. } in &answer.outputs {
            let raw = self.is_raw(name).then(|| values.raw());
            outputs.push(OutputBody {
                name,
                datatype: values.datatype(),
                shape: [answer.rows, 1],
                parameters: raw.as_ref().map(|raw| OutputParameters { binary_data_size: raw.len() }),
                data: raw.is_none().then_some(values),
            });
            tail.extend(raw);
        }
        let is_binary = !tail.is_empty();
        let mut body = Vec::new();
        append(
            &mut body,
            &AnswerBody {
                model_name: &answer.model,
                model_version: &answer.version,
                id: answer.id.as_deref(),
                parameters: &answer.parameters,
                outputs,
            },
        );
        if !is_binary {
            return with_body(StatusCode::OK, JSON.clone(), body);
        }
        let length = HeaderValue::from(body.len());
        body.extend(tail.into_iter().flatten());
        let mut response = with_body(StatusCode::OK, BINARY, body);
        response.headers_mut().insert(JSON_LENGTH.clone(), length);
        response
    }
}

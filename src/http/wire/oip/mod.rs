//! Questions and answers of the Open Inference Protocol, version 2, whichever way they came: as JSON, as JSON with raw
//! tensors behind it, as messages of gRPC.
//!
//! A question's inputs are columns: one tensor for each feature, in it a value for each row. What is known beside the
//! features (who it is about, their channel) are parameters that hold for all rows, or columns of their own. Rows are put
//! together as the requests of `/v1`, so that everything behind them is the same.

mod answer;
mod columns;
pub(in crate::http) mod grpc;
mod json;
pub(in crate::http) mod messages;
mod tensor;

pub(crate) use answer::{AnswerInColumns, InferAnswer, TaskOutputs};
pub(crate) use columns::Columns;
pub(crate) use json::{AnswerBody, InferRequest, JSON_LENGTH, JsonQuestion};
pub(crate) use tensor::{Datatype, Tensor};

use serde::Deserialize;
use utoipa::ToSchema;

use super::explanation::Explain;
use super::values::{WireText, optional, optional_text};
use crate::http::openapi::shape;

/// What is asked about a model.
pub(crate) struct InferQuestion<'a> {
    pub id: Option<WireText<'a>>,
    pub parameters: InferParameters<'a>,
    pub inputs: Vec<Tensor<'a>>,
    /// Names of the outputs that are wanted; none for all of them.
    pub outputs: Vec<WireText<'a>>,
}

/// What holds for all rows. Clients and the servers between them send others too, which mean nothing here.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct InferParameters<'a> {
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub customer_id: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub lead_id: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub acquisition_channel: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub segment: Option<WireText<'a>>,
    #[serde(borrow, default, deserialize_with = "optional_text")]
    #[schema(schema_with = shape::optional_text)]
    pub lead_source: Option<WireText<'a>>,
    #[serde(default, deserialize_with = "optional")]
    pub interval_level: Option<f64>,
    #[serde(default, deserialize_with = "optional")]
    #[schema(schema_with = shape::explain)]
    pub explain: Option<Explain>,
    /// Microseconds that the caller waits; 0 for as long as the settings say.
    #[serde(default, deserialize_with = "optional")]
    pub timeout: Option<u64>,
    /// Whether outputs are to come as raw tensors.
    #[serde(default, deserialize_with = "optional")]
    pub binary_data_output: Option<bool>,
}

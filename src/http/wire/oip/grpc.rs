//! Questions and answers as messages of gRPC. Who sends raw tensors gets raw tensors, who sends lists gets lists.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::value::MapDeserializer;
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::answer::{AnswerParameters, InferAnswer, OutputValues};
use super::messages::{
    InferInputTensor, InferOutputTensor, InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    ParameterChoice, Parameters,
};
use super::tensor::{Datatype, Elements, Tensor, TensorData, number, text};
use super::{InferParameters, InferQuestion};
use crate::http::edge::error::{ApiError, Code};
use crate::http::wire::fault::{FieldFault, read_fields};
use crate::http::wire::values::{FeatureValue, WireText};

/// The question that a message asks.
///
/// # Errors
/// When an input has no elements that fit its type, or a parameter is not what it may be.
pub(crate) fn question(message: &ModelInferRequest) -> Result<InferQuestion<'_>, ApiError> {
    let raw = &message.raw_input_contents;
    if !raw.is_empty() && raw.len() != message.inputs.len() {
        let problem = "`raw_input_contents` must hold the elements of every input, or of none";
        return Err(ApiError::field(Code::InvalidField, "raw_input_contents", problem));
    }
    if message.outputs.iter().any(|output| output.parameters.contains_key("classification")) {
        return Err(ApiError::field(Code::InvalidField, "outputs", "`classification` of an output is not supported"));
    }
    let raw = raw.iter().map(Some).chain(std::iter::repeat(None));
    let inputs = message.inputs.iter().zip(raw).zip(1..);
    Ok(InferQuestion {
        id: (!message.id.is_empty()).then(|| WireText(Cow::Borrowed(&message.id))),
        parameters: parameters(&message.parameters)?,
        inputs: inputs.map(|((input, raw), place)| tensor(input, raw, place)).collect::<Result<_, _>>()?,
        outputs: message.outputs.iter().map(|output| WireText(Cow::Borrowed(output.name.as_str()))).collect(),
    })
}

/// The input at this place of its message, from 1.
fn tensor<'m>(input: &'m InferInputTensor, raw: Option<&'m Bytes>, place: usize) -> Result<Tensor<'m>, ApiError> {
    let wrong = |field: &str, allowed: &str| {
        let problem = format!("`inputs[{}].{field}` must be {allowed}", place - 1);
        ApiError::field(Code::InvalidField, format!("inputs[{}].{field}", place - 1), problem)
    };
    let datatype = Datatype::parse(&input.datatype)
        .ok_or_else(|| wrong("datatype", &format!("one of {}", Datatype::NAMES.join(", "))))?;
    let shape = input.shape.iter().map(|&size| u64::try_from(size).ok()).collect::<Option<Vec<_>>>();
    let shape = shape.ok_or_else(|| wrong("shape", "whole numbers from 0"))?;
    let data = match (raw, &input.contents) {
        (Some(raw), _) => TensorData::Raw(raw),
        (None, Some(contents)) => {
            let elements = elements(datatype, contents);
            TensorData::Values(elements.ok_or_else(|| wrong("contents", "texts in UTF-8 of at most 256 bytes"))?)
        }
        (None, None) => return Err(wrong("contents", "there, or its elements in `raw_input_contents`")),
    };
    Tensor::new(Cow::Borrowed(&input.name), place, datatype, shape, data)
}

/// The elements of the list that is for this type.
fn elements(datatype: Datatype, contents: &InferTensorContents) -> Option<Elements<'_>> {
    fn numbers<'a, T: Copy>(list: &[T], to: impl Fn(T) -> f64) -> Vec<Option<FeatureValue<'a>>> {
        list.iter().map(|&element| number(to(element))).collect()
    }
    let values = match datatype {
        Datatype::Bool => numbers(&contents.bool_contents, |it| f64::from(u8::from(it))),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => numbers(&contents.int_contents, f64::from),
        Datatype::Int64 => numbers(&contents.int64_contents, |it| it as f64),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => numbers(&contents.uint_contents, f64::from),
        Datatype::Uint64 => numbers(&contents.uint64_contents, |it| it as f64),
        Datatype::Fp32 => numbers(&contents.fp32_contents, f64::from),
        Datatype::Fp64 => numbers(&contents.fp64_contents, |it| it),
        Datatype::Bytes => {
            contents.bytes_contents.iter().map(|element| text(element).map(Some)).collect::<Option<_>>()?
        }
    };
    Some(Elements(values))
}

fn parameters(given: &Parameters) -> Result<InferParameters<'_>, ApiError> {
    let given = given.iter().map(|(name, value)| (name.as_str(), Parameter(value)));
    read_fields("parameters", MapDeserializer::new(given))
}

/// A parameter as what reads the same in JSON.
struct Parameter<'m>(&'m InferParameter);

impl<'m> IntoDeserializer<'m, FieldFault> for Parameter<'m> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Parameter<'de> {
    type Error = FieldFault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldFault> {
        match &self.0.parameter_choice {
            None => visitor.visit_unit(),
            Some(ParameterChoice::BoolParam(value)) => visitor.visit_bool(*value),
            Some(ParameterChoice::Int64Param(value)) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Some(ParameterChoice::StringParam(text)) => visitor.visit_borrowed_str(text),
            Some(ParameterChoice::DoubleParam(value)) => visitor.visit_f64(*value),
            Some(ParameterChoice::Uint64Param(value)) => visitor.visit_u64(*value),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The message that an answer to `question` is.
pub(crate) fn response(question: &ModelInferRequest, answer: InferAnswer) -> ModelInferResponse {
    let is_raw = !question.raw_input_contents.is_empty() || question.inputs.is_empty();
    let shape = [i64::try_from(answer.rows).unwrap_or(i64::MAX), 1];
    let mut raw_output_contents = Vec::new();
    let mut outputs = Vec::with_capacity(answer.outputs.len());
    for column in answer.outputs {
        let contents = if is_raw {
            raw_output_contents.push(column.values.raw().into());
            None
        } else {
            Some(contents(&column.values))
        };
        let (name, datatype) = (column.name.to_owned(), column.values.datatype().as_str().to_owned());
        outputs.push(InferOutputTensor { name, datatype, shape: shape.to_vec(), contents });
    }
    ModelInferResponse {
        model_name: answer.model,
        model_version: answer.version,
        id: answer.id.unwrap_or_default(),
        parameters: told(answer.parameters),
        outputs,
        raw_output_contents,
    }
}

fn contents(values: &OutputValues) -> InferTensorContents {
    match values {
        OutputValues::Fp64(values) => {
            InferTensorContents { fp64_contents: values.clone(), ..InferTensorContents::default() }
        }
        OutputValues::Bytes(texts) => InferTensorContents {
            bytes_contents: texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect(),
            ..InferTensorContents::default()
        },
    }
}

fn told(parameters: AnswerParameters) -> Parameters {
    let AnswerParameters { model_digest, interval_level, scored_at, reason, warnings } = parameters;
    let scored_at = scored_at.map(|at| at.to_string()).unwrap_or_default();
    let texts = [("model_digest", model_digest), ("scored_at", scored_at), ("reason", reason), ("warnings", warnings)];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    let texts = texts.map(|(name, text)| (name, ParameterChoice::StringParam(text)));
    let level = interval_level.map(|level| ("interval_level", ParameterChoice::DoubleParam(level)));
    let said = |(name, choice): (&str, _)| (name.to_owned(), InferParameter { parameter_choice: Some(choice) });
    texts.chain(level).map(said).collect()
}

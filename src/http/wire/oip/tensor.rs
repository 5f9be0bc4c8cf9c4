//! Tensors as they come: a name, a shape, and values in JSON or as raw bytes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::http::edge::error::{ApiError, Code, LONGEST_NAME};
use crate::http::wire::values::{FeatureValue, LONGEST_TEXT, WireText};
use scoreline_domain::privacy::screen::public;
use scoreline_domain::text::shown;

macro_rules! datatypes {
    ($($variant:ident = $name:literal,)*) => {
        /// What the elements of a tensor are.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Datatype { $($variant,)* }

        impl Datatype {
            pub(super) const NAMES: &[&str] = &[$($name,)*];

            pub(crate) fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

datatypes! {
    Bool = "BOOL",
    Uint8 = "UINT8",
    Uint16 = "UINT16",
    Uint32 = "UINT32",
    Uint64 = "UINT64",
    Int8 = "INT8",
    Int16 = "INT16",
    Int32 = "INT32",
    Int64 = "INT64",
    Fp32 = "FP32",
    Fp64 = "FP64",
    Bytes = "BYTES",
}

impl<'de> Deserialize<'de> for Datatype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = WireText::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| de::Error::unknown_variant("", Self::NAMES))
    }
}

impl Serialize for Datatype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A tensor's name and its elements, row by row; `None` is missing.
pub(crate) type Column<'a> = (Cow<'a, str>, Vec<Option<FeatureValue<'a>>>);

/// One input.
pub(crate) struct Tensor<'a> {
    /// Looked at for personal data: it may be shown.
    name: Cow<'a, str>,
    datatype: Datatype,
    pub shape: Vec<u64>,
    data: TensorData<'a>,
}

/// The elements of a tensor.
pub(crate) enum TensorData<'a> {
    Values(Elements<'a>),
    /// Little-endian, one behind the other; a text behind its length in four bytes.
    Raw(&'a [u8]),
}

/// Elements in their order, `None` for null: of lists inside of lists, those of the first come first.
#[derive(Default)]
pub(crate) struct Elements<'a>(pub Vec<Option<FeatureValue<'a>>>);

/// Most elements of one tensor.
const MOST_ELEMENTS: usize = 1 << 20;

impl<'a> Tensor<'a> {
    /// The input at this place of its request, from 1.
    ///
    /// # Errors
    /// When its name is personal data.
    pub(crate) fn new(
        name: Cow<'a, str>,
        place: usize,
        datatype: Datatype,
        shape: Vec<u64>,
        data: TensorData<'a>,
    ) -> Result<Self, ApiError> {
        match public(&name) {
            Ok(()) => Ok(Self { name, datatype, shape, data }),
            Err(why) => Err(ApiError::field(Code::PiiRefused, "inputs", format!("the name of input {place} {why}"))),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_text(&self) -> bool {
        self.datatype == Datatype::Bytes
    }

    /// An error that says what it has to be.
    pub(crate) fn fault(&self, problem: impl fmt::Display) -> ApiError {
        fault(&self.name, problem)
    }

    /// Its elements, of which there must be so many.
    ///
    /// # Errors
    /// When there are not, or they are of another type.
    pub(crate) fn read(self, count: usize) -> Result<Column<'a>, ApiError> {
        let Self { name, datatype, data, .. } = self;
        let is_text = datatype == Datatype::Bytes;
        let values = match data {
            TensorData::Values(Elements(values)) => {
                let fits = |value: &FeatureValue<'_>| matches!(value, FeatureValue::Number(_)) != is_text;
                let all_fit = values.len() == count && values.iter().flatten().all(fits);
                all_fit.then_some(values)
            }
            TensorData::Raw(bytes) => read_raw(datatype, bytes, count),
        };
        let texts = if is_text { format!(", texts in UTF-8 of at most {LONGEST_TEXT} bytes") } else { String::new() };
        let problem = || {
            let kind = datatype.as_str();
            fault(&name, format_args!("must hold as many elements of {kind} as its `shape` says ({count}){texts}"))
        };
        match values {
            Some(values) => Ok((name, values)),
            None => Err(problem()),
        }
    }
}

fn fault(name: &str, problem: impl fmt::Display) -> ApiError {
    let name = shown(name, LONGEST_NAME);
    ApiError::field(Code::InvalidField, &*name, format!("input `{name}` {problem}"))
}

/// So many elements; `None` when the bytes are not that.
fn read_raw(datatype: Datatype, bytes: &[u8], count: usize) -> Option<Vec<Option<FeatureValue<'_>>>> {
    let of_bytes = |number: fn(u8) -> f64| numbers(bytes, count, |&[byte]: &[u8; 1]| number(byte));
    match datatype {
        Datatype::Bool => of_bytes(|byte| f64::from(u8::from(byte != 0))),
        Datatype::Uint8 => of_bytes(f64::from),
        Datatype::Int8 => of_bytes(|byte| f64::from(byte.cast_signed())),
        Datatype::Uint16 => numbers(bytes, count, |it| f64::from(u16::from_le_bytes(*it))),
        Datatype::Int16 => numbers(bytes, count, |it| f64::from(i16::from_le_bytes(*it))),
        Datatype::Uint32 => numbers(bytes, count, |it| f64::from(u32::from_le_bytes(*it))),
        Datatype::Int32 => numbers(bytes, count, |it| f64::from(i32::from_le_bytes(*it))),
        Datatype::Uint64 => numbers(bytes, count, |it| u64::from_le_bytes(*it) as f64),
        Datatype::Int64 => numbers(bytes, count, |it| i64::from_le_bytes(*it) as f64),
        Datatype::Fp32 => numbers(bytes, count, |it| f64::from(f32::from_le_bytes(*it))),
        Datatype::Fp64 => numbers(bytes, count, |it| f64::from_le_bytes(*it)),
        Datatype::Bytes => texts(bytes, count),
    }
}

fn numbers<'a, const N: usize>(
    bytes: &[u8],
    count: usize,
    read: impl Fn(&[u8; N]) -> f64,
) -> Option<Vec<Option<FeatureValue<'a>>>> {
    let (elements, rest) = bytes.as_chunks::<N>();
    let whole = rest.is_empty() && elements.len() == count;
    whole.then(|| elements.iter().map(|element| number(read(element))).collect())
}

/// NaN is how clients without null say that something is missing.
pub(super) fn number<'a>(number: f64) -> Option<FeatureValue<'a>> {
    (!number.is_nan()).then_some(FeatureValue::Number(number))
}

fn texts(mut bytes: &[u8], count: usize) -> Option<Vec<Option<FeatureValue<'_>>>> {
    let mut values = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (element, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        values.push(Some(text(element)?));
        if values.len() > count {
            return None;
        }
        bytes = rest;
    }
    (bytes.is_empty() && values.len() == count).then_some(values)
}

pub(super) fn text(bytes: &[u8]) -> Option<FeatureValue<'_>> {
    let text = str::from_utf8(bytes).ok().filter(|text| text.len() <= LONGEST_TEXT)?;
    Some(FeatureValue::Text(Cow::Borrowed(text)))
}

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut values = Vec::new();
        deserializer.deserialize_seq(ListVisitor(&mut values))?;
        Ok(Elements(values))
    }
}

/// Takes the elements of a list, which may be lists themselves.
struct ListVisitor<'v, 'de>(&'v mut Vec<Option<FeatureValue<'de>>>);

/// Takes one element of a list.
struct ElementSeed<'v, 'de>(&'v mut Vec<Option<FeatureValue<'de>>>);

impl<'de> Visitor<'de> for ListVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST_ELEMENTS} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(ElementSeed(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> ElementSeed<'_, 'de> {
    fn take<E: de::Error>(self, value: Option<FeatureValue<'de>>) -> Result<(), E> {
        if self.0.len() == MOST_ELEMENTS {
            return Err(E::invalid_length(MOST_ELEMENTS + 1, &ListVisitor(self.0)));
        }
        self.0.push(value);
        Ok(())
    }

    fn take_text<E: de::Error>(self, text: Cow<'de, str>) -> Result<(), E> {
        if text.len() > LONGEST_TEXT {
            return Err(E::invalid_length(text.len(), &self));
        }
        self.take(Some(FeatureValue::Text(text)))
    }
}

impl<'de> Visitor<'de> for ElementSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number, `true`, `false`, null, a text of at most {LONGEST_TEXT} bytes, or a list of such")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.take(Some(FeatureValue::Number(f64::from(u8::from(value)))))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.take(Some(FeatureValue::Number(value as f64)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.take(Some(FeatureValue::Number(value as f64)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.take(number(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.take(None)
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<(), E> {
        self.take_text(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.take_text(Cow::Owned(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        ListVisitor(self.0).visit_seq(list)
    }
}

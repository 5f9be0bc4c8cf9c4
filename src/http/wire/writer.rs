//! Writes our own answers as JSON, byte for byte what `serde_json` writes.
//!
//! Two things make it cheaper, and an answer is a fifth of a request's work: the names of fields are ours, so they are
//! not searched for characters to escape; and a text is searched in one pass that the compiler turns into vector
//! instructions, then copied whole.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

/// Appends `value` to `out` as JSON.
///
/// # Errors
/// Only for what our answers do not hold: bytes, and map keys that are not text.
pub fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> fmt::Result {
    value.serialize(&mut Writer { out })
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

/// A list or an object in the making.
struct Open<'w, 'o> {
    writer: &'w mut Writer<'o>,
    empty: bool,
    end: &'static [u8],
}

impl Writer<'_> {
    fn text(&mut self, text: &str) {
        self.out.push(b'"');
        let bytes = text.as_bytes();
        // No early exit: that is what lets it be vectorised.
        let special = bytes.iter().fold(false, |special, &byte| special | is_special(byte));
        if special {
            self.escaped(bytes);
        } else {
            self.out.extend_from_slice(bytes);
        }
        self.out.push(b'"');
    }

    #[cold]
    fn escaped(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                0x08 => self.out.extend_from_slice(b"\\b"),
                0x0c => self.out.extend_from_slice(b"\\f"),
                0..0x20 => {
                    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                    self.out.extend_from_slice(b"\\u00");
                    self.out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
                }
                _ => self.out.push(byte),
            }
        }
    }

    fn whole(&mut self, number: impl itoa::Integer) {
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// `{"variant":`, for an enum variant that holds something.
    fn variant(&mut self, variant: &'static str) {
        self.out.extend_from_slice(b"{\"");
        self.out.extend_from_slice(variant.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

#[expect(clippy::needless_bitwise_bool, reason = "`||` would branch")]
fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

impl<'w, 'o> Open<'w, 'o> {
    fn new(writer: &'w mut Writer<'o>, start: u8, end: &'static [u8]) -> Self {
        writer.out.push(start);
        Self { writer, empty: true, end }
    }

    #[inline]
    fn next(&mut self) {
        if !self.empty {
            self.writer.out.push(b',');
        }
        self.empty = false;
    }

    #[expect(clippy::inline_always, reason = "a name is then copied as the constant it is")]
    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> fmt::Result {
        self.next();
        self.writer.out.push(b'"');
        self.writer.out.extend_from_slice(name.as_bytes());
        self.writer.out.extend_from_slice(b"\":");
        value.serialize(&mut *self.writer)
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> fmt::Result {
        self.next();
        value.serialize(&mut *self.writer)
    }

    fn close(self) {
        self.writer.out.extend_from_slice(self.end);
    }
}

macro_rules! whole_numbers {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> fmt::Result {
            self.whole(value);
            Ok(())
        })*
    };
}

impl<'w, 'o> Serializer for &'w mut Writer<'o> {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Open<'w, 'o>;
    type SerializeTuple = Open<'w, 'o>;
    type SerializeTupleStruct = Open<'w, 'o>;
    type SerializeTupleVariant = Open<'w, 'o>;
    type SerializeMap = Open<'w, 'o>;
    type SerializeStruct = Open<'w, 'o>;
    type SerializeStructVariant = Open<'w, 'o>;

    whole_numbers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
    }

    fn serialize_bool(self, value: bool) -> fmt::Result {
        self.out.extend_from_slice(if value { b"true".as_slice() } else { b"false" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> fmt::Result {
        if !value.is_finite() {
            return self.serialize_unit();
        }
        self.out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> fmt::Result {
        if !value.is_finite() {
            return self.serialize_unit();
        }
        self.out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> fmt::Result {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> fmt::Result {
        self.text(value);
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> fmt::Result {
        Err(fmt::Error)
    }

    fn serialize_none(self) -> fmt::Result {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> fmt::Result {
        value.serialize(self)
    }

    fn serialize_unit(self) -> fmt::Result {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> fmt::Result {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> fmt::Result {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> fmt::Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> fmt::Result {
        self.variant(variant);
        value.serialize(&mut *self)?;
        self.out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'w, 'o>, fmt::Error> {
        Ok(Open::new(self, b'[', b"]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Open<'w, 'o>, fmt::Error> {
        Ok(Open::new(self, b'[', b"]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Open<'w, 'o>, fmt::Error> {
        Ok(Open::new(self, b'[', b"]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'w, 'o>, fmt::Error> {
        self.variant(variant);
        Ok(Open::new(self, b'[', b"]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'w, 'o>, fmt::Error> {
        Ok(Open::new(self, b'{', b"}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'w, 'o>, fmt::Error> {
        Ok(Open::new(self, b'{', b"}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'w, 'o>, fmt::Error> {
        self.variant(variant);
        Ok(Open::new(self, b'{', b"}}"))
    }
}

macro_rules! elements {
    ($($trait:ident: $method:ident),* $(,)?) => {
        $(impl ser::$trait for Open<'_, '_> {
            type Ok = ();
            type Error = fmt::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> fmt::Result {
                self.element(value)
            }

            fn end(self) -> fmt::Result {
                self.close();
                Ok(())
            }
        })*
    };
}

elements! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! fields {
    ($($trait:ident),* $(,)?) => {
        $(impl ser::$trait for Open<'_, '_> {
            type Ok = ();
            type Error = fmt::Error;

            #[inline(always)]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> fmt::Result {
                self.field(name, value)
            }

            fn end(self) -> fmt::Result {
                self.close();
                Ok(())
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Open<'_, '_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> fmt::Result {
        self.next();
        let before = self.writer.out.len();
        key.serialize(&mut *self.writer)?;
        // A key that was not written as a text cannot stand in JSON.
        if self.writer.out.get(before) == Some(&b'"') { Ok(()) } else { Err(fmt::Error) }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> fmt::Result {
        self.writer.out.push(b':');
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> fmt::Result {
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;
    use serde_json::{Value, json};

    use super::*;

    fn written<T: Serialize>(value: &T) -> String {
        let mut out = Vec::new();
        write(&mut out, value).expect("can be written");
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[derive(Serialize)]
    enum Kind {
        Plain,
        One(f64),
        Two(u8, char),
        Named { text: &'static str },
    }

    #[derive(Serialize)]
    struct Inner(i64);

    #[derive(Serialize)]
    struct Everything<'a> {
        text: &'a str,
        numbers: Vec<f64>,
        float: f32,
        pair: (u64, Option<bool>),
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
        kinds: [Kind; 4],
        unit: (),
        wrapped: Inner,
        empty: [u8; 0],
        #[serde(flatten)]
        rest: BTreeMap<String, u32>,
    }

    fn everything(text: &str, numbers: Vec<f64>) -> Everything<'_> {
        Everything {
            text,
            numbers,
            float: 0.1,
            pair: (u64::MAX, Some(true)),
            absent: None,
            kinds: [Kind::Plain, Kind::One(1.0), Kind::Two(7, '\u{1f}'), Kind::Named { text: "a\"b" }],
            unit: (),
            wrapped: Inner(-5),
            empty: [],
            rest: BTreeMap::from([(text.to_owned(), 1), ("other".to_owned(), 2)]),
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_is_written_as_serde_json_writes_it(value in any_json()) {
            prop_assert_eq!(written(&value), value.to_string());
        }

        #[test]
        fn any_answer_is_written_as_serde_json_writes_it(
            text in any::<String>(),
            numbers in prop::collection::vec(any::<f64>(), 0..4),
        ) {
            let value = everything(&text, numbers);
            prop_assert_eq!(written(&value), serde_json::to_string(&value).expect("can be written"));
        }
    }

    #[test]
    fn what_json_has_no_form_for_is_refused() {
        let mut out = Vec::new();
        assert!(write(&mut out, &BTreeMap::from([(1, "a key that is a number")])).is_err());
    }
}

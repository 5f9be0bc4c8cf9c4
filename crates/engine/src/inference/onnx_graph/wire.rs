//! The protobuf wire format: the fields of one message, checked against the bytes that are there. What they mean is for
//! `screen.rs` and `proto.rs` to know.

const TORN: &str = "the file ends in the middle of a field";

/// One field as it stands in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireField<'a> {
    pub(super) number: u64,
    pub(super) value: Value<'a>,
    /// Key and value, as written.
    pub(super) raw: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    /// A string, bytes, packed numbers or a nested message.
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    /// The content of a length-delimited field, nothing for any other.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => &[],
        }
    }

    /// As `bytes`, where anything else is an error.
    pub(super) fn content(self) -> Result<&'a [u8], &'static str> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => {
                Err("a field holds a number where a text or a message belongs")
            }
        }
    }

    /// A whole number, where anything else is an error.
    pub(super) fn whole(self) -> Result<i64, &'static str> {
        match self {
            Self::Varint(number) => Ok(number.cast_signed()),
            Self::Fixed64(_) | Self::Bytes(_) | Self::Fixed32(_) => {
                Err("a field holds something else than a whole number")
            }
        }
    }

    /// A string as it can be shown.
    pub(super) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// Visits the fields of one message in order; stops at the first that is torn or of a wire type ONNX does not use.
pub(super) struct Fields<'a>(&'a [u8]);

pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields(message)
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<WireField<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = read(self.0);
        self.0 = read.as_ref().map_or(&[][..], |(_, rest)| *rest);
        Some(read.map(|(field, _)| field))
    }
}

fn read(bytes: &[u8]) -> Result<(WireField<'_>, &[u8]), String> {
    let mut rest = bytes;
    let key = varint(&mut rest).ok_or(TORN)?;
    let value = match key & 7 {
        0 => Value::Varint(varint(&mut rest).ok_or(TORN)?),
        1 => Value::Fixed64(*take(&mut rest)?),
        2 => {
            let length = varint(&mut rest).and_then(|length| usize::try_from(length).ok()).ok_or(TORN)?;
            let (content, after) = rest.split_at_checked(length).ok_or(TORN)?;
            rest = after;
            Value::Bytes(content)
        }
        5 => Value::Fixed32(*take(&mut rest)?),
        other => return Err(format!("a field has wire type {other}")),
    };
    let raw = &bytes[..bytes.len() - rest.len()];
    Ok((WireField { number: key >> 3, value, raw }, rest))
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], String> {
    let (taken, after) = rest.split_first_chunk().ok_or(TORN)?;
    *rest = after;
    Ok(taken)
}

pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The numbers of a repeated integer field, packed or one by one.
pub(super) fn varints(value: Value<'_>, mut visit: impl FnMut(u64)) -> Result<(), String> {
    match value {
        Value::Varint(number) => visit(number),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                visit(varint(&mut packed).ok_or(TORN)?);
            }
        }
        Value::Fixed64(_) | Value::Fixed32(_) => return Err("a list of whole numbers holds something else".to_owned()),
    }
    Ok(())
}

/// The numbers of a repeated `float` field, packed or one by one.
pub(super) fn singles(value: Value<'_>, mut visit: impl FnMut(f32)) -> Result<(), &'static str> {
    match value {
        Value::Fixed32(bytes) => visit(f32::from_le_bytes(bytes)),
        Value::Bytes(packed) => chunks(packed)?.iter().for_each(|&bytes| visit(f32::from_le_bytes(bytes))),
        Value::Varint(_) | Value::Fixed64(_) => return Err("a list of floats holds something else"),
    }
    Ok(())
}

/// The numbers of a repeated `double` field, packed or one by one.
pub(super) fn doubles(value: Value<'_>, mut visit: impl FnMut(f64)) -> Result<(), &'static str> {
    match value {
        Value::Fixed64(bytes) => visit(f64::from_le_bytes(bytes)),
        Value::Bytes(packed) => chunks(packed)?.iter().for_each(|&bytes| visit(f64::from_le_bytes(bytes))),
        Value::Varint(_) | Value::Fixed32(_) => return Err("a list of doubles holds something else"),
    }
    Ok(())
}

fn chunks<const N: usize>(packed: &[u8]) -> Result<&[[u8; N]], &'static str> {
    let (numbers, rest) = packed.as_chunks();
    if rest.is_empty() { Ok(numbers) } else { Err(TORN) }
}

/// Appends a length-delimited field.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

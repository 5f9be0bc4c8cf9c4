//! Changes one field of a protobuf message, however deep it lies, and keeps the lengths around it right.

use arbitrary::{Result, Unstructured};

/// One field with its key; a nested message is bytes until somebody looks inside.
#[derive(Clone)]
struct Field {
    number: u64,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Varint(u64),
    Eight([u8; 8]),
    Bytes(Vec<u8>),
    Four([u8; 4]),
}

/// Nested messages that are looked into.
const DEEPEST: usize = 6;
const WHOLE: [u64; 9] = [0, 1, 2, 7, 64, 255, 1_000_000_000, i64::MAX as u64, u64::MAX];
const FLOATS: [f32; 9] =
    [0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE];
/// Texts that mean something in a graph.
const WORDS: [&str; 12] = [
    "",
    "BRANCH_LEQ",
    "BRANCH_LT",
    "BRANCH_EQ",
    "LEAF",
    "SOFTMAX",
    "PROBIT",
    "AVERAGE",
    "MIN",
    "nodes_values",
    "TreeEnsembleRegressor",
    "ai.onnx.ml",
];

/// Changes one field, or drops, repeats or moves it. Bytes that are no message stay as they are.
pub fn bend(from: &mut Unstructured<'_>, input: &mut Vec<u8>) -> Result<()> {
    if let Some(mut fields) = parse(input) {
        fields_of(from, &mut fields, DEEPEST)?;
        *input = write(&fields);
    }
    Ok(())
}

fn fields_of(from: &mut Unstructured<'_>, fields: &mut Vec<Field>, depth: usize) -> Result<()> {
    if fields.is_empty() {
        return Ok(());
    }
    let at = from.choose_index(fields.len())?;
    if depth > 0
        && let Content::Bytes(bytes) = &mut fields[at].content
        && from.ratio(7, 8)?
        && let Some(mut inner) = parse(bytes).filter(|inner| !inner.is_empty())
    {
        fields_of(from, &mut inner, depth - 1)?;
        *bytes = write(&inner);
        return Ok(());
    }
    let other = from.choose_index(fields.len())?;
    match from.int_in_range(0..=8)? {
        0 => drop(fields.remove(at)),
        1 => fields.insert(other, fields[at].clone()),
        2 => fields.swap(at, other),
        3 => fields[at].number = from.int_in_range(1..=24)?,
        4 => {
            let repeated = std::iter::repeat_n(fields[at].clone(), from.int_in_range(2..=64)?);
            fields.splice(at..at, repeated.collect::<Vec<_>>());
        }
        _ => fields[at].content.change(from)?,
    }
    Ok(())
}

impl Content {
    fn change(&mut self, from: &mut Unstructured<'_>) -> Result<()> {
        match self {
            Self::Varint(number) => {
                *number = match from.int_in_range(0..=3)? {
                    0 => number.wrapping_add(1),
                    1 => number.wrapping_sub(1),
                    2 => *from.choose(&WHOLE)?,
                    _ => from.arbitrary()?,
                }
            }
            Self::Four(bytes) => *bytes = from.choose(&FLOATS)?.to_le_bytes(),
            Self::Eight(bytes) => *bytes = f64::from(*from.choose(&FLOATS)?).to_le_bytes(),
            // A text, or numbers packed together.
            Self::Bytes(bytes) if bytes.len().is_multiple_of(4) && bytes.len() > 4 && from.ratio(2, 3)? => {
                let at = 4 * from.choose_index(bytes.len() / 4)?;
                bytes[at..at + 4].copy_from_slice(&from.choose(&FLOATS)?.to_le_bytes());
            }
            Self::Bytes(bytes) => match from.int_in_range(0..=3)? {
                0 => *bytes = from.choose(&WORDS)?.as_bytes().to_vec(),
                1 => bytes.truncate(from.int_in_range(0..=bytes.len())?),
                2 => *bytes = bytes.repeat(from.int_in_range(0..=4)?),
                _ if bytes.is_empty() => *bytes = from.arbitrary()?,
                _ => {
                    let at = from.choose_index(bytes.len())?;
                    bytes[at] = from.arbitrary()?;
                }
            },
        }
        Ok(())
    }
}

fn parse(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let content = match key & 7 {
            0 => Content::Varint(varint(&mut bytes)?),
            1 => Content::Eight(take(&mut bytes, 8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Content::Bytes(take(&mut bytes, length)?.to_vec())
            }
            5 => Content::Four(take(&mut bytes, 4)?.try_into().ok()?),
            _ => return None,
        };
        fields.push(Field { number: key >> 3, content });
    }
    // Text often looks like a field or two; those have numbers that no schema uses.
    fields.iter().all(|field| (1..=64).contains(&field.number)).then_some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Field { number, content } in fields {
        let kind = match content {
            Content::Varint(_) => 0,
            Content::Eight(_) => 1,
            Content::Bytes(_) => 2,
            Content::Four(_) => 5,
        };
        put(&mut bytes, number << 3 | kind);
        match content {
            Content::Varint(number) => put(&mut bytes, *number),
            Content::Eight(eight) => bytes.extend(eight),
            Content::Bytes(inner) => {
                put(&mut bytes, inner.len() as u64);
                bytes.extend(inner);
            }
            Content::Four(four) => bytes.extend(four),
        }
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[test]
fn a_message_survives_being_taken_apart() {
    for model in super::targets::files("crates/engine/tests/fixtures/onnx", "onnx", 16 * 1024) {
        let fields = parse(&model).expect("a model is a message");
        assert!(write(&fields) == model, "the same bytes");
    }
}

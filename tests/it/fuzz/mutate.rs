//! Bends good inputs: by their form, so that the change lies behind the first check, and byte by byte.
//!
//! All choices come from the entropy that is handed in: the same entropy gives the same input.

use arbitrary::{Arbitrary, Result, Unstructured};
use serde_json::Value;

use super::protobuf;
use super::targets::Form;

/// Longest input that is made. Bodies and settings are smaller; models above this only take longer.
const LONGEST: usize = 96 * 1024;

/// One input, from one of the seeds.
pub fn mutate(form: Form, seeds: &[Vec<u8>], entropy: &[u8]) -> Vec<u8> {
    let mut from = Unstructured::new(entropy);
    let mut input = seeds.first().cloned().unwrap_or_default();
    // When the entropy is used up, what has been made so far is the input.
    let _ = bend(form, seeds, &mut from, &mut input);
    input.truncate(LONGEST);
    input
}

fn bend(form: Form, seeds: &[Vec<u8>], from: &mut Unstructured<'_>, input: &mut Vec<u8>) -> Result<()> {
    input.clone_from(from.choose(seeds)?);
    for _ in 0..from.int_in_range(1..=3)? {
        // One in four changes does not care what it cuts.
        if from.ratio(1, 4)? {
            bytes(seeds, from, input)?;
            continue;
        }
        match form {
            Form::Json => json(from, input)?,
            Form::Lines => line(from, input)?,
            Form::Text => text(from, input)?,
            Form::Protobuf => protobuf::bend(from, input)?,
            Form::Bytes => bytes(seeds, from, input)?,
        }
    }
    Ok(())
}

/// A JSON value that somebody might write. Raw text: some of it is not JSON, or not a number that fits.
#[derive(Arbitrary)]
enum Odd {
    Null,
    Boolean(bool),
    Whole(i64),
    Number(f64),
    /// Beside the edges of what fits.
    Edge(u8),
    Text(String),
    Long(u16),
    Deep(u8),
    EmptyArray,
    EmptyObject,
    Wide(u8),
    Escaped(u16),
}

const EDGES: [&str; 20] = [
    "0",
    "-0",
    "-0.0",
    "-1",
    "1e308",
    "1e309",
    "-1e999",
    "5e-324",
    "1e-999",
    "2147483648",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "NaN",
    "0.1e",
    "00",
];

impl Odd {
    fn text(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Boolean(value) => value.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => format!("{number:?}"),
            Self::Edge(edge) => EDGES[usize::from(*edge) % EDGES.len()].into(),
            Self::Text(text) => Value::from(text.as_str()).to_string(),
            Self::Long(length) => format!("\"{}\"", "x".repeat(usize::from(*length) / 16)),
            Self::Deep(depth) => format!("{}{}", "[".repeat(usize::from(*depth)), "]".repeat(usize::from(*depth))),
            Self::EmptyArray => "[]".into(),
            Self::EmptyObject => "{}".into(),
            Self::Wide(width) => format!("[{}0]", "0,".repeat(usize::from(*width))),
            Self::Escaped(unit) => format!("\"\\u{unit:04x}\""),
        }
    }
}

/// What becomes of one member of an object or array.
#[derive(Arbitrary)]
enum Change {
    Replace(Odd),
    Remove,
    Twice,
    Rename(String),
    /// Takes the name of another member.
    Borrow(u8),
    Wrap,
}

/// Changes one member of a JSON document, however deep it lies.
fn json(from: &mut Unstructured<'_>, input: &mut Vec<u8>) -> Result<()> {
    let Ok(document) = serde_json::from_slice::<Value>(input) else { return bytes(&[], from, input) };
    let mut writer =
        Writer { left: from.int_in_range(0..=members(&document))?, change: from.arbitrary()?, text: String::new() };
    writer.value(&document);
    *input = writer.text.into_bytes();
    Ok(())
}

/// How many values stand inside a value.
fn members(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(|item| 1 + members(item)).sum(),
        Value::Object(fields) => fields.values().map(|field| 1 + members(field)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Writes a document with one member changed.
struct Writer {
    /// Members to be written before the one that changes.
    left: usize,
    change: Change,
    text: String,
}

impl Writer {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Array(items) => {
                self.text.push('[');
                for item in items {
                    self.member(None, item, &[]);
                }
                self.close(']');
            }
            Value::Object(fields) => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                self.text.push('{');
                for (name, field) in fields {
                    self.member(Some(name), field, &names);
                }
                self.close('}');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => self.text += &value.to_string(),
        }
    }

    fn member(&mut self, name: Option<&str>, value: &Value, names: &[&str]) {
        self.left = self.left.wrapping_sub(1);
        if self.left != 0 {
            self.named(name, |writer| writer.value(value));
            return;
        }
        let plain = value.to_string();
        match &self.change {
            Change::Remove => {}
            Change::Replace(odd) => {
                let odd = odd.text();
                self.named(name, |writer| writer.text += &odd);
            }
            Change::Twice => {
                for _ in 0..2 {
                    self.named(name, |writer| writer.text += &plain);
                }
            }
            Change::Rename(new) => {
                let new = new.clone();
                self.named(name.map(|_| new.as_str()), |writer| writer.text += &plain);
            }
            Change::Borrow(other) => {
                let other = names.get(usize::from(*other) % names.len().max(1)).copied();
                self.named(name.and(other), |writer| writer.text += &plain);
            }
            Change::Wrap => self.named(name, |writer| writer.text.extend(["[", plain.as_str(), "]"])),
        }
    }

    fn named(&mut self, name: Option<&str>, write: impl FnOnce(&mut Self)) {
        if let Some(name) = name {
            self.text += &Value::from(name).to_string();
            self.text.push(':');
        }
        write(self);
        self.text.push(',');
    }

    fn close(&mut self, bracket: char) {
        if self.text.ends_with(',') {
            self.text.pop();
        }
        self.text.push(bracket);
    }
}

/// Changes one line of JSON, or the lines' order.
fn line(from: &mut Unstructured<'_>, input: &mut Vec<u8>) -> Result<()> {
    if input.first() == Some(&b'[') {
        return json(from, input);
    }
    let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = from.choose_index(lines.len())?;
    match from.int_in_range(0..=7)? {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines = std::iter::repeat_n(lines[at].clone(), from.int_in_range(1..=120)?).collect(),
        _ => json(from, &mut lines[at])?,
    }
    *input = lines.join(&b'\n');
    Ok(())
}

/// Changes a line, or one value in a line.
fn text(from: &mut Unstructured<'_>, input: &mut Vec<u8>) -> Result<()> {
    let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = from.choose_index(lines.len())?;
    let other = from.choose_index(lines.len())?;
    match from.int_in_range(0..=9)? {
        0 => drop(lines.remove(at)),
        1 => lines.insert(other, lines[at].clone()),
        2 => lines.swap(at, other),
        3 => lines[at] = lines[at].repeat(from.int_in_range(2..=40)?),
        _ => {
            let line = &mut lines[at];
            let starts: Vec<usize> = line
                .iter()
                .enumerate()
                .filter(|(_, byte)| matches!(byte, b'=' | b':' | b',' | b'[' | b' ' | b';'))
                .map(|(place, _)| place + 1)
                .collect();
            let start = if starts.is_empty() { 0 } else { *from.choose(&starts)? };
            let length = line[start..].iter().position(|byte| matches!(byte, b',' | b']' | b';' | b'\r'));
            let end = length.map_or(line.len(), |length| start + length);
            let odd: Odd = from.arbitrary()?;
            let value = odd.text();
            let value = if from.ratio(1, 2)? { value.trim_matches('"') } else { &value };
            line.splice(start..end, value.bytes());
        }
    }
    *input = lines.join(&b'\n');
    Ok(())
}

/// Numbers that lengths and counts go wrong at.
const SIZES: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// Changes bytes, whatever they mean.
fn bytes(seeds: &[Vec<u8>], from: &mut Unstructured<'_>, input: &mut Vec<u8>) -> Result<()> {
    let at = if input.is_empty() { 0 } else { from.choose_index(input.len())? };
    let left = input.len() - at;
    let length = from.int_in_range(0..=left.min(64))?;
    match from.int_in_range(0..=7)? {
        0 if left > 0 => input[at] ^= 1 << from.int_in_range(0..=7)?,
        1 if left > 0 => input[at] = from.arbitrary()?,
        2 => drop(input.drain(at..at + length)),
        3 => {
            let new: Vec<u8> = from.arbitrary()?;
            input.splice(at..at, new);
        }
        4 => {
            let again = input[at..at + length].repeat(from.int_in_range(1..=64)?);
            input.splice(at..at, again);
        }
        5 => input.truncate(at),
        6 => {
            let size = from.choose(&SIZES)?.to_le_bytes();
            let width = *from.choose(&[1, 2, 4, 8])?;
            for (byte, new) in input[at..].iter_mut().zip(&size[..width]) {
                *byte = *new;
            }
        }
        _ if !seeds.is_empty() => {
            let other = from.choose(seeds)?;
            let cut = if other.is_empty() { 0 } else { from.choose_index(other.len())? };
            input.truncate(at);
            input.extend_from_slice(&other[cut..]);
        }
        _ => input.reverse(),
    }
    Ok(())
}

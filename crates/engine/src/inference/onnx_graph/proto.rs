//! Decodes an ONNX file: the few fields that its formats use, from the wire into the plain types of `graph.rs`.
//!
//! Nothing is allocated from a size a file merely declares: protobuf lengths are checked against the bytes that are
//! there, tensor shapes against the numbers that are there, and parts are counted as they are decoded (an empty one
//! takes two bytes in the file and a hundred in memory).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::graph::{Attribute, Declared, Graph, Node, Number, Tensor};
use super::wire::{Value, WireField, doubles, fields, singles, varints};

/// Largest model file read, in bytes.
const MOST_BYTES: usize = 512 << 20;
/// Nodes, attributes, initializers, names and the like in one file.
const MOST_PARTS: usize = 1 << 20;
/// Strings in attributes: a tree ensemble has one per tree node.
const MOST_STRINGS: usize = 1 << 24;
/// `TensorProto.data_location` for numbers kept in another file.
const EXTERNAL: i32 = 1;

/// What a file holds beside its graph.
pub(super) struct Decoded {
    pub(super) graph: Graph,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Decodes a model; the error says what is wrong with it.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    if bytes.len() > MOST_BYTES {
        return Err(format!("{} bytes, at most {MOST_BYTES} are read", bytes.len()));
    }
    // One copy, so that the texts of attributes can be slices of it instead of allocations of their own.
    let file = Bytes::copy_from_slice(bytes);
    Decoder { file: file.clone(), parts: 0, strings: 0 }.model(&file)
}

/// Decodes messages and counts what they hold.
struct Decoder {
    file: Bytes,
    parts: usize,
    strings: usize,
}

impl Decoder {
    fn model(&mut self, message: &[u8]) -> Result<Decoded, String> {
        let mut graph = None;
        let mut opsets = Vec::new();
        let mut metadata = BTreeMap::new();
        for field in fields(message) {
            let WireField { number, value, .. } = self.part(field?)?;
            match number {
                7 if graph.is_some() => return Err("it has several graphs".to_owned()),
                7 => graph = Some(self.graph(value.content()?)?),
                8 => opsets.push(operator_set(value.content()?)?),
                14 => metadata.extend([entry(value.content()?)?]),
                _ => {}
            }
        }
        let graph = graph.ok_or("it has no graph")?;
        Ok(Decoded { graph: Graph { opsets, ..graph }, metadata })
    }

    fn graph(&mut self, message: &[u8]) -> Result<Graph, String> {
        let mut graph = Graph::default();
        for field in fields(message) {
            let WireField { number, value, .. } = self.part(field?)?;
            match number {
                1 => graph.nodes.push(self.node(value.content()?)?),
                5 => {
                    let written = WrittenTensor::read(value.content()?)?;
                    let name = written.name.clone();
                    let tensor = written.tensor().map_err(|reason| format!("initializer `{name}`: {reason}"))?;
                    graph.initializers.insert(name, tensor);
                }
                11 => graph.inputs.push(declared(value.content()?)?),
                12 => graph.outputs.push(declared(value.content()?)?.name),
                _ => {}
            }
        }
        // Before IR version 4 initializers are listed as inputs too; they are not something a caller gives.
        graph.inputs.retain(|input| !graph.initializers.contains_key(&input.name));
        Ok(graph)
    }

    fn node(&mut self, message: &[u8]) -> Result<Node, String> {
        let mut node = Node::default();
        let mut attributes = Vec::new();
        for field in fields(message) {
            let WireField { number, value, .. } = self.part(field?)?;
            match number {
                1 => node.inputs.push(text(value)?),
                2 => node.outputs.push(text(value)?),
                4 => node.operator = text(value)?,
                5 => attributes.push(self.attribute(value.content()?)?),
                7 => node.domain = text(value)?,
                _ => {}
            }
        }
        for mut written in attributes {
            let name = std::mem::take(&mut written.name);
            let value =
                written.value().map_err(|reason| format!("attribute `{name}` of `{}`: {reason}", node.operator))?;
            node.attributes.extend(value.map(|value| (name, value)));
        }
        Ok(node)
    }

    fn attribute<'f>(&mut self, message: &'f [u8]) -> Result<WrittenAttribute<'f>, String> {
        let mut written = WrittenAttribute::default();
        for field in fields(message) {
            let WireField { number, value, .. } = field?;
            match number {
                1 => written.name = text(value)?,
                2 => singles(value, |number| written.float = Some(number))?,
                3 => written.int = Some(value.whole()?),
                4 => written.text = Some(self.slice(value.content()?)),
                5 => written.tensor = Some(WrittenTensor::read(value.content()?)?),
                7 => singles(value, |number| written.floats.push(number))?,
                8 => varints(value, |number| written.ints.push(number.cast_signed()))?,
                9 => {
                    self.strings += 1;
                    if self.strings > MOST_STRINGS {
                        return Err(format!("more than {MOST_STRINGS} strings"));
                    }
                    written.texts.push(self.slice(value.content()?));
                }
                20 => written.kind = value.whole()?,
                _ => {}
            }
        }
        Ok(written)
    }

    /// Counts a field of a model, a graph or a node: those hold whatever repeats.
    fn part<'f>(&mut self, field: WireField<'f>) -> Result<WireField<'f>, String> {
        self.parts += usize::from(matches!(field.value, Value::Bytes(_)));
        if self.parts > MOST_PARTS { Err(format!("more than {MOST_PARTS} parts")) } else { Ok(field) }
    }

    fn slice(&self, content: &[u8]) -> Bytes {
        self.file.slice_ref(content)
    }
}

fn text(value: Value<'_>) -> Result<String, String> {
    let text = std::str::from_utf8(value.content()?).map_err(|_| "a name is not UTF-8")?;
    Ok(text.to_owned())
}

fn operator_set(message: &[u8]) -> Result<(String, i64), String> {
    let mut domain = String::new();
    let mut version = 0;
    for field in fields(message) {
        let WireField { number, value, .. } = field?;
        match number {
            1 => domain = text(value)?,
            2 => version = value.whole()?,
            _ => {}
        }
    }
    Ok((domain, version))
}

/// One of the file's key-value pairs.
fn entry(message: &[u8]) -> Result<(String, String), String> {
    let mut key = String::new();
    let mut kept = String::new();
    for field in fields(message) {
        let WireField { number, value, .. } = field?;
        match number {
            1 => key = text(value)?,
            2 => kept = text(value)?,
            _ => {}
        }
    }
    Ok((key, kept))
}

fn declared(message: &[u8]) -> Result<Declared, String> {
    let mut declared = Declared { name: String::new(), rank: 0, width: Some(1), number: Number::Other };
    for field in fields(message) {
        let WireField { number, value, .. } = field?;
        match number {
            1 => declared.name = text(value)?,
            2 => {
                for kind in messages(value, 1) {
                    tensor_type(kind?, &mut declared)?;
                }
            }
            _ => {}
        }
    }
    if declared.rank == 0 {
        declared.width = None;
    }
    Ok(declared)
}

fn tensor_type(message: &[u8], declared: &mut Declared) -> Result<(), String> {
    for field in fields(message) {
        let WireField { number, value, .. } = field?;
        match number {
            1 => declared.number = self::number(value.whole()? as i32),
            2 => {
                for dimension in messages(value, 1) {
                    declared.rank += 1;
                    let mut size = None;
                    for field in fields(dimension?) {
                        let WireField { number, value, .. } = field?;
                        if number == 1 {
                            size = usize::try_from(value.whole()?).ok().filter(|&size| size > 0);
                        }
                    }
                    // The first dimension is the rows, whatever it says.
                    if declared.rank > 1 {
                        declared.width = declared.width.zip(size).and_then(|(width, size)| width.checked_mul(size));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The nested messages of one field number.
fn messages(value: Value<'_>, wanted: u64) -> impl Iterator<Item = Result<&[u8], String>> {
    fields(value.bytes()).filter_map(move |field| match field {
        Ok(field) if field.number == wanted => Some(field.value.content().map_err(str::to_owned)),
        Ok(_) => None,
        Err(torn) => Some(Err(torn)),
    })
}

/// An attribute as it is written: any of its fields may be there.
#[derive(Default)]
struct WrittenAttribute<'f> {
    name: String,
    float: Option<f32>,
    int: Option<i64>,
    text: Option<Bytes>,
    tensor: Option<WrittenTensor<'f>>,
    floats: Vec<f32>,
    ints: Vec<i64>,
    texts: Vec<Bytes>,
    kind: i64,
}

impl WrittenAttribute<'_> {
    /// `type` says which field is meant; a file older than it has only one of them set. A writer may leave out a zero.
    fn value(self) -> Result<Option<Attribute>, String> {
        let kind = match self.kind {
            0 if self.float.is_some() => 1,
            0 if self.int.is_some() => 2,
            0 if self.text.is_some() => 3,
            0 if self.tensor.is_some() => 4,
            0 if !self.floats.is_empty() => 6,
            0 if !self.ints.is_empty() => 7,
            0 if !self.texts.is_empty() => 8,
            kind => kind,
        };
        Ok(match kind {
            1 => Some(Attribute::Float(self.float.unwrap_or_default())),
            2 => Some(Attribute::Int(self.int.unwrap_or_default())),
            3 => Some(Attribute::Text(self.text.unwrap_or_default())),
            4 => Some(Attribute::Tensor(self.tensor.unwrap_or_default().tensor()?)),
            6 => Some(Attribute::Floats(self.floats)),
            7 => Some(Attribute::Ints(self.ints)),
            8 => Some(Attribute::Texts(self.texts)),
            // Subgraphs, types and the like: no operator this program runs has one.
            _ => None,
        })
    }
}

/// A tensor as it is written: its numbers stand in one of several lists.
#[derive(Default)]
struct WrittenTensor<'f> {
    name: String,
    dims: Vec<i64>,
    kind: i32,
    singles: Vec<f32>,
    small: Vec<i32>,
    whole: Vec<i64>,
    doubles: Vec<f64>,
    raw: &'f [u8],
    is_elsewhere: bool,
}

impl<'f> WrittenTensor<'f> {
    fn read(message: &'f [u8]) -> Result<Self, String> {
        let mut written = Self::default();
        for field in fields(message) {
            let WireField { number, value, .. } = field?;
            match number {
                1 => varints(value, |dim| written.dims.push(dim.cast_signed()))?,
                2 => written.kind = value.whole()? as i32,
                4 => singles(value, |number| written.singles.push(number))?,
                5 => varints(value, |number| written.small.push(number as i32))?,
                7 => varints(value, |number| written.whole.push(number.cast_signed()))?,
                8 => written.name = text(value)?,
                9 => written.raw = value.content()?,
                10 => doubles(value, |number| written.doubles.push(number))?,
                13 => written.is_elsewhere = true,
                14 => written.is_elsewhere |= value.whole()? as i32 == EXTERNAL,
                _ => {}
            }
        }
        Ok(written)
    }

    fn tensor(self) -> Result<Tensor, String> {
        if self.is_elsewhere {
            return Err("its numbers are kept in another file".to_owned());
        }
        let mut dims = Vec::with_capacity(self.dims.len());
        let mut expected = 1_usize;
        for &dim in &self.dims {
            let dim = usize::try_from(dim).map_err(|_| format!("a dimension is `{dim}`"))?;
            expected = expected.checked_mul(dim).ok_or("its shape is too large")?;
            dims.push(dim);
        }
        let raw = self.raw;
        let values: Vec<f64> = match (self.kind, raw.is_empty()) {
            (1, true) => self.singles.into_iter().map(f64::from).collect(),
            (1, false) => raw.as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect(),
            (11, true) => self.doubles,
            (11, false) => raw.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
            (7, true) => self.whole.into_iter().map(|value| value as f64).collect(),
            (7, false) => raw.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as f64).collect(),
            (2 | 3 | 6 | 9, true) => self.small.into_iter().map(f64::from).collect(),
            (6, false) => raw.as_chunks().0.iter().map(|&bytes| f64::from(i32::from_le_bytes(bytes))).collect(),
            (2 | 9, false) => raw.iter().map(|&byte| f64::from(byte)).collect(),
            (3, false) => raw.iter().map(|&byte| f64::from(byte.cast_signed())).collect(),
            // Text and the narrow floats: kept without their content, refused where a number is needed.
            _ => return Ok(Tensor { dims: vec![0], number: Number::Other, values: Vec::new() }),
        };
        if values.len() != expected {
            return Err(format!("its shape {dims:?} asks for {expected} numbers and it has {}", values.len()));
        }
        Ok(Tensor { dims, number: number(self.kind), values })
    }
}

fn number(data_type: i32) -> Number {
    match data_type {
        1 => Number::Single,
        11 => Number::Double,
        2 | 3 | 6 | 7 | 9 => Number::Whole,
        _ => Number::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{put_bytes, put_varint};
    use super::super::{OnnxModel, load};
    use super::*;

    /// A field that holds bytes: a text, packed numbers or a message.
    fn part(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, number, content.as_ref());
        out
    }

    fn whole(number: u64, value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, number << 3);
        put_varint(&mut out, value.cast_unsigned());
        out
    }

    fn input(name: &str) -> Vec<u8> {
        let shape = [part(1, ""), part(1, whole(1, 2))].concat();
        let tensor = [whole(1, 1), part(2, shape)].concat();
        [part(1, name), part(2, part(1, tensor))].concat()
    }

    fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
        let inputs: Vec<_> = inputs.iter().map(|name| part(1, name)).collect();
        [inputs.concat(), part(2, output), part(4, operator)].concat()
    }

    fn model(nodes: &[Vec<u8>], initializers: &[Vec<u8>]) -> Vec<u8> {
        let nodes = nodes.iter().map(|node| part(1, node));
        let initializers = initializers.iter().map(|tensor| part(5, tensor));
        let graph: Vec<_> = nodes.chain(initializers).chain([part(11, input("x")), part(12, input("y"))]).collect();
        part(7, graph.concat())
    }

    fn constant(dims: &[i64], numbers: &[f32]) -> Vec<u8> {
        let dims: Vec<_> = dims.iter().map(|&dim| whole(1, dim)).collect();
        let numbers: Vec<_> = numbers.iter().map(|number| number.to_le_bytes()).collect();
        [dims.concat(), whole(2, 1), part(4, numbers.concat()), part(8, "c")].concat()
    }

    /// A whole number as a node's attribute.
    fn setting(name: &str, value: i64) -> Vec<u8> {
        part(5, [part(1, name), whole(3, value), whole(20, 2)].concat())
    }

    fn refusal(model: &[u8]) -> String {
        match decode(model) {
            Ok(_) => String::new(),
            Err(reason) => reason,
        }
    }

    #[test]
    fn metadata_and_inputs_are_read() {
        let mut model = model(&[node("Identity", &["x"], "y")], &[]);
        model.extend(part(14, [part(1, "scoreline"), part(2, "name = 1")].concat()));
        let read = OnnxModel::parse(&model).expect("readable");
        assert_eq!(read.metadata().get("scoreline").map(String::as_str), Some("name = 1"));
        let inputs = read.inputs();
        assert_eq!((inputs[0].name.as_str(), inputs[0].width, inputs[0].numeric), ("x", Some(2), true));
        assert_eq!(read.outputs(), ["y"]);
    }

    #[test]
    fn tensors_are_checked_against_what_is_there() {
        let refused = |tensor| refusal(&model(&[], &[tensor]));
        let two = [1.0, 2.0];
        assert_eq!(refused(constant(&[2], &two)), "");
        assert_eq!(
            refused(constant(&[1 << 40], &two)),
            "initializer `c`: its shape [1099511627776] asks for 1099511627776 numbers and it has 2"
        );
        assert_eq!(refused(constant(&[i64::MAX; 3], &two)), "initializer `c`: its shape is too large");
        assert_eq!(refused(constant(&[-2], &two)), "initializer `c`: a dimension is `-2`");
        let elsewhere = [constant(&[2], &two), whole(14, i64::from(EXTERNAL))].concat();
        assert_eq!(refused(elsewhere), "initializer `c`: its numbers are kept in another file");
    }

    #[test]
    fn a_field_of_another_type_is_refused() {
        let graph_in_a_number = whole(7, 1);
        assert_eq!(refusal(&graph_in_a_number), "a field holds a number where a text or a message belongs");
        let name_in_a_number = model(&[whole(4, 1)], &[]);
        assert_eq!(refusal(&name_in_a_number), "a field holds a number where a text or a message belongs");
        let torn_numbers = [whole(2, 1), part(4, [0; 5])].concat();
        assert_eq!(refusal(&model(&[], &[torn_numbers])), "the file ends in the middle of a field");
        let text_as_dimension = [whole(2, 1), part(2, "1")].concat();
        assert_eq!(refusal(&model(&[], &[text_as_dimension])), "a field holds something else than a whole number");
        assert_eq!(refusal(&model(&[part(4, [0xff])], &[])), "a name is not UTF-8");
    }

    #[test]
    fn too_many_parts_are_refused_as_they_are_decoded() {
        let many = model(&vec![Vec::new(); MOST_PARTS], &[]);
        assert_eq!(refusal(&many), format!("more than {MOST_PARTS} parts"));
        assert_eq!(refusal(&[]), "it has no graph");
        assert_eq!(refusal(&[model(&[], &[]), model(&[], &[])].concat()), "it has several graphs");
    }

    #[test]
    fn an_unknown_operator_is_named() {
        let compiled = |node| {
            let model = OnnxModel::parse(&model(&[node], &[])).expect("readable");
            load(&model, &["a", "b"], "trees").err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(compiled(node("TopK", &["x"], "y")), "trees backend does not support operator `TopK`");
        let foreign = [node("Add", &["x", "x"], "y"), part(7, "com.example")].concat();
        assert_eq!(compiled(foreign), "trees backend does not support operator `Add` of domain `com.example`");
        assert_eq!(
            compiled(node("Exp", &["z"], "y")),
            "model file is not readable as ONNX: operator `Exp`: its input `z` is not computed before it"
        );
        assert_eq!(compiled(node("Exp", &["x"], "y")), "");
    }

    #[test]
    fn a_constant_without_numbers_is_refused() {
        let empty = constant(&[0, 1 << 40, 1 << 40], &[]);
        for operator in ["Concat", "Sum"] {
            let node = [node(operator, &["c", "c"], "y"), setting("axis", 0)].concat();
            let model = OnnxModel::parse(&model(&[node], std::slice::from_ref(&empty))).expect("readable");
            let refused = load(&model, &["a", "b"], "trees").err().map(|error| error.to_string());
            let expected = format!(
                "trees backend does not support operator `{operator}` with a constant that is not a few numbers"
            );
            assert_eq!(refused, Some(expected));
        }
    }

    #[test]
    fn a_small_file_cannot_ask_for_a_huge_program() {
        let nodes: Vec<_> = (0..64)
            .map(|at| {
                let from = if at == 0 { "x".to_owned() } else { at.to_string() };
                [node("Concat", &[&from, &from], &(at + 1).to_string()), setting("axis", 1)].concat()
            })
            .collect();
        let model = OnnxModel::parse(&model(&nodes, &[])).expect("readable");
        let refused = load(&model, &["a", "b"], "trees").err().map(|error| error.to_string());
        let expected = "trees backend does not support a graph that needs more than 65536 numbers for a row";
        assert_eq!(refused.as_deref(), Some(expected));
    }
}

//! The ONNX file format: the part of its protobuf schema this program reads, decoded into the plain types of
//! `graph.rs`.
//!
//! Nothing is allocated from a size a file merely declares: protobuf lengths are checked against the bytes that are
//! there, tensor shapes against the numbers that are there, and nested messages are counted before they are decoded
//! (an empty one takes two bytes in the file and a hundred in memory).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::graph::{Attribute, Declared, Graph, Node, Number, Tensor};
use super::wire::{Value, fields};

/// Largest model file read, in bytes.
const MOST_BYTES: usize = 512 << 20;
/// Nodes, attributes, initializers, names and the like in one file.
const MOST_MESSAGES: usize = 1 << 20;
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
    count_messages(bytes)?;
    // One copy, so that strings and raw tensors can be slices of it instead of allocations of their own.
    let model = ModelProto::decode(Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
    let graph = model.graph.ok_or("it has no graph")?;
    let mut initializers = BTreeMap::new();
    for proto in graph.initializer {
        let name = proto.name.clone();
        let tensor = tensor(proto).map_err(|reason| format!("initializer `{name}`: {reason}"))?;
        initializers.insert(name, tensor);
    }
    // Before IR version 4 initializers are listed as inputs too; they are not something a caller gives.
    let given = graph.input.into_iter().filter(|info| !initializers.contains_key(&info.name));
    let inputs = given.map(declared).collect();
    let outputs = graph.output.into_iter().map(|info| info.name).collect();
    let nodes = graph.node.into_iter().map(node).collect::<Result<_, _>>()?;
    let opsets = model.opset_import.into_iter().map(|set| (set.domain, set.version)).collect();
    let metadata = model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    Ok(Decoded { graph: Graph { nodes, initializers, inputs, outputs, opsets }, metadata })
}

fn declared(info: ValueInfoProto) -> Declared {
    let tensor = info.r#type.and_then(|kind| kind.tensor_type).unwrap_or_default();
    let sizes = tensor.shape.map(|shape| shape.dim).unwrap_or_default();
    // The first dimension is the rows, whatever it says.
    let mut width = Some(1_usize);
    for size in sizes.iter().skip(1) {
        let size = size.dim_value.and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0);
        width = width.zip(size).and_then(|(width, size)| width.checked_mul(size));
    }
    Declared {
        name: info.name,
        rank: sizes.len(),
        width: if sizes.is_empty() { None } else { width },
        number: number(tensor.elem_type),
    }
}

fn node(proto: NodeProto) -> Result<Node, String> {
    let mut attributes = BTreeMap::new();
    for mut attribute in proto.attribute {
        let name = std::mem::take(&mut attribute.name);
        if let Some(value) =
            value(attribute).map_err(|reason| format!("attribute `{name}` of `{}`: {reason}", proto.op_type))?
        {
            attributes.insert(name, value);
        }
    }
    Ok(Node { operator: proto.op_type, domain: proto.domain, inputs: proto.input, outputs: proto.output, attributes })
}

/// `type` says which field is meant; a file older than it has only one of them set. A writer may leave out a zero.
fn value(proto: AttributeProto) -> Result<Option<Attribute>, String> {
    let kind = match proto.r#type {
        0 if proto.f.is_some() => 1,
        0 if proto.i.is_some() => 2,
        0 if proto.s.is_some() => 3,
        0 if proto.t.is_some() => 4,
        0 if !proto.floats.is_empty() => 6,
        0 if !proto.ints.is_empty() => 7,
        0 if !proto.strings.is_empty() => 8,
        kind => kind,
    };
    Ok(match kind {
        1 => Some(Attribute::Float(proto.f.unwrap_or_default())),
        2 => Some(Attribute::Int(proto.i.unwrap_or_default())),
        3 => Some(Attribute::Text(proto.s.unwrap_or_default())),
        4 => Some(Attribute::Tensor(tensor(proto.t.unwrap_or_default())?)),
        6 => Some(Attribute::Floats(proto.floats)),
        7 => Some(Attribute::Ints(proto.ints)),
        8 => Some(Attribute::Texts(proto.strings)),
        // Subgraphs, types and the like: no operator this program runs has one.
        _ => None,
    })
}

fn tensor(proto: TensorProto) -> Result<Tensor, String> {
    if proto.data_location == EXTERNAL || proto.external_data.is_some() {
        return Err("its numbers are kept in another file".to_owned());
    }
    let mut dims = Vec::with_capacity(proto.dims.len());
    let mut expected = 1_usize;
    for &dim in &proto.dims {
        let dim = usize::try_from(dim).map_err(|_| format!("a dimension is `{dim}`"))?;
        expected = expected.checked_mul(dim).ok_or("its shape is too large")?;
        dims.push(dim);
    }
    let number = number(proto.data_type);
    let raw = &proto.raw_data;
    let values: Vec<f64> = match (proto.data_type, raw.is_empty()) {
        (1, true) => proto.float_data.iter().map(|&value| f64::from(value)).collect(),
        (1, false) => raw.as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect(),
        (11, true) => proto.double_data,
        (11, false) => raw.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
        (7, true) => proto.int64_data.iter().map(|&value| value as f64).collect(),
        (7, false) => raw.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as f64).collect(),
        (2 | 3 | 6 | 9, true) => proto.int32_data.iter().map(|&value| f64::from(value)).collect(),
        (6, false) => raw.as_chunks().0.iter().map(|&bytes| f64::from(i32::from_le_bytes(bytes))).collect(),
        (2 | 9, false) => raw.iter().map(|&byte| f64::from(byte)).collect(),
        (3, false) => raw.iter().map(|&byte| f64::from(byte.cast_signed())).collect(),
        // Text and the narrow floats: kept without their content, refused where a number is needed.
        _ => return Ok(Tensor { dims: vec![0], number: Number::Other, values: Vec::new() }),
    };
    if values.len() != expected {
        return Err(format!("its shape {dims:?} asks for {expected} numbers and it has {}", values.len()));
    }
    Ok(Tensor { dims, number, values })
}

fn number(data_type: i32) -> Number {
    match data_type {
        1 => Number::Single,
        11 => Number::Double,
        2 | 3 | 6 | 7 | 9 => Number::Whole,
        _ => Number::Other,
    }
}

fn count_messages(bytes: &[u8]) -> Result<(), String> {
    const GRAPH: u64 = 7;
    const NODE: u64 = 1;
    const ATTRIBUTE: u64 = 5;
    const STRINGS: u64 = 9;
    let (mut messages, mut strings) = (0_usize, 0_usize);
    // Fields nest as model, graph, node, attribute; anything else that repeats is counted where it is.
    each_field(bytes, &mut |field, content| {
        messages += 1;
        let graph = if field == GRAPH { content } else { &[] };
        each_field(graph, &mut |field, content| {
            messages += 1;
            let node = if field == NODE { content } else { &[] };
            each_field(node, &mut |field, content| {
                messages += 1;
                let attribute = if field == ATTRIBUTE { content } else { &[] };
                each_field(attribute, &mut |field, _| {
                    strings += usize::from(field == STRINGS);
                    Ok(())
                })
            })
        })
    })?;
    if messages > MOST_MESSAGES {
        return Err(format!("{messages} parts, at most {MOST_MESSAGES} are read"));
    }
    if strings > MOST_STRINGS {
        return Err(format!("{strings} strings, at most {MOST_STRINGS} are read"));
    }
    Ok(())
}

type Visit<'a> = dyn FnMut(u64, &[u8]) -> Result<(), String> + 'a;

/// Visits the length-delimited fields of one protobuf message: strings, bytes, packed numbers and nested messages.
fn each_field(bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), String> {
    for field in fields(bytes) {
        let field = field?;
        if let Value::Bytes(content) = field.value {
            visit(field.number, content)?;
        }
    }
    Ok(())
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    s: Option<Bytes>,
    #[prost(message, optional, tag = "5")]
    t: Option<TensorProto>,
    #[prost(float, repeated, tag = "7")]
    floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    strings: Vec<Bytes>,
    #[prost(int32, tag = "20")]
    r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    /// Only whether there is any: the last entry, undecoded.
    #[prost(bytes = "bytes", optional, tag = "13")]
    external_data: Option<Bytes>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::super::{OnnxModel, load};
    use super::*;

    fn input(name: &str) -> ValueInfoProto {
        let dim = vec![DimensionProto { dim_value: None }, DimensionProto { dim_value: Some(2) }];
        let tensor = TensorTypeProto { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
        ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
    }

    fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            op_type: operator.to_owned(),
            ..NodeProto::default()
        }
    }

    fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
        let graph = GraphProto { node, initializer, input: vec![input("x")], output: vec![input("y")] };
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    fn constant(dims: Vec<i64>, float_data: Vec<f32>) -> TensorProto {
        TensorProto { dims, data_type: 1, float_data, name: "c".to_owned(), ..TensorProto::default() }
    }

    fn refusal(model: &ModelProto) -> String {
        match decode(&model.encode_to_vec()) {
            Ok(_) => String::new(),
            Err(reason) => reason,
        }
    }

    #[test]
    fn metadata_and_inputs_are_read() {
        let mut model = model(vec![node("Identity", &["x"], "y")], Vec::new());
        let entry = StringStringEntryProto { key: "scoreline".to_owned(), value: "name = 1".to_owned() };
        model.metadata_props.push(entry);
        let read = OnnxModel::parse(&model.encode_to_vec()).expect("readable");
        assert_eq!(read.metadata().get("scoreline").map(String::as_str), Some("name = 1"));
        let inputs = read.inputs();
        assert_eq!((inputs[0].name.as_str(), inputs[0].width, inputs[0].numeric), ("x", Some(2), true));
        assert_eq!(read.outputs(), ["y"]);
    }

    #[test]
    fn tensors_are_checked_against_what_is_there() {
        let refused = |tensor| refusal(&model(Vec::new(), vec![tensor]));
        let two = vec![1.0, 2.0];
        assert_eq!(refused(constant(vec![2], two.clone())), "");
        assert_eq!(
            refused(constant(vec![1 << 40], two.clone())),
            "initializer `c`: its shape [1099511627776] asks for 1099511627776 numbers and it has 2"
        );
        assert_eq!(refused(constant(vec![i64::MAX; 3], two.clone())), "initializer `c`: its shape is too large");
        assert_eq!(refused(constant(vec![-2], two.clone())), "initializer `c`: a dimension is `-2`");
        let elsewhere = TensorProto { data_location: EXTERNAL, ..constant(vec![2], two) };
        assert_eq!(refused(elsewhere), "initializer `c`: its numbers are kept in another file");
    }

    #[test]
    fn too_many_parts_are_refused_before_they_are_decoded() {
        let many = model(vec![NodeProto::default(); MOST_MESSAGES], Vec::new());
        assert_eq!(refusal(&many), format!("{} parts, at most {MOST_MESSAGES} are read", MOST_MESSAGES + 3));
        assert_eq!(refusal(&ModelProto::default()), "it has no graph");
    }

    #[test]
    fn an_unknown_operator_is_named() {
        let compiled = |node| {
            let model = OnnxModel::parse(&model(vec![node], Vec::new()).encode_to_vec()).expect("readable");
            load(&model, &["a", "b"], "trees").err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(compiled(node("TopK", &["x"], "y")), "trees backend does not support operator `TopK`");
        let foreign = NodeProto { domain: "com.example".to_owned(), ..node("Add", &["x", "x"], "y") };
        assert_eq!(compiled(foreign), "trees backend does not support operator `Add` of domain `com.example`");
        assert_eq!(
            compiled(node("Exp", &["z"], "y")),
            "model file is not readable as ONNX: operator `Exp`: its input `z` is not computed before it"
        );
        assert_eq!(compiled(node("Exp", &["x"], "y")), "");
    }

    #[test]
    fn a_constant_without_numbers_is_refused() {
        let empty = constant(vec![0, 1 << 40, 1 << 40], Vec::new());
        let axis = AttributeProto { name: "axis".to_owned(), r#type: 2, ..Default::default() };
        for operator in ["Concat", "Sum"] {
            let node = NodeProto { attribute: vec![axis.clone()], ..node(operator, &["c", "c"], "y") };
            let model = OnnxModel::parse(&model(vec![node], vec![empty.clone()]).encode_to_vec()).expect("readable");
            let refused = load(&model, &["a", "b"], "trees").err().map(|error| error.to_string());
            let expected = format!(
                "trees backend does not support operator `{operator}` with a constant that is not a few numbers"
            );
            assert_eq!(refused, Some(expected));
        }
    }

    #[test]
    fn a_small_file_can_not_ask_for_a_huge_program() {
        let mut nodes = vec![node("Concat", &["x", "x"], "1")];
        nodes.extend((1..64).map(|at| {
            let from = at.to_string();
            node("Concat", &[&from, &from], &(at + 1).to_string())
        }));
        for node in &mut nodes {
            node.attribute.push(AttributeProto {
                name: "axis".to_owned(),
                i: Some(1),
                r#type: 2,
                ..Default::default()
            });
        }
        let model = OnnxModel::parse(&model(nodes, Vec::new()).encode_to_vec()).expect("readable");
        let refused = load(&model, &["a", "b"], "trees").err().map(|error| error.to_string());
        let expected = "trees backend does not support a graph that needs more than 65536 numbers for a row";
        assert_eq!(refused.as_deref(), Some(expected));
    }
}

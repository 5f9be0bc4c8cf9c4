//! ONNX files written field by field, good ones and such as no exporter would write.

/// A length-delimited field.
pub fn field(number: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut out = Vec::with_capacity(content.len() + 8);
    put(&mut out, u64::from(number) << 3 | 2);
    put(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

/// A whole number.
pub fn whole(number: u8, value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, u64::from(number) << 3);
    put(&mut out, value.cast_unsigned());
    out
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn node(operator: &str, domain: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut parts: Vec<_> = inputs.iter().map(|input| field(1, input)).collect();
    parts.extend([field(2, output), field(4, operator), field(7, domain)]);
    parts.extend(attributes.iter().map(|attribute| field(5, attribute)));
    field(1, parts.concat())
}

pub fn floats(name: &str, values: &[f32]) -> Vec<u8> {
    let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [field(1, name), field(7, packed), whole(20, 6)].concat()
}

pub fn int(name: &str, value: i64) -> Vec<u8> {
    [field(1, name), whole(3, value), whole(20, 2)].concat()
}

pub fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let values = values.iter().map(|value| whole(8, *value)).collect::<Vec<_>>().concat();
    [field(1, name), values, whole(20, 7)].concat()
}

pub fn texts(name: &str, values: &[&str]) -> Vec<u8> {
    let values = values.iter().map(|value| field(9, value)).collect::<Vec<_>>().concat();
    [field(1, name), values, whole(20, 8)].concat()
}

/// A tensor's own message: of floats, with these fields behind it.
pub fn tensor(name: &str, dims: &[i64], values: &[f32], more: &[Vec<u8>]) -> Vec<u8> {
    let dims = dims.iter().map(|dim| whole(1, *dim)).collect::<Vec<_>>().concat();
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [dims, whole(2, 1), field(8, name), field(9, raw), more.concat()].concat()
}

/// `[N, width]` floats; `None` leaves the width open.
pub fn value_info(name: &str, width: Option<i64>) -> Vec<u8> {
    let rows = field(1, field(2, "N"));
    let columns = field(1, width.map(|width| whole(1, width)).unwrap_or_default());
    let shape = field(2, [rows, columns].concat());
    [field(1, name), field(2, field(1, [whole(1, 1), shape].concat()))].concat()
}

/// A model of these nodes and further fields of its graph.
pub fn model(nodes: &[Vec<u8>], graph: &[Vec<u8>]) -> Vec<u8> {
    let graph = [nodes.concat(), field(2, "graph"), graph.concat()].concat();
    let opset = |domain: &str, version| field(8, [field(1, domain), whole(2, version)].concat());
    [whole(1, 8), field(7, graph), opset("", 17), opset("ai.onnx.ml", 3)].concat()
}

pub fn features(width: i64) -> Vec<u8> {
    field(11, value_info("features", Some(width)))
}

pub fn output() -> Vec<u8> {
    field(12, value_info("value", Some(1)))
}

/// value = intercept + coefficients × features.
pub fn linear(coefficients: &[f32], intercept: f32) -> Vec<u8> {
    let attributes = [floats("coefficients", coefficients), floats("intercepts", &[intercept]), int("targets", 1)];
    let node = node("LinearRegressor", "ai.onnx.ml", &["features"], "value", &attributes);
    model(&[node], &[features(i64::try_from(coefficients.len()).expect("few")), output()])
}

/// One split on the first feature, with what a test wants to change.
pub fn tree(threshold: f32, targets: i64, more: &[Vec<u8>]) -> Vec<u8> {
    let mut attributes = vec![
        ints("nodes_treeids", &[0, 0, 0]),
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_featureids", &[0, 0, 0]),
        floats("nodes_values", &[threshold, 0.0, 0.0]),
        texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        ints("nodes_truenodeids", &[1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0]),
        ints("target_treeids", &[0, 0]),
        ints("target_nodeids", &[1, 2]),
        ints("target_ids", &[0, 0]),
        floats("target_weights", &[1.0, 2.0]),
        int("n_targets", targets),
    ];
    attributes.extend_from_slice(more);
    let node = node("TreeEnsembleRegressor", "ai.onnx.ml", &["features"], "value", &attributes);
    model(&[node], &[features(4), output()])
}

/// So many trees of `2^depth` leaves over the four features of the test bundle: a boosted ensemble of the usual shape, of
/// drawn thresholds and leaves. Its answers lie around 20.
pub fn forest(trees: u16, depth: u32) -> Vec<u8> {
    const SPANS: [(f32, f32); 4] = [(0.0, 365.0), (0.0, 60.0), (-1.0, 1.0), (0.0, 12.0)];
    let mut draw = fastrand::Rng::with_seed(7);
    let (branches, nodes) = ((1 << depth) - 1, (1 << (depth + 1)) - 1);
    let all = || (0..i64::from(trees)).flat_map(|tree| (0..nodes).map(move |node| (tree, node)));
    let leaves = || all().filter(|(_, node)| *node >= branches);
    let of_branch = |value: i64, node: i64| if node < branches { value } else { 0 };
    let columns: Vec<u8> = all().map(|_| draw.u8(0..4)).collect();
    let spans = columns.iter().map(|&column| SPANS[usize::from(column)]);
    let thresholds = spans.map(|(low, high)| low + draw.f32() * (high - low));
    let thresholds: Vec<f32> = thresholds.collect();
    let weights: Vec<f32> = leaves().map(|_| draw.f32() * 40.0 / f32::from(trees)).collect();
    let modes: Vec<&str> = all().map(|(_, node)| if node < branches { "BRANCH_LEQ" } else { "LEAF" }).collect();
    let numbers = |name: &str, numbers: &mut dyn Iterator<Item = i64>| ints(name, &numbers.collect::<Vec<_>>());
    let attributes = [
        numbers("nodes_treeids", &mut all().map(|(tree, _)| tree)),
        numbers("nodes_nodeids", &mut all().map(|(_, node)| node)),
        numbers("nodes_featureids", &mut columns.iter().map(|&column| column.into())),
        floats("nodes_values", &thresholds),
        texts("nodes_modes", &modes),
        numbers("nodes_truenodeids", &mut all().map(|(_, node)| of_branch(2 * node + 1, node))),
        numbers("nodes_falsenodeids", &mut all().map(|(_, node)| of_branch(2 * node + 2, node))),
        numbers("target_treeids", &mut leaves().map(|(tree, _)| tree)),
        numbers("target_nodeids", &mut leaves().map(|(_, node)| node)),
        numbers("target_ids", &mut leaves().map(|_| 0)),
        floats("target_weights", &weights),
        int("n_targets", 1),
    ];
    let node = node("TreeEnsembleRegressor", "ai.onnx.ml", &["features"], "value", &attributes);
    model(&[node], &[features(4), output()])
}

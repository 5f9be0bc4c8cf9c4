//! Looks at every field of an ONNX file before any runtime does, and refuses what no model for tables needs.
//!
//! ONNX Runtime 1.31 refuses most hostile files itself, but loads hard-linked external data, loops that never end, `NaN`
//! thresholds and a billion outputs. Nothing here is decoded into memory: the walk reads lengths and numbers where they
//! lie, and its depth is bounded.

use super::operators;
use super::wire::{Value, WireField, fields, varints};

/// Largest model file, in bytes.
const MOST_BYTES: usize = 512 << 20;
/// Largest single tensor, in bytes.
const MOST_TENSOR_BYTES: u64 = 256 << 20;
/// Graphs, types and the like inside each other.
const MOST_NESTING: u32 = 16;
/// Outputs a tree ensemble may say it has.
const MOST_TARGETS: u64 = 1024;
/// Problems that are told of one file.
const MOST_PROBLEMS: usize = 20;

/// Why a file is not given to a runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("is not readable as ONNX: {0}")]
    Torn(String),
    #[error("has {0} bytes, at most {MOST_BYTES} are read")]
    TooLarge(usize),
    #[error(
        "keeps numbers in another file ({0}): export everything into one (`torch.onnx.export` with `external_data=False`, `onnx.save` \
         with `save_as_external_data=False`)"
    )]
    ExternalData(String),
    #[error("uses operator `{operator}` of domain `{domain}`, which is not allowed{}", reason(operator))]
    Operator { domain: String, operator: String },
    #[error("holds {0}, which is not allowed")]
    Part(&'static str),
    #[error("{place} has the shape {dims:?}: {problem}")]
    TensorSize { place: String, dims: Vec<i64>, problem: String },
    #[error("{0} holds NaN, which is greater and smaller than nothing")]
    NotANumber(String),
    #[error("{place} = {value}, at most {most} is allowed")]
    Excess { place: String, value: i64, most: u64 },
    #[error("nests its parts more than {MOST_NESTING} deep")]
    Nesting,
    #[error("reads {0}")]
    Inputs(String),
    #[error("{0}")]
    LostStep(String),
}

fn reason(operator: &str) -> &'static str {
    match operator {
        "If" | "Loop" | "Scan" | "SequenceMap" => ": control flow may never end",
        _ if operator.starts_with("Random") || ["Bernoulli", "Multinomial"].contains(&operator) => {
            ": the same row must always get the same answer"
        }
        _ => "",
    }
}

impl Unfit {
    /// A short stable word for metrics and `models list`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Torn(_) => "malformed_model",
            Self::TooLarge(_) => "too_large",
            Self::ExternalData(_) => "external_data",
            Self::Operator { .. } | Self::Part(_) => "operator",
            Self::TensorSize { .. } | Self::Excess { .. } => "tensor_size",
            Self::NotANumber(_) => "not_a_number",
            Self::Nesting => "nesting",
            Self::Inputs(_) => "inputs",
            Self::LostStep(_) => "lost_step",
        }
    }
}

/// Checks a file; `features` are the columns the bundle gives, in order; `control_flow` lets `If`, `Loop` and `Scan` pass.
///
/// # Errors
/// The first problem.
pub fn screen(bytes: &[u8], features: &[&str], control_flow: bool) -> Result<(), Unfit> {
    screen_all(bytes, features, control_flow).into_iter().next().map_or(Ok(()), Err)
}

/// Every problem of a file, up to twenty.
pub fn screen_all(bytes: &[u8], features: &[&str], control_flow: bool) -> Vec<Unfit> {
    if bytes.len() > MOST_BYTES {
        return vec![Unfit::TooLarge(bytes.len())];
    }
    let mut walk = Walk { control_flow, ..Walk::default() };
    match walk.model(bytes) {
        Ok(()) => walk.check_inputs(features),
        Err(fatal) => walk.note(fatal),
    }
    walk.problems
}

/// A problem that ends the walk.
type Fatal = Unfit;

#[derive(Default)]
struct Walk {
    problems: Vec<Unfit>,
    inputs: Vec<Input>,
    initializers: Vec<String>,
    control_flow: bool,
}

#[derive(Default)]
struct Input {
    name: String,
    rank: usize,
    /// The second dimension, when it is fixed.
    width: Option<usize>,
}

impl Walk {
    fn note(&mut self, problem: Unfit) {
        if self.problems.len() < MOST_PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn model(&mut self, bytes: &[u8]) -> Result<(), Fatal> {
        let mut graphs = 0;
        let mut opsets = 0;
        for field in fields(bytes) {
            let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
            match number {
                7 => {
                    graphs += 1;
                    self.graph(value.bytes(), 0)?;
                }
                8 => opsets += 1,
                20 => self.note(Unfit::Part("a training graph")),
                25 => self.note(Unfit::Part("functions of its own")),
                _ => {}
            }
        }
        // Written in this order: a file that was cut in between has a graph and no operator set.
        match (graphs, opsets) {
            (1, 1..) => Ok(()),
            (0, _) => Err(Unfit::Torn("it has no graph".to_owned())),
            (1, 0) => Err(Unfit::Torn("it names no operator set; is it complete?".to_owned())),
            _ => Err(Unfit::Torn("it has several graphs".to_owned())),
        }
    }

    fn graph(&mut self, bytes: &[u8], depth: u32) -> Result<(), Fatal> {
        deeper(depth)?;
        for field in fields(bytes) {
            let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
            match number {
                1 => self.node(value.bytes(), depth)?,
                5 => {
                    let name = self.tensor(value.bytes(), "initializer")?;
                    if depth == 0 {
                        self.initializers.push(name);
                    }
                }
                11 => {
                    let input = input(value.bytes())?;
                    if depth == 0 {
                        self.inputs.push(input);
                    }
                }
                12 | 13 => drop(input(value.bytes())?),
                15 => self.sparse(value.bytes(), "sparse initializer")?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, bytes: &[u8], depth: u32) -> Result<(), Fatal> {
        let mut operator = String::new();
        let mut domain = String::new();
        for field in fields(bytes) {
            let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
            match number {
                4 => operator = value.text(),
                7 => domain = value.text(),
                _ => {}
            }
        }
        let flows = self.control_flow && operators::is_control_flow(&domain, &operator);
        if !flows && !operators::is_allowed(&domain, &operator) {
            self.note(Unfit::Operator { domain, operator: operator.clone() });
        }
        for field in fields(bytes) {
            let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
            if number == 5 {
                self.attribute(value.bytes(), &operator, depth)?;
            }
        }
        Ok(())
    }

    fn attribute(&mut self, bytes: &[u8], operator: &str, depth: u32) -> Result<(), Fatal> {
        let name = named(bytes, 1)?;
        let place = format!("attribute `{name}` of `{operator}`");
        // Of a tree's branches and leaves; a list of members is divided by NaN.
        let of_tree = operator.starts_with("TreeEnsemble") && !name.starts_with("membership");
        for field in fields(bytes) {
            let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
            match (number, value) {
                (3, Value::Varint(number)) if name == "n_targets" && number > MOST_TARGETS => {
                    self.note(Unfit::Excess { place: place.clone(), value: number.cast_signed(), most: MOST_TARGETS });
                }
                (2 | 7, Value::Fixed32(bytes)) if of_tree && f32::from_le_bytes(bytes).is_nan() => {
                    self.note(Unfit::NotANumber(place.clone()));
                }
                (7, Value::Bytes(packed))
                    if of_tree && packed.as_chunks().0.iter().any(|&bytes| f32::from_le_bytes(bytes).is_nan()) =>
                {
                    self.note(Unfit::NotANumber(place.clone()));
                }
                (5 | 10, value) => {
                    self.tensor(value.bytes(), &place)?;
                    if of_tree && holds_nan(value.bytes())? {
                        self.note(Unfit::NotANumber(place.clone()));
                    }
                }
                (6 | 11, value) => {
                    if !self.control_flow {
                        self.note(Unfit::Part("a graph inside an operator"));
                    }
                    self.graph(value.bytes(), depth + 1)?;
                }
                (22 | 23, value) => self.sparse(value.bytes(), &place)?,
                (14 | 15, value) => types(value.bytes(), 0)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn sparse(&mut self, bytes: &[u8], place: &str) -> Result<(), Fatal> {
        let mut dims = Vec::new();
        for field in fields(bytes) {
            let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
            match number {
                1 | 2 => drop(self.tensor(value.bytes(), place)?),
                3 => varints(value, |dim| dims.push(dim.cast_signed())).map_err(Unfit::Torn)?,
                _ => {}
            }
        }
        // What a sparse tensor becomes when it is made dense, eight bytes a number.
        self.check_size(place.to_owned(), dims, 8, None);
        Ok(())
    }

    /// Checks a tensor and gives its name.
    fn tensor(&mut self, bytes: &[u8], place: &str) -> Result<String, Fatal> {
        let mut name = String::new();
        let mut dims = Vec::new();
        let mut kind = 0;
        let mut raw = None;
        let mut external = false;
        for field in fields(bytes) {
            let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
            match (number, value) {
                (1, value) => varints(value, |dim| dims.push(dim.cast_signed())).map_err(Unfit::Torn)?,
                (2, Value::Varint(number)) => kind = number,
                (8, value) => name = value.text(),
                (9, value) => raw = Some(value.bytes().len() as u64),
                (13, _) => external = true,
                (14, Value::Varint(location)) => external |= location != 0,
                _ => {}
            }
        }
        let place = if name.is_empty() { place.to_owned() } else { format!("{place} `{name}`") };
        if external {
            self.note(Unfit::ExternalData(place));
        } else {
            self.check_size(place, dims, element_size(kind), raw);
        }
        Ok(name)
    }

    fn check_size(&mut self, place: String, dims: Vec<i64>, element: u64, raw: Option<u64>) {
        let numbers = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?));
        let bytes = numbers.and_then(|numbers| numbers.checked_mul(element));
        let problem = match (bytes, raw) {
            (Some(bytes), _) if bytes > MOST_TENSOR_BYTES => {
                format!("{bytes} bytes, at most {MOST_TENSOR_BYTES} are read")
            }
            (Some(bytes), Some(raw)) if bytes != raw && element != 0 => format!("{bytes} bytes, and {raw} are there"),
            (Some(_), _) => return,
            (None, _) => "no size at all".to_owned(),
        };
        self.note(Unfit::TensorSize { place, dims, problem });
    }

    /// One input reads all columns in order, several read one each by name: what both runtimes do.
    fn check_inputs(&mut self, features: &[&str]) {
        let initializers = std::mem::take(&mut self.initializers);
        // Before IR version 4 initializers are listed as inputs too.
        let inputs: Vec<_> = self.inputs.drain(..).filter(|input| !initializers.contains(&input.name)).collect();
        let count = features.len();
        let mut wrong = Vec::new();
        for Input { name, rank, width } in &inputs {
            if !(1..=2).contains(rank) {
                wrong.push(format!("`{name}` with {rank} dimensions instead of [N, F] or [N]"));
            }
            let due = if inputs.len() == 1 { count } else { 1 };
            let width = if *rank == 1 { Some(1) } else { *width };
            if width.is_some_and(|width| width != due) {
                let width = width.unwrap_or_default();
                wrong.push(format!("{width} columns through `{name}` but the bundle gives {due}"));
            }
            if inputs.len() > 1 && !features.contains(&name.as_str()) {
                wrong.push(format!("`{name}`, which is no feature of the bundle"));
            }
        }
        if inputs.len() != 1 && inputs.len() != count {
            wrong.push(format!("{} inputs but the bundle gives {count} features", inputs.len()));
        }
        for problem in wrong {
            self.note(Unfit::Inputs(problem));
        }
    }
}

fn deeper(depth: u32) -> Result<(), Fatal> {
    if depth > MOST_NESTING { Err(Unfit::Nesting) } else { Ok(()) }
}

/// The text field with this number, the last one.
fn named(message: &[u8], number: u64) -> Result<String, Fatal> {
    let mut name = String::new();
    for field in fields(message) {
        let field = field.map_err(Unfit::Torn)?;
        if field.number == number {
            name = field.value.text();
        }
    }
    Ok(name)
}

/// Bytes of one number of an ONNX element type; 0 for text.
fn element_size(kind: u64) -> u64 {
    match kind {
        8 => 0,
        2 | 3 | 9 | 17..=20 => 1,
        4 | 5 | 10 | 16 => 2,
        1 | 6 | 12 => 4,
        15 => 16,
        _ => 8,
    }
}

/// Whether a tensor of floats or doubles holds NaN.
fn holds_nan(tensor: &[u8]) -> Result<bool, Fatal> {
    let mut kind = 0;
    let (mut singles, mut doubles): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for field in fields(tensor) {
        let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
        match (number, value) {
            (2, Value::Varint(number)) => kind = number,
            (4, Value::Bytes(packed)) => singles.push(packed),
            (10, Value::Bytes(packed)) => doubles.push(packed),
            (9, Value::Bytes(raw)) => {
                singles.push(raw);
                doubles.push(raw);
            }
            _ => {}
        }
    }
    Ok(match kind {
        1 => singles.iter().flat_map(|raw| raw.as_chunks().0).any(|&bytes| f32::from_le_bytes(bytes).is_nan()),
        11 => doubles.iter().flat_map(|raw| raw.as_chunks().0).any(|&bytes| f64::from_le_bytes(bytes).is_nan()),
        _ => false,
    })
}

/// A declared input or output.
fn input(bytes: &[u8]) -> Result<Input, Fatal> {
    let mut input = Input { name: named(bytes, 1)?, ..Input::default() };
    for field in fields(bytes) {
        let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
        if number == 2 {
            types(value.bytes(), 0)?;
            for field in fields(value.bytes()) {
                let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
                if number == 1 {
                    shape(value.bytes(), &mut input)?;
                }
            }
        }
    }
    Ok(input)
}

fn shape(tensor_type: &[u8], input: &mut Input) -> Result<(), Fatal> {
    for field in fields(tensor_type) {
        let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
        if number != 2 {
            continue;
        }
        for dimension in fields(value.bytes()) {
            let dimension = dimension.map_err(Unfit::Torn)?;
            if dimension.number != 1 {
                continue;
            }
            input.rank += 1;
            for size in fields(dimension.value.bytes()) {
                let size = size.map_err(Unfit::Torn)?;
                if let (2, 1, Value::Varint(size)) = (input.rank, size.number, size.value) {
                    // Some exporters write -1 or 0 for an open dimension.
                    input.width = usize::try_from(size.cast_signed()).ok().filter(|&size| size > 0);
                }
            }
        }
    }
    Ok(())
}

/// Types of sequences, maps and optionals hold types.
fn types(bytes: &[u8], depth: u32) -> Result<(), Fatal> {
    deeper(depth)?;
    for field in fields(bytes) {
        let WireField { number, value, .. } = field.map_err(Unfit::Torn)?;
        if [4, 5, 9].contains(&number) {
            for field in fields(value.bytes()) {
                let WireField { value, .. } = field.map_err(Unfit::Torn)?;
                types(value.bytes(), depth + 1)?;
            }
        }
    }
    Ok(())
}

//! Compiles the operators that only move numbers about: they cost nothing at run time.

use super::compile::{Compiler, Operands, Result, Rows, Value, from_end};
use super::graph::{Node, Number};
use super::shape::{Dim, Shape};

impl<'a> Compiler<'a> {
    pub(super) fn reshape(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let given = self.rows(operands, 0)?;
        let rank = given.shape.0.len();
        let listed = |name| match (node.ints(name), operands.optional(1)) {
            ([], Some(Value::Constant(tensor))) => Some(tensor.whole()),
            ([], _) => None,
            (axes, _) => Some(axes.to_vec()),
        };
        let shape = match node.operator.as_str() {
            "Reshape" => match listed("shape") {
                Some(target) if node.int("allowzero").unwrap_or(0) == 0 => given.shape.reshaped(&target),
                _ => return Err(self.beyond(node, "to a computed shape")),
            },
            "Flatten" => match node.int("axis").unwrap_or(1) {
                1 => given.shape.reshaped(&[0, -1]),
                _ => None,
            },
            "Squeeze" => {
                let axes = listed("axes").map(|axes| axes.iter().map(|&axis| from_end(axis, rank)).collect::<Vec<_>>());
                let dims = given.shape.0.iter().zip(0_i64..);
                let kept = dims.filter(|&(&dim, at)| match &axes {
                    Some(axes) => !(dim == Dim::Size(1) && axes.contains(&at)),
                    None => dim != Dim::Size(1),
                });
                given.shape.keeps_rows(Shape(kept.map(|(&dim, _)| dim).collect()))
            }
            _ => {
                let axes = listed("axes").unwrap_or_default();
                let rank = rank + axes.len();
                let axes: Vec<i64> = axes.iter().map(|&axis| from_end(axis, rank)).collect();
                let mut dims = given.shape.0.iter().copied();
                let next = |at| if axes.contains(&at) { Some(Dim::Size(1)) } else { dims.next() };
                let dims: Option<Vec<Dim>> = (0..).take(rank).map(next).collect();
                dims.and_then(|dims| given.shape.keeps_rows(Shape(dims)))
            }
        };
        match shape {
            Some(shape) => Ok(Rows { shape, ..given }),
            None => Err(self.beyond(node, "across rows")),
        }
    }

    pub(super) fn concat(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let mut parts = Vec::with_capacity(node.inputs.len());
        for at in 0..node.inputs.len() {
            parts.push(self.rows(operands, at)?);
        }
        let Some(first) = parts.first() else {
            return Err(node.malformed("nothing to join"));
        };
        let vectorizer = node.operator == "FeatureVectorizer";
        if vectorizer {
            let dimensions = node.ints("inputdimensions");
            let widths = parts.iter().map(|part| part.shape.columns());
            let listed = dimensions.iter().map(|&dimension| usize::try_from(dimension).ok());
            if !dimensions.is_empty() && !widths.eq(listed) {
                return Err(self.beyond(node, "that cuts or fills its inputs"));
            }
        }
        let axis = if vectorizer { Some(1) } else { node.int("axis").and_then(|axis| first.shape.axis(axis)) };
        let Some(axis) = axis.filter(|&axis| axis < first.shape.0.len()) else {
            return Err(self.beyond(node, "across rows"));
        };
        let mut shape = first.shape.clone();
        let mut size = 0;
        for part in &parts {
            let mut alike = part.shape.clone();
            match alike.0.get_mut(axis) {
                Some(Dim::Size(own)) => {
                    size += *own;
                    shape.0[axis] = Dim::Size(*own);
                }
                _ => return Err(self.beyond(node, "of different shapes")),
            }
            if shape != alike {
                return Err(self.beyond(node, "of different shapes"));
            }
        }
        shape.0[axis] = Dim::Size(size);
        let number = if vectorizer { Number::Single } else { first.number };
        if shape.width().is_none() {
            return Err(self.too_large());
        }
        let (outer, _, _) = shape.strides(axis);
        let mut registers = Vec::new();
        for step in 0..outer {
            for part in &parts {
                let length = part.registers.len() / outer;
                registers.extend_from_slice(&part.registers[step * length..(step + 1) * length]);
            }
        }
        let joined = Rows { shape, number: first.number, registers };
        self.rounded(&joined, number)
    }

    pub(super) fn gather(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let given = self.rows(operands, 0)?;
        let Value::Constant(indices) = operands.value(1)? else {
            return Err(self.beyond(node, "with computed positions"));
        };
        let extractor = node.operator == "ArrayFeatureExtractor";
        let axis = if extractor { -1 } else { node.int("axis").unwrap_or(0) };
        let Some(axis) = given.shape.axis(axis) else {
            return Err(self.beyond(node, "across rows"));
        };
        let (_, size, _) = given.shape.strides(axis);
        let wanted: Option<Vec<usize>> = indices
            .whole()
            .into_iter()
            .map(|index| usize::try_from(from_end(index, size)).ok().filter(|&index| index < size))
            .collect();
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
            return Err(node.malformed(format!("a position outside the {size} there are")));
        };
        let mut picked = self.pick(&given, axis, &wanted)?;
        match (extractor, indices.dims.len()) {
            (true, _) | (false, 1) => {}
            (false, 0) => {
                picked.shape.0.remove(axis);
            }
            (false, _) => return Err(self.beyond(node, "with a table of positions")),
        }
        Ok(picked)
    }

    pub(super) fn slice(&mut self, node: &Node, operands: &Operands<'a>) -> Result<Rows> {
        let mut given = self.rows(operands, 0)?;
        let list = |name, at| match (node.ints(name), operands.optional(at)) {
            ([], Some(Value::Constant(tensor))) => Some(tensor.whole()),
            ([], _) => None,
            (values, _) => Some(values.to_vec()),
        };
        let (Some(starts), Some(ends)) = (list("starts", 1), list("ends", 2)) else {
            return Err(self.beyond(node, "with computed bounds"));
        };
        let axes = list("axes", 3).unwrap_or_else(|| (0..).take(starts.len()).collect());
        let steps = list("steps", 4).unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(node.malformed("bounds of different lengths"));
        }
        for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let Some(axis) = given.shape.axis(axis) else {
                return Err(self.beyond(node, "across rows"));
            };
            let (_, size, _) = given.shape.strides(axis);
            let bound = |at: i64| usize::try_from(from_end(at, size)).unwrap_or(0).min(size);
            let Ok(step @ 1..) = usize::try_from(step) else {
                return Err(self.beyond(node, "backwards"));
            };
            let wanted: Vec<usize> = (bound(start)..bound(end)).step_by(step).collect();
            if wanted.is_empty() {
                return Err(self.beyond(node, "of nothing"));
            }
            given = self.pick(&given, axis, &wanted)?;
        }
        Ok(given)
    }

    /// The `wanted` positions of one dimension.
    fn pick(&self, given: &Rows, axis: usize, wanted: &[usize]) -> Result<Rows> {
        let (outer, size, inner) = given.shape.strides(axis);
        let mut shape = given.shape.clone();
        shape.0[axis] = Dim::Size(wanted.len());
        if shape.width().is_none() {
            return Err(self.too_large());
        }
        let mut registers = Vec::with_capacity(outer * wanted.len() * inner);
        for step in 0..outer {
            for at in wanted {
                let start = (step * size + at) * inner;
                registers.extend_from_slice(&given.registers[start..start + inner]);
            }
        }
        Ok(Rows { shape, number: given.number, registers })
    }
}

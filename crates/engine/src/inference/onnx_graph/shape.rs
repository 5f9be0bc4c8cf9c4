//! Tensor shapes at compile time: one dimension counts the rows, all others are known.
//!
//! A row's numbers are those of a tensor with the rows dimension left out, in row-major order. An operator is run row
//! by row, so one that would carry numbers from row to row is refused.

use super::compile::from_end;

/// Numbers a row of any one tensor may have.
const MOST_NUMBERS: usize = 1 << 16;

/// One dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    Rows,
    Size(usize),
}

/// The shape of a tensor with a value per row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape(pub(super) Vec<Dim>);

impl Shape {
    /// `[rows, width]`.
    pub(super) fn matrix(width: usize) -> Self {
        Self(vec![Dim::Rows, Dim::Size(width)])
    }

    /// Size of each dimension within one row: the rows dimension is 1.
    pub(super) fn sizes(&self) -> Vec<usize> {
        let size = |dim: &Dim| match dim {
            Dim::Rows => 1,
            Dim::Size(size) => *size,
        };
        self.0.iter().map(size).collect()
    }

    /// Numbers in a row; `None` for more than any model needs, and for none.
    pub(super) fn width(&self) -> Option<usize> {
        let width = self.sizes().iter().try_fold(1_usize, |width, &size| width.checked_mul(size))?;
        (1..=MOST_NUMBERS).contains(&width).then_some(width)
    }

    /// Numbers in a row of `[rows, width]` and `[rows]`, the shapes most operators work on.
    pub(super) fn columns(&self) -> Option<usize> {
        match self.0.as_slice() {
            [Dim::Rows] => Some(1),
            [Dim::Rows, Dim::Size(width)] => Some(*width),
            _ => None,
        }
    }

    /// A dimension's position from an ONNX axis, which may count from the end; not the rows dimension.
    pub(super) fn axis(&self, axis: i64) -> Option<usize> {
        let axis = usize::try_from(from_end(axis, self.0.len())).ok()?;
        matches!(self.0.get(axis), Some(Dim::Size(_))).then_some(axis)
    }

    /// Around a dimension: how many numbers come before a step of it repeats, its size, and how far a step is.
    pub(super) fn strides(&self, axis: usize) -> (usize, usize, usize) {
        let sizes = self.sizes();
        (sizes[..axis].iter().product(), sizes[axis], sizes[axis + 1..].iter().product())
    }

    /// The shape `Reshape` makes; `None` when it would mix rows.
    pub(super) fn reshaped(&self, target: &[i64]) -> Option<Self> {
        let copied = |at: &usize| target[*at] == 0 && self.0.get(*at) == Some(&Dim::Rows);
        // The rows go where they are copied to, else to the dimension that is left open; a model made for single rows
        // gives them a 1 in front.
        let rows = (0..target.len())
            .find(copied)
            .or_else(|| target.iter().position(|&size| size == -1))
            .or_else(|| (target.first() == Some(&1)).then_some(0))?;
        let mut dims = Vec::with_capacity(target.len());
        let mut open = None;
        for (at, &size) in target.iter().enumerate() {
            dims.push(match (size, self.0.get(at)) {
                _ if at == rows => Dim::Rows,
                (0, Some(Dim::Size(size))) => Dim::Size(*size),
                (-1, _) if open.is_none() => {
                    open = Some(at);
                    Dim::Size(1)
                }
                (size, _) => Dim::Size(usize::try_from(size).ok().filter(|&size| size > 0)?),
            });
        }
        let mut shape = Self(dims);
        if let Some(open) = open {
            let known = shape.width().filter(|&known| known > 0)?;
            shape.0[open] = Dim::Size(self.width()? / known);
        }
        self.keeps_rows(shape)
    }

    /// `shape`, if the numbers of a row stay in it: as many as before, the rows outermost before and after.
    pub(super) fn keeps_rows(&self, shape: Self) -> Option<Self> {
        let same = self.width().is_some() && self.width() == shape.width();
        (same && self.rows_outermost() && shape.rows_outermost()).then_some(shape)
    }

    fn rows_outermost(&self) -> bool {
        self.0.iter().take_while(|&&dim| dim != Dim::Rows).all(|&dim| dim == Dim::Size(1))
            && self.0.contains(&Dim::Rows)
    }

    /// The shape two tensors have together, as numpy broadcasts them, and for each of its numbers the position in
    /// either; `None` when they do not fit or rows would mix.
    pub(super) fn broadcast(left: &Self, right: &Self) -> Option<(Self, Vec<(usize, usize)>)> {
        let rank = left.0.len().max(right.0.len());
        let padded = |shape: &Self| {
            let mut dims = vec![Dim::Size(1); rank - shape.0.len()];
            dims.extend_from_slice(&shape.0);
            dims
        };
        let (left, right) = (padded(left), padded(right));
        let mut dims = Vec::with_capacity(rank);
        for (&left, &right) in left.iter().zip(&right) {
            dims.push(match (left, right) {
                (left, right) if left == right => left,
                (Dim::Size(1), other) | (other, Dim::Size(1)) => other,
                _ => return None,
            });
        }
        if dims.iter().filter(|&&dim| dim == Dim::Rows).count() > 1 {
            return None;
        }
        let shape = Self(dims);
        shape.width()?;
        let positions = positions(&shape, &left).into_iter().zip(positions(&shape, &right)).collect();
        Some((shape, positions))
    }
}

/// For each number of a row of `shape`, its position in a row of `from`, whose dimensions are the same or 1.
fn positions(shape: &Shape, from: &[Dim]) -> Vec<usize> {
    let sizes = Shape(from.to_vec()).sizes();
    let mut positions = vec![0_usize];
    for (size, own) in shape.sizes().into_iter().zip(sizes) {
        let step = |position: usize, at: usize| position * own + if own == 1 { 0 } else { at };
        positions = positions.iter().flat_map(|&position| (0..size).map(move |at| step(position, at))).collect();
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dim::{Rows, Size};

    #[test]
    fn a_reshape_keeps_rows_or_is_refused() {
        let column = Shape::matrix(1);
        assert_eq!(column.reshaped(&[1, -1, 1]), Some(Shape(vec![Size(1), Rows, Size(1)])));
        assert_eq!(column.reshaped(&[-1]), Some(Shape(vec![Rows])));
        assert_eq!(Shape::matrix(3).reshaped(&[-1]), None, "three rows out of one");
        assert_eq!(Shape::matrix(3).reshaped(&[0, 3]), Some(Shape::matrix(3)));
        assert_eq!(Shape::matrix(3).reshaped(&[0, -1]), Some(Shape::matrix(3)));
        assert_eq!(Shape::matrix(6).reshaped(&[-1, 2, 3]), Some(Shape(vec![Rows, Size(2), Size(3)])));
        assert_eq!(Shape::matrix(6).reshaped(&[2, -1, 3]), None, "rows are not outermost");
        assert_eq!(Shape::matrix(3).reshaped(&[1, 3]), Some(Shape::matrix(3)), "a model of single rows");
    }

    #[test]
    fn broadcasting_follows_numpy_within_a_row() {
        let (shape, positions) =
            Shape::broadcast(&Shape::matrix(2), &Shape(vec![Size(2)])).expect("a constant per column");
        assert_eq!((shape, positions), (Shape::matrix(2), vec![(0, 0), (1, 1)]));
        let (shape, positions) = Shape::broadcast(&Shape::matrix(1), &Shape(vec![Size(3)])).expect("a column");
        assert_eq!((shape, positions), (Shape::matrix(3), vec![(0, 0), (0, 1), (0, 2)]));
        assert_eq!(Shape::broadcast(&Shape(vec![Rows]), &Shape::matrix(2)), None, "rows against columns");
        assert_eq!(Shape::broadcast(&Shape(vec![Rows]), &Shape::matrix(1)), None, "every row with every other");
    }
}

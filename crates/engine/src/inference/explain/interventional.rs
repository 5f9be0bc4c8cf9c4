//! Exact Shapley values of a tree against one reference row: interventional `TreeSHAP` (Lundberg et al. 2020).
//!
//! In every game a feature has the row's value or the reference's. A leaf that can be reached asks for some features
//! of the row, A with a members, and some of the reference, B with b members; where a split sends both rows the same
//! way it asks for nothing. It is worth its value v exactly to the games that give it what it asks for, so each
//! member of A gets `v (a-1)! b! / (a+b)!` and each of B loses `v a! (b-1)! / (a+b)!`. One walk over the leaves that
//! can be reached finds them all.

use super::{Budget, Unexplained};

/// What stands at a node, seen by both rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::inference) enum Stand {
    Leaf(f64),
    Split {
        /// Who decides here: a feature.
        player: u32,
        /// The node for the row's value, and for the reference's.
        row: u32,
        reference: u32,
    },
}

/// Walks trees; kept between trees for its memory.
pub(in crate::inference) struct Walk {
    /// Whose value each player has on the path so far.
    holds: Vec<Holds>,
    open: Vec<Open>,
    visits: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Holds {
    Open,
    Row,
    Reference,
}

/// How many players a path has fixed to the row and to the reference.
#[derive(Clone, Copy)]
struct Fixed {
    row: f64,
    reference: f64,
    /// `(row + reference)! / (row! reference!)`
    choices: f64,
}

enum Open {
    /// The row's side of a split is done: `gained` was summed up before it. The reference's side follows.
    Turn { player: u32, reference: u32, fixed: Fixed, gained: f64 },
    /// Both sides are done.
    Leave { player: u32, lost: f64 },
}

impl Walk {
    pub(in crate::inference) fn new(players: usize) -> Self {
        Self { holds: vec![Holds::Open; players], open: Vec::new(), visits: 0 }
    }

    /// Adds each player's share of the tree below `root` to `shares`. `look` says what stands at a node.
    ///
    /// Not recursive: a tree may be very deep.
    pub(in crate::inference) fn tree(
        &mut self,
        root: u32,
        look: impl Fn(u32) -> Stand,
        shares: &mut [f64],
        budget: &Budget,
    ) -> Result<(), Unexplained> {
        // What the leaves so far give each member of their A, and take from each member of their B.
        let mut gained = 0.0;
        let mut lost = 0.0;
        let mut next = Some((root, Fixed { row: 0.0, reference: 0.0, choices: 1.0 }));
        loop {
            if let Some((mut at, mut fixed)) = next.take() {
                loop {
                    self.visits += 1;
                    if self.visits.is_multiple_of(4096) {
                        budget.check()?;
                    }
                    match look(at) {
                        Stand::Leaf(value) => {
                            if fixed.row > 0.0 {
                                gained += value / (fixed.row * fixed.choices);
                            }
                            if fixed.reference > 0.0 {
                                lost += value / (fixed.reference * fixed.choices);
                            }
                            break;
                        }
                        Stand::Split { row, reference, .. } if row == reference => at = row,
                        Stand::Split { player, row, reference } => match self.holds[player as usize] {
                            Holds::Row => at = row,
                            Holds::Reference => at = reference,
                            Holds::Open => {
                                self.holds[player as usize] = Holds::Row;
                                self.open.push(Open::Turn { player, reference, fixed, gained });
                                fixed = fixed.with_row();
                                at = row;
                            }
                        },
                    }
                }
            }
            match self.open.pop() {
                None => return Ok(()),
                Some(Open::Turn { player, reference, fixed, gained: before }) => {
                    shares[player as usize] += gained - before;
                    self.holds[player as usize] = Holds::Reference;
                    self.open.push(Open::Leave { player, lost });
                    next = Some((reference, fixed.with_reference()));
                }
                Some(Open::Leave { player, lost: before }) => {
                    shares[player as usize] -= lost - before;
                    self.holds[player as usize] = Holds::Open;
                }
            }
        }
    }
}

impl Fixed {
    fn with_row(self) -> Self {
        let row = self.row + 1.0;
        Self { row, choices: self.choices * (row + self.reference) / row, ..self }
    }

    fn with_reference(self) -> Self {
        let reference = self.reference + 1.0;
        Self { reference, choices: self.choices * (self.row + reference) / reference, ..self }
    }
}

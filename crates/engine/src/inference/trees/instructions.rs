//! Which vector instructions rows are scored with by forests in the form of masks: looked up at load.
//!
//! All ways are the same source, compiled several times, and give the same bits: nothing is added in another order and
//! no product is fused into a sum. AVX-512 is not among them: the same source was slower with it, 246 ns a row against 230
//! (portable: 248; 200 trees of 31 leaves).

use pulp::NullaryFnOnce;

#[derive(Clone, Copy, Debug)]
pub(super) enum Instructions {
    /// What every processor of this kind has.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
}

impl Instructions {
    /// All that this machine has, the plainest first.
    pub(super) fn available() -> impl DoubleEndedIterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let more = pulp::x86::V3::try_new().map(Self::Avx2);
        #[cfg(not(target_arch = "x86_64"))]
        let more = None;
        std::iter::once(Self::Portable).chain(more)
    }

    /// The fastest of them.
    pub(super) fn best() -> Self {
        Self::available().next_back().unwrap_or(Self::Portable)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
        }
    }

    /// Does `work` with these instructions: whatever is inlined into its `call`.
    #[inline]
    pub(super) fn run<W: NullaryFnOnce>(self, work: W) -> W::Output {
        match self {
            Self::Portable => work.call(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => token.vectorize(work),
        }
    }
}

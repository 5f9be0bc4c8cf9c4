//! Numbers that look random and follow from a seed alone: the same on every machine, whatever was asked before.

/// `SplitMix64`'s finaliser (Steele, Lea, Flood 2014): every bit of the input moves about half of the output's.
pub(super) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One number out of two, the second being what tells things of one kind apart.
pub(super) fn pair(seed: u64, value: u64) -> u64 {
    mix(seed ^ mix(value))
}

/// A stream of draws.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// In 0..1.
    pub(super) fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// In 0..`end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u32
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u32) as usize]
    }

    /// Standard normal, by Box and Muller.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    /// Log-normal around `median`, at most `most`.
    pub(super) fn spread(&mut self, median: f64, sigma: f64, most: f64) -> u32 {
        (median * libm::exp(sigma * self.normal())).min(most) as u32
    }
}

/// The upper 53 bits as a number in 0..1.
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

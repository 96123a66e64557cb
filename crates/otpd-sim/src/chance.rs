//! Chance that can be repeated: numbers drawn from what they are drawn *for*.
//!
//! A fault or a latency belongs to "this account, this phone, this attempt", not to "the 4,711th
//! request", because requests race each other. Drawn from a hash of those facts and a seed, the same
//! attempt meets the same fate in every run, whatever the order of arrival.

/// A stream of numbers that depends on nothing but its seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Chance {
    /// The stream that belongs to these facts, in this order.
    #[must_use]
    pub fn of(facts: &[u64]) -> Self {
        Self(facts.iter().fold(STEP, |seed, fact| mix(seed.wrapping_mul(31).wrapping_add(*fact))))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// The next number in `0.0..1.0`.
    pub fn share(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let top = (self.next_u64() >> 11) as f64;
        top / (1u64 << 53) as f64
    }
}

/// Spreads one number over all 64 bits; different numbers stay different.
#[must_use]
pub const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_facts_draw_the_same_numbers() {
        let draw = |facts: &[u64]| {
            let mut chance = Chance::of(facts);
            [chance.next_u64(), chance.next_u64()]
        };
        assert_eq!(draw(&[1, 2, 3]), draw(&[1, 2, 3]));
        for other in [&[1, 2, 4][..], &[3, 2, 1], &[1, 2], &[]] {
            assert_ne!(draw(&[1, 2, 3]), draw(other));
        }
    }

    #[test]
    fn shares_are_even() {
        let mut below = 0;
        for phone in 0..10_000 {
            let share = Chance::of(&[7, phone, 1]).share();
            assert!((0.0..1.0).contains(&share));
            below += u32::from(share < 0.05);
        }
        assert!((400..600).contains(&below), "{below} of 10000 below 5 %");
    }
}

//! Owners of one account that take over from each other at any moment, over simulated time: never above a
//! limit by the true times of writing, however their wall clocks differ, and not much below it either.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod world;

use std::time::Duration;

use proptest::prelude::*;

use crate::world::{Roughness, START, World, ms, rates};

/// Each some 20 minutes of sending.
const CASES: u32 = 32;
const LIMITS: [&str; 6] =
    ["5/s", "20/s,200/min", "30/2min", "3/s,60/5min,100/d", "200/h,10/10s", "1/30s,15/20min"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn never_above_whoever_owns_it(
        seed in any::<u64>(),
        limits in 0..LIMITS.len(),
        skews in [-300_000i64..300_000, -300_000i64..300_000, -300_000i64..300_000],
        stay in 1_000u64..90_000,
        late_writes in any::<bool>(),
    ) {
        let rough = Roughness { late_writes, stay: ms(stay), idle: ms(20_000), cold_starts: false };
        let mut world = World::new(rates(LIMITS[limits]), seed, skews, rough);
        world.run(Duration::from_secs(1200));
        prop_assert!(world.written.len() > 3);
        world.check();
    }

    /// Of the past the wall times are believed, so clocks may differ by a second only.
    #[test]
    fn never_above_after_cold_starts(
        seed in any::<u64>(),
        limits in 0..LIMITS.len(),
        skews in [-480i64..480, -480i64..480, -480i64..480],
        stay in 20_000u64..90_000,
        late_writes in any::<bool>(),
    ) {
        let rough = Roughness { late_writes, stay: ms(stay), idle: ms(20_000), cold_starts: true };
        let mut world = World::new(rates(LIMITS[limits]), seed, skews, rough);
        world.run(Duration::from_secs(1200));
        prop_assert!(world.written.len() > 3);
        world.check();
    }

    #[test]
    fn the_next_owner_starts_when_the_windows_allow_it(
        seed in any::<u64>(),
        limits in 0..LIMITS.len(),
        skews in [-300_000i64..300_000, -300_000i64..300_000, -300_000i64..300_000],
        stay in 20_000u64..90_000,
    ) {
        let rough = Roughness { late_writes: false, stay: ms(stay), idle: ms(0), cold_starts: false };
        let mut world = World::new(rates(LIMITS[limits]), seed, skews, rough);
        world.run(Duration::from_secs(1200));
        for (place, (since, first)) in world.firsts.iter().enumerate() {
            let allowed = world.allowed(*since);
            let end = world.firsts.get(place + 1).map_or(START.plus(Duration::from_secs(1100)), |(at, _)| *at);
            // What was announced may be written 3 s later; windows have margins, and readers are a little late.
            let bound = ms(3500);
            let latest = allowed.plus(bound);
            if latest < end {
                let first = first.map(|first| first.since(allowed));
                prop_assert!(first.is_some_and(|f| f <= bound), "take-over {place}: {first:?} after the windows");
            }
        }
    }
}

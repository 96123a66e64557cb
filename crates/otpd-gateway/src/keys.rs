//! API keys: whose a request is, and how much it may still send.
//!
//! A key is known by its SHA-256, and compared with all keys in constant time, so that neither a part of a key
//! nor its hash can be found out by measuring. A good key has 128 random bits; then a fast hash is enough.
//!
//! What a key has sent is counted by each gateway for itself, from its start on: with three gateways a key may
//! send up to three times its rate and budget, and a restart begins a new count. These limits keep one
//! producer from using up what all share; the recipient's and the provider's limits are the workers', and exact.
//!
//! Invariant: a limit that refuses charges nothing.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use otpd_core::{Rate, RouteName};
use ring::digest;
use subtle::ConstantTimeEq;

use crate::clock::Clock;
use crate::problem::Problem;
use crate::settings::ApiKey;

/// The longest key that is looked at, in bytes.
const MAX_KEY: usize = 512;
/// A day in milliseconds.
const DAY: u64 = 86_400_000;

/// The gateway's clock as governor reads it.
#[derive(Clone, Debug)]
struct BucketClock(Clock);

impl governor::clock::Clock for BucketClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.mono().0)
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, BucketClock, NoOpMiddleware<Nanos>>;

/// How much a key has sent.
#[derive(Debug)]
pub(crate) struct Spent {
    rate: Option<(Rate, Bucket)>,
    /// The day, counted from 1970, and the jobs sent in it.
    day: Mutex<(u64, u32)>,
}

/// A key and what it has sent.
#[derive(Debug)]
pub(crate) struct Key {
    key: ApiKey,
    daily: Option<u32>,
    spent: Arc<Spent>,
    clock: Clock,
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    keys: Vec<Arc<Key>>,
}

impl Keys {
    /// These keys; what those of the same name have sent before goes on to count.
    pub(crate) fn new(keys: Vec<ApiKey>, former: &Self, clock: &Clock) -> Self {
        let former: HashMap<&str, &Arc<Key>> = former.keys.iter().map(|key| (&*key.key.name, key)).collect();
        let keys = keys.into_iter().map(|key| {
            let before = former.get(&*key.name).map(|before| &before.spent);
            let spent = match before {
                Some(spent) if spent.rate.as_ref().map(|(rate, _)| *rate) == key.rate => (*spent).clone(),
                before => {
                    let day = before.map(|spent| *spent.day.lock().unwrap_or_else(PoisonError::into_inner));
                    let rate = key.rate.map(|rate| (rate, bucket(rate, clock)));
                    Arc::new(Spent { rate, day: Mutex::new(day.unwrap_or_default()) })
                }
            };
            Arc::new(Key { daily: key.daily, key, spent, clock: clock.clone() })
        });
        Self { keys: keys.collect() }
    }

    /// The key that an `Authorization` header carries, if it is one of these.
    pub(crate) fn find(&self, authorization: Option<&[u8]>) -> Option<&Arc<Key>> {
        let text = std::str::from_utf8(authorization?).ok()?;
        let (scheme, presented) = text.split_once(' ')?;
        let presented = presented.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || !(1..=MAX_KEY).contains(&presented.len()) {
            return None;
        }
        let hash = digest::digest(&digest::SHA256, presented.as_bytes());
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.key.sha256.as_slice().ct_eq(hash.as_ref())) {
                found = Some(key);
            }
        }
        found
    }
}

fn bucket(rate: Rate, clock: &Clock) -> Bucket {
    let count = NonZeroU32::new(rate.count).unwrap_or(NonZeroU32::MIN);
    let per_one = (rate.per / count.get()).max(Duration::from_nanos(1));
    // A rate has a time of at least a millisecond, so there always is a quota.
    let quota = Quota::with_period(per_one).unwrap_or_else(|| Quota::per_second(count)).allow_burst(count);
    RateLimiter::direct_with_clock(quota, BucketClock(clock.clone()))
}

impl Key {
    /// True if it may send to this route and see its jobs.
    pub(crate) fn may_use(&self, route: &RouteName) -> bool {
        self.key.routes.contains(route)
    }

    /// Takes one job off what it may send.
    pub(crate) fn charge(&self) -> Result<(), Problem> {
        let now = self.clock.wall().0;
        let today = now / DAY;
        // Held over both, so that neither is charged where the other refuses.
        let mut day = self.spent.day.lock().unwrap_or_else(PoisonError::into_inner);
        if day.0 != today {
            *day = (today, 0);
        }
        if self.daily.is_some_and(|most| day.1 >= most) {
            return Err(Problem::BudgetUsedUp(Duration::from_millis(DAY - now % DAY)));
        }
        if let Some((_, bucket)) = &self.spent.rate {
            let now = BucketClock(self.clock.clone()).now();
            let refused = bucket.check().err().map(|not_until| not_until.wait_time_from(now));
            if let Some(wait) = refused {
                return Err(Problem::RateLimited(wait));
            }
        }
        day.1 = day.1.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use otpd_core::{Mono, UnixMs};

    use super::*;

    const NIGHT: u64 = 1_800_000_000_000;

    /// A clock that stands until it is set.
    fn clock() -> (Clock, Arc<AtomicU64>) {
        let at = Arc::new(AtomicU64::new(0));
        let (mono, wall) = (at.clone(), at.clone());
        let mono = move || Mono(mono.load(Ordering::Relaxed) * 1_000_000);
        let wall = move || UnixMs(NIGHT + wall.load(Ordering::Relaxed));
        (Clock::new(mono, wall), at)
    }

    fn key(name: &str, text: &str, rate: Option<&str>, daily: Option<u32>) -> ApiKey {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        let routes = [RouteName::parse("login").unwrap()].into();
        ApiKey { name: name.into(), sha256, routes, rate: rate.map(|r| r.parse().unwrap()), daily }
    }

    #[test]
    fn a_key_is_found_by_its_hash_alone() {
        let (clock, _) = clock();
        let keys = vec![key("a", "first-key", None, None), key("b", "second-key", None, None)];
        let keys = Keys::new(keys, &Keys::default(), &clock);
        let found = |header: &str| keys.find(Some(header.as_bytes())).map(|key| key.key.name.to_string());
        assert_eq!(found("Bearer first-key").as_deref(), Some("a"));
        assert_eq!(found("bearer  second-key ").as_deref(), Some("b"));
        for wrong in
            ["", "Bearer", "Bearer ", "Basic first-key", "first-key", "Bearer first-kez", "Bearer FIRST-KEY"]
        {
            assert_eq!(found(wrong), None, "{wrong:?}");
        }
        assert!(keys.find(None).is_none());
        assert!(keys.find(Some(format!("Bearer {}", "x".repeat(10_000)).as_bytes())).is_none());
        assert!(keys.find(Some(b"Bearer \xff\xfe")).is_none());
    }

    #[test]
    fn a_rate_and_a_budget_hold_and_a_refusal_charges_nothing() {
        let (clock, at) = clock();
        let keys = Keys::new(vec![key("a", "k", Some("2/10s"), Some(3))], &Keys::default(), &clock);
        let charge = |keys: &Keys| keys.find(Some(b"Bearer k")).unwrap().charge();
        assert_eq!((charge(&keys), charge(&keys)), (Ok(()), Ok(())));
        for _ in 0..10 {
            assert_eq!(charge(&keys), Err(Problem::RateLimited(Duration::from_secs(5))));
        }
        at.store(5_000, Ordering::Relaxed);
        assert_eq!(charge(&keys), Ok(()), "refusals were not counted");
        at.store(60_000, Ordering::Relaxed);
        let until_midnight = Duration::from_millis(DAY - (NIGHT + 60_000) % DAY);
        assert_eq!(charge(&keys), Err(Problem::BudgetUsedUp(until_midnight)));
        // Another rate in the config: the budget of the day goes on.
        let keys = Keys::new(vec![key("a", "k", Some("9/s"), Some(3))], &keys, &clock);
        assert_eq!(charge(&keys), Err(Problem::BudgetUsedUp(until_midnight)));
        at.store(60_000 + DAY, Ordering::Relaxed);
        assert_eq!(charge(&keys), Ok(()), "another day");
    }
}

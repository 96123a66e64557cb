//! An account that refuses without words, by an exact limit at its own clock, and a lane before it that has
//! always something to send.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use otpd_core::{Ceiling, Mono, ReadyAt, Stamp};

pub const START: Mono = Mono(3_600_000_000_000);

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// How a provider counts.
#[derive(Clone, Copy, Debug)]
pub enum Counting {
    /// No more than so many in any window.
    Sliding,
    /// The same, and what it refuses counts too.
    SlidingWithRefused,
    /// In windows of its own clock.
    Fixed,
    /// A bucket that holds so many.
    Bucket(u32),
}

/// From a second on, so many within a window of `per`.
pub type Schedule = Vec<(u64, u32)>;

pub struct Provider {
    pub counting: Counting,
    pub per: Duration,
    pub schedule: Schedule,
    /// The share of requests that is refused whatever the rate is.
    pub at_random: f64,
    log: VecDeque<Mono>,
    window: (u64, u32),
    tokens: (f64, Mono),
}

impl Provider {
    pub fn new(counting: Counting, per: Duration, schedule: Schedule) -> Self {
        let tokens = match counting {
            Counting::Bucket(most) => f64::from(most),
            Counting::Sliding | Counting::SlidingWithRefused | Counting::Fixed => 0.0,
        };
        Self {
            counting,
            per,
            schedule,
            at_random: 0.0,
            log: VecDeque::new(),
            window: (0, 0),
            tokens: (tokens, START),
        }
    }

    pub fn limit(&self, at: Mono) -> u32 {
        let passed = at.since(START).as_secs();
        self.schedule.iter().rev().find(|(from, _)| *from <= passed).map_or(0, |(_, count)| *count)
    }

    pub fn takes(&mut self, at: Mono, number: usize) -> bool {
        if noise(number + 77, 1_000_000).as_secs_f64() < self.at_random {
            return false;
        }
        let limit = self.limit(at);
        match self.counting {
            Counting::Sliding | Counting::SlidingWithRefused => {
                while self.log.front().is_some_and(|old| at.since(*old) >= self.per) {
                    self.log.pop_front();
                }
                let takes = self.log.len() < limit as usize;
                if takes || matches!(self.counting, Counting::SlidingWithRefused) {
                    self.log.push_back(at);
                }
                takes
            }
            Counting::Fixed => {
                let number = at.plus(ms(370)).0 / self.per.as_nanos() as u64;
                if self.window.0 != number {
                    self.window = (number, 0);
                }
                let takes = self.window.1 < limit;
                self.window.1 += u32::from(takes);
                takes
            }
            Counting::Bucket(most) => {
                let earned =
                    at.since(self.tokens.1).as_secs_f64() * f64::from(limit) / self.per.as_secs_f64();
                self.tokens = ((self.tokens.0 + earned).min(f64::from(most)), at.max(self.tokens.1));
                let takes = self.tokens.0 >= 1.0;
                self.tokens.0 -= f64::from(u8::from(takes));
                takes
            }
        }
    }
}

/// A number from 0 to `most` microseconds, scattered.
pub fn noise(i: usize, most: u64) -> Duration {
    Duration::from_micros((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17) % most.max(1))
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Came {
    /// When requests were accepted, and refused.
    pub accepted: Vec<Mono>,
    pub refused: Vec<Mono>,
    pub pauses: usize,
    /// The most that started in a second of the configured ceiling.
    pub most_in_a_second: usize,
}

impl Came {
    /// Of what the provider would have taken from the `from`th second on, how much was used; and of the requests,
    /// how many were refused.
    pub fn shares(&self, provider: &Provider, from: u64, until: u64) -> (f64, f64) {
        let (begin, end) = (START.plus(ms(from * 1000)), START.plus(ms(until * 1000)));
        let within = |all: &[Mono]| all.iter().filter(|at| **at >= begin && **at < end).count() as f64;
        let could: f64 = (from..until)
            .map(|second| {
                f64::from(provider.limit(START.plus(ms(second * 1000)))) / provider.per.as_secs_f64()
            })
            .sum();
        let (accepted, refused) = (within(&self.accepted), within(&self.refused));
        (accepted / could, refused / (accepted + refused).max(1.0))
    }
}

/// How a request goes: written at once, it arrives after the half of `latency`, and is answered after the rest.
pub struct Lane {
    pub ceiling: Ceiling,
    pub latency: Duration,
    pub jitter: Duration,
    pub late: Duration,
    pub paused: Mono,
}

impl Lane {
    pub fn run(&mut self, provider: &mut Provider, length: Duration) -> Came {
        self.go_on(provider, START, length)
    }

    /// Goes on from `begin`. What is on its way at the end is answered to nobody.
    pub fn go_on(&mut self, provider: &mut Provider, begin: Mono, length: Duration) -> Came {
        let mut came = Came::default();
        let mut now = begin;
        let mut number = 0;
        let mut starts: VecDeque<Mono> = VecDeque::new();
        // Arrivals (None) and answers.
        let mut coming: BTreeMap<(Mono, usize), (Stamp, Option<bool>)> = BTreeMap::new();
        while now.since(begin) < length {
            while let Some(next) = coming.first_entry().filter(|e| e.key().0 <= now) {
                let ((at, i), (stamp, answer)) = next.remove_entry();
                match answer {
                    None => {
                        let takes = provider.takes(at, i);
                        if takes {
                            came.accepted.push(at);
                        } else {
                            came.refused.push(at);
                        }
                        coming.insert((at.plus(self.latency / 2), i), (stamp, Some(takes)));
                    }
                    Some(takes) => {
                        self.ceiling.ended(&stamp, true, at);
                        if takes {
                            self.ceiling.accepted(&stamp, at);
                        } else if let Some(pause) = self.ceiling.refused(&stamp, None, at) {
                            self.paused = self.paused.max(at.plus(pause));
                            came.pauses += 1;
                        }
                    }
                }
            }
            self.ceiling.recover(now);
            let next = coming.first_key_value().map_or(Mono(u64::MAX), |((at, _), _)| *at);
            let next = next.max(now.plus(Duration::from_nanos(1)));
            if self.paused > now || (self.ceiling.asks_one_at_a_time() && !coming.is_empty()) {
                let paused = if self.paused > now { self.paused } else { Mono(u64::MAX) };
                now = next.min(paused);
                continue;
            }
            match self.ceiling.take(now) {
                Ok(stamp) => {
                    stamp.written(now);
                    while starts.front().is_some_and(|at| now.since(*at) >= ms(1000)) {
                        starts.pop_front();
                    }
                    starts.push_back(now);
                    came.most_in_a_second = came.most_in_a_second.max(starts.len());
                    let arrives = now.plus(self.latency / 2 + noise(number, self.jitter.as_micros() as u64));
                    coming.insert((arrives, number), (stamp, None));
                    number += 1;
                }
                Err(ReadyAt::At(at)) => now = next.min(at.plus(noise(number, self.late.as_micros() as u64))),
                Err(ReadyAt::WhenOneEnds) => now = next,
            }
        }
        for (stamp, _) in coming.into_values() {
            self.ceiling.ended(&stamp, false, now);
        }
        came
    }
}

//! Owners of one account that take over from each other at any moment, over simulated time: never above a
//! limit by the true times of writing, however their wall clocks differ, and not much below it either.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use otpd_core::checkpoint::WRITE_WITHIN;
use otpd_core::{
    Ceiling, Checkpoint, Fact, FactKind, HandOver, JobId, Mono, ProviderName, Rate, ReadAt, ReadyAt, Stamp,
    UnixMs,
};
use proptest::prelude::*;

const START: Mono = Mono(100_000_000_000_000);
const WALL: u64 = 1_800_000_000_000;
/// Each some 20 minutes of sending.
const CASES: u32 = 32;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// The slowest answer.
const SLOWEST: Duration = Duration::from_millis(320);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn rates(text: &str) -> Vec<Rate> {
    text.split(',').map(|r| r.parse().unwrap()).collect()
}

/// A scattered number below `most`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % most
    }
}

#[derive(Clone)]
enum Said {
    Fact(Fact),
    Opened { claim: String, checkpoint: Option<Checkpoint> },
}

/// What happens by itself, at its time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake,
    Write(usize),
    Answer(usize),
    Checkpoint(usize),
    Read(usize, usize),
    TakeOver,
}

struct Process {
    ceiling: Ceiling,
    hand_over: HandOver,
    /// Its wall clock, less the true one, in milliseconds.
    skew: i64,
    /// Its claim, while it takes itself for the owner.
    claim: Option<usize>,
    read_last: Mono,
}

struct Request {
    owner: usize,
    claim: usize,
    stamp: Stamp,
    announced: usize,
    announced_at: Mono,
}

/// How rough it is.
#[derive(Clone, Copy)]
struct Roughness {
    /// Whether a write may come late, or too late.
    late_writes: bool,
    /// How long owners stay, at most.
    stay: Duration,
    /// How long the account is idle at a time, at most.
    idle: Duration,
}

struct World {
    rates: Vec<Rate>,
    dice: Dice,
    now: Mono,
    rough: Roughness,
    events: BinaryHeap<Reverse<(Mono, u64, Event)>>,
    count: u64,
    processes: Vec<Process>,
    requests: Vec<Request>,
    stream: Vec<(usize, Said)>,
    /// Where on the stream each claim began.
    claims: Vec<usize>,
    written: Vec<Mono>,
    busy_until: Mono,
    idle_until: Mono,
    /// When the next wake is planned.
    wake_at: Option<Mono>,
    /// When each take-over was done, and when it first got a permit.
    firsts: Vec<(Mono, Option<Mono>)>,
}

impl World {
    fn new(rates: Vec<Rate>, seed: u64, skews: [i64; 3], rough: Roughness) -> Self {
        let processes = skews.into_iter().map(|skew| Process {
            ceiling: Ceiling::new(&rates, None, START),
            hand_over: HandOver::new(&rates),
            skew,
            claim: None,
            read_last: START,
        });
        let processes = processes.collect();
        let mut world = Self {
            rates,
            dice: Dice(seed),
            now: START,
            rough,
            events: BinaryHeap::new(),
            count: 0,
            processes,
            requests: Vec::new(),
            stream: Vec::new(),
            claims: Vec::new(),
            written: Vec::new(),
            busy_until: START,
            idle_until: START,
            wake_at: None,
            firsts: Vec::new(),
        };
        world.plan(Duration::ZERO, Event::TakeOver);
        world
    }

    fn plan(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now.plus(after), self.count, event)));
    }

    fn wall(&self, process: usize) -> UnixMs {
        let true_ms = WALL + self.now.since(START).as_millis() as u64;
        UnixMs(true_ms.checked_add_signed(self.processes[process].skew).unwrap())
    }

    fn publish(&mut self, owner: usize, said: Said) -> usize {
        let place = self.stream.len();
        self.stream.push((owner, said));
        for reader in 0..self.processes.len() {
            // Readers read in order, each a little later.
            let at = self.now.plus(ms(1 + self.dice.below(20))).max(self.processes[reader].read_last);
            self.processes[reader].read_last = at;
            self.plan(at.since(self.now), Event::Read(reader, place));
        }
        place
    }

    fn fact(&self, kind: FactKind, request: usize, owner: usize) -> Fact {
        let job = JobId::parse(&format!("job-{request}")).unwrap();
        let mut fact = Fact::new(kind, job, ProviderName::parse("p").unwrap(), self.wall(owner));
        fact.attempt = 1;
        fact
    }

    fn run(&mut self, length: Duration) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at.since(START) > length {
                return;
            }
            self.now = at;
            match event {
                Event::Wake => self.wake(),
                Event::Write(request) => self.write(request),
                Event::Answer(request) => self.answer(request),
                Event::Checkpoint(claim) => self.checkpoint(claim),
                Event::Read(reader, place) => self.read(reader, place),
                Event::TakeOver => self.take_over(),
            }
        }
    }

    /// Somebody else becomes the owner, whatever the one before thinks.
    fn take_over(&mut self) {
        let next = self.dice.below(self.processes.len() as u64) as usize;
        if self.processes[next].claim.is_none() {
            let claim = self.claims.len();
            self.claims.push(self.stream.len());
            self.publish(next, Said::Opened { claim: claim.to_string(), checkpoint: None });
        }
        let stay = ms(200 + self.dice.below(self.rough.stay.as_millis() as u64));
        self.plan(stay, Event::TakeOver);
    }

    fn read(&mut self, reader: usize, place: usize) {
        let (owner, said) = self.stream[place].clone();
        let read = ReadAt::live(self.now, self.wall(reader));
        let is_own = owner == reader;
        let process = &mut self.processes[reader];
        match said {
            Said::Fact(fact) if !is_own => process.hand_over.note(&fact, read),
            Said::Fact(_) => {}
            Said::Opened { claim, checkpoint } => {
                process.hand_over.note_opened(&claim, checkpoint.as_ref(), read);
                let claim: usize = claim.parse().unwrap();
                let is_claim = self.claims[claim] == place;
                if is_own && is_claim && claim + 1 == self.claims.len() {
                    process.hand_over.apply(&mut process.ceiling, self.now);
                    process.claim = Some(claim);
                    self.firsts.push((self.now, None));
                    let first = ms(self.dice.below(10_000));
                    self.plan(first, Event::Checkpoint(claim));
                    self.wake_by(self.now);
                } else if process.claim.is_some_and(|mine| mine < claim) {
                    process.claim = None;
                    // One that hangs does not even revoke what it announced.
                    let hangs = self.dice.below(2) == 0;
                    for request in self.requests.iter().filter(|r| r.owner == reader && !hangs) {
                        request.stamp.revoke();
                    }
                }
            }
        }
    }

    fn checkpoint(&mut self, claim: usize) {
        let Some(owner) = self.processes.iter().position(|p| p.claim == Some(claim)) else { return };
        let checkpoint = self.processes[owner].ceiling.checkpoint(self.now, self.wall(owner));
        let text = serde_json::to_string(&checkpoint).unwrap();
        assert!(text.len() <= 4096);
        let checkpoint = serde_json::from_str(&text).ok();
        self.publish(owner, Said::Opened { claim: claim.to_string(), checkpoint });
        self.plan(CHECKPOINT_EVERY, Event::Checkpoint(claim));
    }

    /// Whoever takes itself for the owner sends as fast as it may.
    fn wake(&mut self) {
        if self.wake_at != Some(self.now) {
            return; // another came before
        }
        self.wake_at = None;
        if self.now >= self.busy_until {
            let idle = ms(self.dice.below(self.rough.idle.as_millis() as u64 + 1));
            self.idle_until = self.now.plus(idle);
            self.busy_until = self.idle_until.plus(ms(100 + self.dice.below(60_000)));
        }
        let mut next = self.now.plus(ms(250));
        for owner in 0..self.processes.len() {
            let Some(claim) = self.processes[owner].claim else { continue };
            if self.now < self.idle_until {
                next = self.idle_until;
                continue;
            }
            match self.processes[owner].ceiling.take(self.now) {
                Ok(stamp) => {
                    self.start(owner, claim, stamp);
                    next = self.now;
                }
                Err(ReadyAt::At(at)) => next = next.min(at),
                Err(ReadyAt::WhenOneEnds) => {}
            }
        }
        if self.processes.iter().any(|p| p.claim.is_some()) {
            self.wake_by(next.max(self.now.plus(Duration::from_nanos(1))));
        }
    }

    fn wake_by(&mut self, at: Mono) {
        if self.wake_at.is_none_or(|planned| at < planned) {
            self.wake_at = Some(at);
            self.plan(at.since(self.now), Event::Wake);
        }
    }

    fn start(&mut self, owner: usize, claim: usize, stamp: Stamp) {
        if let Some((_, first)) = self.firsts.last_mut().filter(|_| claim + 1 == self.claims.len()) {
            first.get_or_insert(self.now);
        }
        stamp.must_be_written_before(self.now.plus(WRITE_WITHIN));
        let request = self.requests.len();
        let fact = self.fact(FactKind::Sending, request, owner);
        let announced = self.publish(owner, Said::Fact(fact));
        self.requests.push(Request { owner, claim, stamp, announced, announced_at: self.now });
        let delay = match self.dice.below(10) {
            0 if self.rough.late_writes => ms(self.dice.below(3500)),
            _ => ms(1 + self.dice.below(30)),
        };
        self.plan(delay, Event::Write(request));
    }

    fn write(&mut self, request: usize) {
        let Request { owner, claim, stamp, announced, .. } = &self.requests[request];
        let owner = *owner;
        // The fence: nothing announced after another claim is written.
        let next_claim = self.claims.get(claim + 1);
        if next_claim.is_some_and(|place| place < announced) {
            stamp.revoke();
        }
        if stamp.try_write(self.now) {
            self.written.push(self.now);
            let delay = ms(20 + self.dice.below(SLOWEST.as_millis() as u64 - 20));
            self.plan(delay, Event::Answer(request));
        } else {
            let stamp = stamp.clone();
            self.processes[owner].ceiling.ended(&stamp, false, self.now);
            let fact = self.fact(FactKind::Retrying, request, owner);
            self.publish(owner, Said::Fact(fact));
        }
    }

    fn answer(&mut self, request: usize) {
        let Request { owner, stamp, .. } = &self.requests[request];
        let (owner, stamp) = (*owner, stamp.clone());
        self.processes[owner].ceiling.ended(&stamp, true, self.now);
        let mut fact = self.fact(FactKind::Accepted, request, owner);
        let took = self.now.since(stamp.written_at().unwrap());
        fact.sent_at = Some(fact.at.minus(took));
        fact.http_status = Some(200);
        self.publish(owner, Said::Fact(fact));
    }

    /// The most requests in a window of `per`.
    fn most(&self, per: Duration) -> usize {
        let mut first = 0;
        let mut most = 0;
        for (last, at) in self.written.iter().enumerate() {
            while at.since(self.written[first]) >= per {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }

    /// When the true windows allow one more request, at `from` or later. What was announced and not written
    /// counts too: nobody but its owner can know.
    fn allowed(&self, from: Mono) -> Mono {
        let announced = self.requests.iter().filter(|r| r.announced_at <= from);
        let mut before: Vec<Mono> =
            announced.map(|r| r.stamp.written_at().unwrap_or(r.announced_at)).collect();
        before.sort_unstable();
        let free = self.rates.iter().filter_map(|rate| {
            let place = before.len().checked_sub(rate.count as usize)?;
            Some(before[place].plus(rate.per))
        });
        free.fold(from, Mono::max)
    }

    fn check(&self) {
        for rate in &self.rates {
            let most = self.most(rate.per);
            assert!(most <= rate.count as usize, "{most} in {rate}");
        }
    }
}

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
        let rough = Roughness { late_writes, stay: ms(stay), idle: ms(20_000) };
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
        let rough = Roughness { late_writes: false, stay: ms(stay), idle: ms(0) };
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

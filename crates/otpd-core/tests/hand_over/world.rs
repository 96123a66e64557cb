//! The simulated world: a stream, an account, and three processes of which one takes itself for the owner,
//! or two for a moment. Everything happens at its time; what is left to chance comes from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use otpd_core::checkpoint::WRITE_WITHIN;
use otpd_core::{
    Ceiling, Checkpoint, Fact, FactKind, HandOver, JobId, Mono, ProviderName, Rate, ReadAt, ReadyAt, Stamp,
    UnixMs,
};

pub(crate) const START: Mono = Mono(100_000_000_000_000);
const WALL: u64 = 1_800_000_000_000;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// The slowest answer.
const SLOWEST: Duration = Duration::from_millis(320);

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn rates(text: &str) -> Vec<Rate> {
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

#[derive(Clone)]
struct Record {
    /// The process that published it, and which life of it.
    owner: (usize, usize),
    at: Mono,
    said: Said,
}

/// What happens by itself, at its time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake,
    Write(usize),
    Answer(usize),
    Checkpoint(usize),
    /// The owner of a claim says which of its requests are written.
    TellWritten(usize),
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
    /// How often it was started anew, and where on the stream it began to read what is published.
    life: usize,
    reads_from: usize,
}

struct Request {
    owner: usize,
    life: usize,
    claim: usize,
    stamp: Stamp,
    announced: usize,
    announced_at: Mono,
    /// By its owner's clock.
    announced_wall: UnixMs,
}

/// How rough it is.
#[derive(Clone, Copy)]
pub(crate) struct Roughness {
    /// Whether a write may come late, or too late.
    pub(crate) late_writes: bool,
    /// How long owners stay, at most.
    pub(crate) stay: Duration,
    /// How long the account is idle at a time, at most.
    pub(crate) idle: Duration,
    /// Whether processes that take over may have been started only just before.
    pub(crate) cold_starts: bool,
}

pub(crate) struct World {
    rates: Vec<Rate>,
    dice: Dice,
    now: Mono,
    rough: Roughness,
    events: BinaryHeap<Reverse<(Mono, u64, Event)>>,
    count: u64,
    processes: Vec<Process>,
    requests: Vec<Request>,
    stream: Vec<Record>,
    /// Where on the stream each claim began.
    claims: Vec<usize>,
    pub(crate) written: Vec<Mono>,
    busy_until: Mono,
    idle_until: Mono,
    /// When the next wake is planned.
    wake_at: Option<Mono>,
    /// When each take-over was done, and when it first got a permit.
    pub(crate) firsts: Vec<(Mono, Option<Mono>)>,
}

impl World {
    pub(crate) fn new(rates: Vec<Rate>, seed: u64, skews: [i64; 3], rough: Roughness) -> Self {
        let processes = skews.into_iter().map(|skew| Process {
            ceiling: Ceiling::new(&rates, None, START),
            hand_over: HandOver::new(&rates),
            skew,
            claim: None,
            read_last: START,
            life: 0,
            reads_from: 0,
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
        let owner = (owner, self.processes[owner].life);
        self.stream.push(Record { owner, at: self.now, said });
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

    pub(crate) fn run(&mut self, length: Duration) {
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
                Event::TellWritten(claim) => self.tell_written(claim),
                Event::Read(reader, place) => self.read(reader, place),
                Event::TakeOver => self.take_over(),
            }
        }
    }

    /// Somebody else becomes the owner, whatever the one before thinks.
    fn take_over(&mut self) {
        let next = self.dice.below(self.processes.len() as u64) as usize;
        if self.processes[next].claim.is_none() {
            if self.rough.cold_starts && self.dice.below(2) == 0 {
                self.start_anew(next);
            }
            let claim = self.claims.len();
            self.claims.push(self.stream.len());
            self.publish(next, Said::Opened { claim: claim.to_string(), checkpoint: None });
        }
        let stay = ms(200 + self.dice.below(self.rough.stay.as_millis() as u64));
        self.plan(stay, Event::TakeOver);
    }

    /// A process forgets everything and reads the last minute of the stream, and what the last checkpoint says.
    fn start_anew(&mut self, process: usize) {
        let Process { skew, read_last, life, .. } = self.processes[process];
        let is_checkpoint =
            |record: &Record| matches!(&record.said, Said::Opened { checkpoint: Some(_), .. });
        let minute = self.stream.partition_point(|record| self.now.since(record.at) > ms(70_000));
        let last = self.stream.iter().rposition(is_checkpoint).unwrap_or(0);
        let (begin, end) = (minute.min(last), self.stream.len());
        self.processes[process] = Process {
            ceiling: Ceiling::new(&self.rates, None, self.now),
            hand_over: HandOver::new(&self.rates),
            skew,
            claim: None,
            read_last,
            life: life + 1,
            reads_from: end,
        };
        let read = ReadAt::past(self.now, self.wall(process));
        // In pieces, the newest first, each twice as long as the one before.
        let (mut upto, mut length) = (end, 3);
        while upto > begin {
            let from = upto.saturating_sub(length).max(begin);
            for place in from..upto {
                self.read_record(process, place, read);
            }
            (upto, length) = (from, 2 * length);
        }
    }

    fn read(&mut self, reader: usize, place: usize) {
        if place >= self.processes[reader].reads_from {
            let read = ReadAt::live(self.now, self.wall(reader));
            self.read_record(reader, place, read);
        }
    }

    fn read_record(&mut self, reader: usize, place: usize, read: ReadAt) {
        let Record { owner, said, .. } = self.stream[place].clone();
        let is_own = owner == (reader, self.processes[reader].life);
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
                    self.plan(ms(100), Event::TellWritten(claim));
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
        self.publish_checkpoint(owner, claim);
        self.plan(CHECKPOINT_EVERY, Event::Checkpoint(claim));
    }

    fn tell_written(&mut self, claim: usize) {
        let Some(owner) = self.processes.iter().position(|p| p.claim == Some(claim)) else { return };
        self.publish_checkpoint(owner, claim);
        let again = ms(100 + self.dice.below(8000));
        self.plan(again, Event::TellWritten(claim));
    }

    fn publish_checkpoint(&mut self, owner: usize, claim: usize) {
        let life = self.processes[owner].life;
        let mine = self.requests.iter().filter(|r| (r.owner, r.life) == (owner, life) && r.stamp.is_open());
        let written = mine.map(|r| r.announced_wall).min().unwrap_or_else(|| self.wall(owner));
        let checkpoint = self.processes[owner].ceiling.checkpoint(self.now, self.wall(owner));
        let text = serde_json::to_string(&checkpoint.with_written_before(Some(written))).unwrap();
        assert!(text.len() <= 4096);
        let checkpoint = serde_json::from_str(&text).ok();
        self.publish(owner, Said::Opened { claim: claim.to_string(), checkpoint });
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
        let life = self.processes[owner].life;
        let (announced_at, announced_wall) = (self.now, self.wall(owner));
        self.requests.push(Request { owner, life, claim, stamp, announced, announced_at, announced_wall });
        let delay = match self.dice.below(10) {
            0 if self.rough.late_writes => ms(self.dice.below(3500)),
            _ => ms(1 + self.dice.below(30)),
        };
        self.plan(delay, Event::Write(request));
    }

    fn write(&mut self, request: usize) {
        let Request { owner, life, claim, stamp, announced, .. } = &self.requests[request];
        let owner = *owner;
        if *life != self.processes[owner].life {
            stamp.revoke(); // its process is gone
            return;
        }
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
        let Request { owner, life, stamp, .. } = &self.requests[request];
        let (owner, stamp) = (*owner, stamp.clone());
        if *life != self.processes[owner].life {
            return;
        }
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
    pub(crate) fn allowed(&self, from: Mono) -> Mono {
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

    pub(crate) fn check(&self) {
        for rate in &self.rates {
            let most = self.most(rate.per);
            assert!(most <= rate.count as usize, "{most} in {rate}");
        }
    }
}

//! What became of every job: the ledger of a run that may be long.
//!
//! A job is held only as long as it is open; then it is counted. That a job ended a second time is told by
//! the ends of the last [`REMEMBERED`] jobs, because a fact may be delivered twice (the same event id) and
//! is then the same end.
//!
//! Pure but for its arguments: times are offsets from the start of the run. `published = accepted + dead +
//! expired + superseded + open` holds at any moment by construction; the ledger closes when, at the end,
//! nothing is open and nothing ended twice.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use otpd_core::{Fact, FactKind, JobId, ProviderName};

use super::parts::Part;
use super::series::{Series, Spent, Tick};
use super::tally::{Tally, tells_an_answer};

/// How many ended jobs are remembered.
const REMEMBERED: usize = 200_000;

/// What the generator says.
#[derive(Debug)]
pub(super) enum Said {
    /// A job was due `at`, and is being published `late` after that.
    Due { number: u64, route: usize, at: Duration, late: Duration },
    /// The queue has it, since `at`, `took` after it was handed in.
    Published { number: u64, route: usize, at: Duration, took: Duration },
    /// The queue does not take it.
    Refused { number: u64, why: String },
    /// No job is due any more.
    Finished { at: Duration },
}

/// The ids of a run's jobs. No two runs share any.
#[derive(Clone, Debug)]
pub(super) struct Ids(String);

impl Ids {
    /// Ids that begin with `load-<run>-`.
    pub(super) fn new(run: &str) -> Self {
        Self(format!("load-{run}-"))
    }

    /// The id of job `number`.
    pub(super) fn of(&self, number: u64) -> String {
        format!("{}{number}", self.0)
    }

    /// The number of this job, where it is one of this run.
    fn number(&self, id: &JobId) -> Option<u64> {
        id.as_str().strip_prefix(&self.0)?.parse().ok()
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    route: usize,
    at: Duration,
    published: bool,
}

/// The ledger.
#[derive(Debug)]
pub(super) struct Tracker {
    ids: Ids,
    /// Wall clock at the start, in microseconds since 1970.
    began_us: u64,
    open: HashMap<u64, Open>,
    remembered: HashMap<u64, u64>,
    oldest: VecDeque<u64>,
    pub(super) all: Tally,
    /// In the order of the plan.
    pub(super) routes: Vec<Tally>,
    pub(super) providers: BTreeMap<ProviderName, Tally>,
    pub(super) series: Series,
    pub(super) dead_reasons: BTreeMap<&'static str, u64>,
    /// When the last job was due.
    pub(super) finished: Option<Duration>,
    /// When the last job ended.
    pub(super) last_end: Duration,
    /// Ends of jobs of others.
    pub(super) foreign: u64,
    /// Facts that are dated before their job was due.
    pub(super) too_early: u64,
    /// Jobs refused by the queue, and why the first was.
    pub(super) refused: u64,
    pub(super) refusal: Option<String>,
}

impl Tracker {
    /// An empty ledger of a run with so many routes.
    pub(super) fn new(ids: Ids, began_us: u64, routes: usize, series: Series) -> Self {
        Self {
            ids,
            began_us,
            open: HashMap::new(),
            remembered: HashMap::new(),
            oldest: VecDeque::new(),
            all: Tally::default(),
            routes: vec![Tally::default(); routes],
            providers: BTreeMap::new(),
            series,
            dead_reasons: BTreeMap::new(),
            finished: None,
            last_end: Duration::ZERO,
            foreign: 0,
            too_early: 0,
            refused: 0,
            refusal: None,
        }
    }

    /// The generator said something.
    pub(super) fn said(&mut self, said: Said) {
        match said {
            Said::Due { number, route, at, late } => {
                self.open.insert(number, Open { route, at, published: false });
                self.series.count(Tick::Offered, at);
                self.both(route, |tally| {
                    tally.offered += 1;
                    tally.record(Part::Late, micros(late));
                });
            }
            Said::Published { number, route, at, took } => {
                self.published(number, at);
                // Where its end overtook the confirm, the job is gone already.
                self.both(route, |tally| tally.record(Part::Confirm, micros(took)));
            }
            Said::Refused { number, why } => {
                self.refused += 1;
                self.refusal.get_or_insert(why);
                self.open.remove(&number);
            }
            Said::Finished { at } => self.finished = Some(at),
        }
    }

    /// A fact was read, so long after the start.
    pub(super) fn fact(&mut self, fact: &Fact, read: Duration) {
        let Some(number) = self.ids.number(&fact.job) else {
            self.foreign += u64::from(fact.is_end());
            return;
        };
        let at = self.since_start(fact.at.0).min(read);
        if let Some(sent) = fact.sent_at.filter(|_| tells_an_answer(fact.kind)) {
            let sent = self.since_start(sent.0).min(read);
            self.series.count(Tick::Request, sent);
        }
        let Some(open) = self.open.get(&number).copied() else {
            if fact.is_end() {
                self.ended_again(number, fact);
            }
            return;
        };
        let provider = self.providers.entry(fact.provider.clone()).or_default();
        provider.count(fact);
        self.all.count(fact);
        if let Some(route) = self.routes.get_mut(open.route) {
            route.count(fact);
        }
        if fact.is_end() || !fact.kind.is_final() {
            self.series.count(Tick::Fact(fact.kind), at);
        }
        if fact.is_end() {
            self.end(number, open, fact, read, at);
        }
    }

    fn end(&mut self, number: u64, open: Open, fact: &Fact, read: Duration, at: Duration) {
        self.last_end = self.last_end.max(at);
        if fact.kind == FactKind::Dead {
            *self.dead_reasons.entry(fact.reason.map_or("unknown", |reason| reason.as_str())).or_default() +=
                1;
        }
        if fact.kind == FactKind::Accepted {
            // Facts have milliseconds; a job that was accepted within its first is not "before its time".
            self.too_early += u64::from(at + Duration::from_millis(2) < open.at);
            let total = micros(at.saturating_sub(open.at));
            let told = micros(read.saturating_sub(at));
            let in_time = self.finished.is_none();
            let t = fact.timings.unwrap_or_default();
            let us = |ms: u64| ms.saturating_mul(1000);
            let spent =
                Spent { queued: us(t.queued_ms), permit: us(t.permit_ms), http: us(t.http_ms), total };
            self.series.latency(open.at, spent);
            if let Some(provider) = self.providers.get_mut(&fact.provider) {
                provider.record(Part::Total, total);
            }
            self.both(open.route, |tally| {
                tally.record(Part::Total, total);
                tally.record(Part::Told, told);
                tally.accepted_in_time += u64::from(in_time);
            });
        }
        self.remember(number, fact);
        // The queue had it, whatever becomes of its confirm.
        self.published(number, at);
        self.open.remove(&number);
    }

    /// Counts a job as published, once.
    fn published(&mut self, number: u64, at: Duration) {
        if let Some(open) = self.open.get_mut(&number).filter(|open| !open.published) {
            open.published = true;
            let route = open.route;
            self.series.count(Tick::Published, at);
            self.both(route, |tally| tally.published += 1);
        }
    }

    fn remember(&mut self, number: u64, fact: &Fact) {
        if self.oldest.len() >= REMEMBERED
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.remembered.remove(&oldest);
        }
        self.remembered.insert(number, hash(fact));
        self.oldest.push_back(number);
    }

    /// An end of a job that is over: the same event again, or a second end.
    fn ended_again(&mut self, number: u64, fact: &Fact) {
        if self.remembered.get(&number) != Some(&hash(fact)) {
            self.all.ended_twice += 1;
        }
    }

    fn both(&mut self, route: usize, change: impl Fn(&mut Tally)) {
        change(&mut self.all);
        self.routes.get_mut(route).into_iter().for_each(change);
    }

    /// A wall-clock time in milliseconds as an offset from the start.
    fn since_start(&self, wall_ms: u64) -> Duration {
        Duration::from_micros(wall_ms.saturating_mul(1000).saturating_sub(self.began_us))
    }

    /// Jobs that are being published.
    pub(super) fn on_their_way(&self) -> u64 {
        self.all.offered.saturating_sub(self.all.published + self.refused)
    }

    /// Jobs published, or perhaps published, whose end is not known.
    pub(super) fn unsettled(&self) -> usize {
        self.open.len()
    }
}

fn hash(fact: &Fact) -> u64 {
    let mut hasher = DefaultHasher::new();
    fact.event_id().hash(&mut hasher);
    hasher.finish()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use otpd_core::fact::Timings;
    use otpd_core::{Class, Reason, UnixMs};

    use super::*;
    use crate::commands::load::objective::Objective;

    const BEGAN_MS: u64 = 1_800_000_000_000;

    fn tracker() -> Tracker {
        let series = Series::new(Duration::from_secs(30), Duration::from_secs(30));
        Tracker::new(Ids::new("t"), BEGAN_MS * 1000, 2, series)
    }

    fn fact(kind: FactKind, number: u64, at_ms: u64) -> Fact {
        let job = JobId::parse(&Ids::new("t").of(number)).unwrap();
        Fact::new(kind, job, ProviderName::parse("verihubs").unwrap(), UnixMs(BEGAN_MS + at_ms))
    }

    fn due(t: &mut Tracker, number: u64) {
        let at = Duration::from_millis(100);
        t.said(Said::Due { number, route: (number % 2) as usize, at, late: Duration::from_micros(50) });
    }

    fn publish(t: &mut Tracker, number: u64) {
        due(t, number);
        let (at, took) = (Duration::from_millis(110), Duration::from_millis(10));
        t.said(Said::Published { number, route: (number % 2) as usize, at, took });
    }

    fn read(t: &mut Tracker, fact: &Fact) {
        t.fact(fact, Duration::from_secs(2));
    }

    fn value(t: &Tracker, objective: &str) -> f64 {
        t.all.measure(Objective::parse(objective).unwrap().what, 2.0).unwrap()
    }

    #[test]
    fn every_end_closes_its_job() {
        let mut t = tracker();
        for number in 0..5 {
            publish(&mut t, number);
        }
        let timings = Some(Timings { queued_ms: 3, permit_ms: 200, http_ms: 50 });
        read(&mut t, &Fact { timings, ..fact(FactKind::Accepted, 0, 600) });
        let limited = Some(Class::RateLimited);
        read(&mut t, &Fact { class: limited, ..fact(FactKind::Retrying, 1, 300) });
        read(&mut t, &Fact { reason: Some(Reason::AttemptsExhausted), ..fact(FactKind::Dead, 1, 900) });
        read(&mut t, &Fact { class: limited, ..fact(FactKind::Paused, 2, 800) });
        read(&mut t, &Fact { class: limited, ..fact(FactKind::Expired, 2, 900) });
        read(&mut t, &fact(FactKind::Superseded, 3, 900));
        assert_eq!(t.unsettled(), 1);
        for (objective, expected) in [
            ("accepted >= 0", 1.0),
            ("accepted >= 0%", 20.0),
            ("dead >= 0", 1.0),
            ("expired >= 0", 1.0),
            ("superseded >= 0", 1.0),
            ("open >= 0", 1.0),
            ("unpublished >= 0", 0.0),
            ("rate_limited >= 0", 2.0),
            ("accepted_rate >= 0", 0.5),
        ] {
            assert!((value(&t, objective) - expected).abs() < 1e-9, "{objective}: {}", value(&t, objective));
        }
        for (objective, ms) in [
            ("p99 total <= 1s", 500.0),
            ("max permit <= 1s", 200.0),
            ("mean http <= 1s", 50.0),
            ("p50 told <= 1s", 1400.0),
            ("p50 confirm <= 1s", 10.0),
        ] {
            let got = value(&t, objective) / 1000.0;
            assert!((got - ms).abs() <= ms / 200.0, "{objective}: {got} ms, expected {ms}");
        }
        assert_eq!(t.dead_reasons, BTreeMap::from([("attempts_exhausted", 1)]));
        assert_eq!((t.routes[0].published, t.routes[1].published), (3, 2));
        let verihubs = &t.providers[&ProviderName::parse("verihubs").unwrap()];
        assert_eq!((verihubs.accepted, verihubs.rate_limited, verihubs.paused), (1, 2, 1));
    }

    #[test]
    fn a_fact_may_overtake_its_confirm() {
        let mut t = tracker();
        due(&mut t, 7);
        read(&mut t, &fact(FactKind::Accepted, 7, 105));
        assert_eq!((t.all.published, t.all.accepted, t.unsettled()), (1, 1, 0));
        let took = Duration::from_millis(10);
        t.said(Said::Published { number: 7, route: 1, at: Duration::from_millis(110), took });
        assert_eq!((t.all.published, t.unsettled()), (1, 0));
        assert_eq!(t.all.part(Part::Confirm).count(), 1);
    }

    #[test]
    fn the_same_event_is_the_same_end_and_another_is_a_second_one() {
        let mut t = tracker();
        publish(&mut t, 1);
        let end = fact(FactKind::Accepted, 1, 500);
        read(&mut t, &end);
        read(&mut t, &end);
        assert_eq!((t.all.accepted, t.all.ended_twice), (1, 0));
        read(&mut t, &fact(FactKind::Accepted, 1, 501));
        assert_eq!((t.all.accepted, t.all.ended_twice), (1, 1));
    }

    #[test]
    fn what_is_not_ours_and_what_is_refused() {
        let mut t = tracker();
        let theirs = JobId::parse("load-other-1").unwrap();
        read(&mut t, &Fact { job: theirs, ..fact(FactKind::Accepted, 1, 5) });
        assert_eq!((t.foreign, t.all.accepted), (1, 0));
        due(&mut t, 3);
        t.said(Said::Refused { number: 3, why: "disk full".into() });
        assert_eq!((t.unsettled(), t.refused, t.refusal.as_deref()), (0, 1, Some("disk full")));
        assert!((value(&t, "unpublished <= 0") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn memory_is_that_of_open_jobs() {
        let mut t = tracker();
        for number in 0..(REMEMBERED as u64 + 10) {
            publish(&mut t, number);
            read(&mut t, &fact(FactKind::Accepted, number, 500));
        }
        assert_eq!((t.unsettled(), t.remembered.len(), t.oldest.len()), (0, REMEMBERED, REMEMBERED));
    }
}

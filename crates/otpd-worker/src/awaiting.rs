//! Accepted jobs whose delivery is awaited (`confirm_within` of a route): they keep their deliveries, so that the
//! code is not lost with the acknowledgement, until one of these:
//!
//! - it is heard that the message arrived: acknowledged;
//! - it is heard that it will not, or the time is up: moved to the next provider, once in a job's life, as its *extra
//!   send*, if the code is still valid and still the newest; otherwise acknowledged.
//!
//! `accepted` is told at the beginning and is the job's end, whatever follows. So nothing here is a decision that
//! could be lost: an owner that dies leaves the fact, the delivery comes again, and the next owner waits on from
//! the time of acceptance. What was heard meanwhile is in the memory ([`otpd_core::Recent`]), in whichever order it came.
//!
//! A waiting job needs no place among the requests under way, but one of the deliveries that the lane may hold. Where
//! waiting and deferred jobs hold more than half of a queue's, those that have longest to wait are put aside into the
//! lane's `later` queue, with the time of their acceptance in their headers; so is whatever was held for [`OLD`]. Where
//! that queue is half full too, or is none, they are acknowledged: a job that was accepted never keeps one from
//! being sent that was not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use otpd_core::admission::WAY;
use otpd_core::{JobId, Mono, Reason, Route, UnixMs, Verdict};
use otpd_queue::{Section, Tag};

use crate::dispatch::{INBOX_TURN, Lane};
use crate::endpoint::Endpoint;
use crate::held::Held;
use crate::waiting_room::index;

/// How often a job may go to another provider although one accepted it.
const MOST_EXTRA: u32 = 1;
/// A job whose wait is over sooner than this is not worth putting aside.
const SOON: Duration = Duration::from_secs(1);
/// How long a delivery is held at most before it is renewed.
const OLD: Duration = Duration::from_secs(300);
/// How many are renewed at a time, and how often.
const RENEWED: usize = 32;
const RENEW_EVERY: Duration = Duration::from_millis(125);
/// How many are put aside in one turn, and how soon to look again where there are more.
const TURN: usize = 64;
const AGAIN: Duration = Duration::from_millis(5);
/// How soon to look again while the lane cannot be sure of being the owner.
const STALE_AGAIN: Duration = Duration::from_millis(100);

/// The jobs whose delivery is awaited.
#[derive(Debug, Default)]
pub(crate) struct Awaiting {
    /// In the order in which their deliveries came.
    jobs: BTreeMap<u64, Box<Awaited>>,
    by_id: HashMap<JobId, u64>,
    /// By the queue that their deliveries occupy.
    due: [BTreeSet<(Mono, u64)>; 3],
    renewed_at: Mono,
}

/// One of them.
#[derive(Debug)]
struct Awaited {
    held: Held,
    /// When it was accepted.
    since: UnixMs,
    /// When its time is up.
    over_at: Mono,
    /// When to look at it: then, or when its code expires.
    due: Mono,
}

impl Awaiting {
    fn enter(&mut self, awaited: Awaited) {
        let place = awaited.held.place;
        self.by_id.insert(awaited.held.job.id.clone(), place);
        if let Some(due) = self.due.get_mut(index(awaited.held.section)) {
            due.insert((awaited.due, place));
        }
        self.jobs.insert(place, Box::new(awaited));
    }

    fn remove(&mut self, place: u64) -> Option<Awaited> {
        let awaited = *self.jobs.remove(&place)?;
        if let Some(due) = self.due.get_mut(index(awaited.held.section)) {
            due.remove(&(awaited.due, place));
        }
        if self.by_id.get(&awaited.held.job.id) == Some(&place) {
            self.by_id.remove(&awaited.held.job.id);
        }
        Some(awaited)
    }

    fn take(&mut self, job: &JobId) -> Option<Awaited> {
        let place = self.by_id.get(job).copied()?;
        self.remove(place)
    }

    fn take_due(&mut self, now: Mono) -> Option<Awaited> {
        let (at, place) = self.due.iter().filter_map(BTreeSet::first).min().copied()?;
        if at <= now { self.remove(place) } else { None }
    }

    /// The one of a queue that has longest to wait, if that is beyond `beyond`.
    fn take_furthest(&mut self, section: Section, beyond: Mono) -> Option<Awaited> {
        let (at, place) = self.due.get(index(section))?.last().copied()?;
        if at > beyond { self.remove(place) } else { None }
    }

    /// The one that was delivered first, if that was at `before` or earlier.
    fn take_oldest(&mut self, before: Mono) -> Option<Awaited> {
        let (place, awaited) = self.jobs.first_key_value()?;
        if awaited.held.arrived_at > before {
            return None;
        }
        self.remove(*place)
    }

    fn take_all(&mut self) -> Vec<Awaited> {
        let jobs = std::mem::take(&mut self.jobs);
        self.clear();
        jobs.into_values().map(|awaited| *awaited).collect()
    }

    fn next_due(&self) -> Option<Mono> {
        self.due.iter().filter_map(BTreeSet::first).map(|(at, _)| *at).min()
    }

    /// How many deliveries of a queue they hold.
    pub(crate) fn held(&self, section: Section) -> usize {
        self.due.get(index(section)).map_or(0, BTreeSet::len)
    }

    /// The delivery of a job that is one of them.
    pub(crate) fn tag_of(&self, job: &JobId) -> Option<Tag> {
        self.by_id.get(job).and_then(|place| self.jobs.get(place)).map(|awaited| awaited.held.tag)
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Forgets them: their deliveries are void or handed back.
    pub(crate) fn clear(&mut self) {
        self.jobs.clear();
        self.by_id.clear();
        self.due.iter_mut().for_each(BTreeSet::clear);
    }
}

impl<E: Endpoint> Lane<E> {
    /// How long the delivery of a job of this route is awaited once it is accepted here; `None` where nothing would
    /// follow: no next provider, or the extra send was made.
    pub(crate) fn awaits(&self, route: &Route, extra: u32) -> Option<Duration> {
        route.confirms_after(&self.settings.provider).filter(|_| extra < MOST_EXTRA)
    }

    /// What is known of the delivery of a job's message.
    pub(crate) fn verdict(&self, held: &Held) -> Option<Verdict> {
        self.shared.memory.verdict(held, &self.settings.provider)
    }

    /// A job that was accepted at `since`: waits, unless there is something to do already.
    pub(crate) fn await_delivery(&mut self, mut held: Held, since: UnixMs) {
        let Some(within) = self.awaits(&held.route, held.extra) else { return self.acknowledge(held) };
        match self.verdict(&held) {
            Some(Verdict::Delivered) => self.acknowledge(held),
            Some(Verdict::Undelivered(reason)) => self.send_elsewhere(held, reason),
            None => {
                held.accepted_at = Some(since);
                let over_at = self.clock.mono_of(since.plus(within));
                let due = over_at.min(self.clock.mono_of(held.expires_at));
                self.awaiting.enter(Awaited { held, since, over_at, due });
            }
        }
    }

    /// A job that was accepted before and has come again. One that came back too often, from owners that died, gets a
    /// fresh message before the queue buries it.
    pub(crate) fn await_again(&mut self, mut held: Held, since: UnixMs, returned_often: bool) {
        let (key, job, now) = (held.keys.purpose, &held.job, self.clock.wall());
        self.shared.memory.with(|memory| {
            memory.newest.note(key, &job.id, job.created_at, held.expires_at, now);
        });
        if returned_often {
            held.accepted_at = Some(since);
            return self.put_aside(held, self.clock.mono());
        }
        self.await_delivery(held, since);
    }

    /// Takes in of which job it was heard that its message arrived, or will not, and of which others meanwhile. It is
    /// remembered already.
    pub(crate) fn hear_deliveries(&mut self, first: &JobId) {
        self.hear_of(first);
        for _ in 1..INBOX_TURN {
            let Ok(job) = self.deliveries.try_recv() else { return };
            self.hear_of(&job);
        }
    }

    fn hear_of(&mut self, job: &JobId) {
        if let Some(awaited) = self.awaiting.take(job) {
            self.await_delivery(awaited.held, awaited.since);
        }
    }

    /// Ends the waits whose time has come, and sees to it that those which go on are in nobody's way; gives the time
    /// to look again.
    pub(crate) fn judge_awaiting(&mut self, now: Mono) -> Option<Mono> {
        // Who was cut off, or frozen, has not heard what was said meanwhile.
        let is_fresh = self.lease.is_fresh();
        while is_fresh && let Some(awaited) = self.awaiting.take_due(now) {
            self.time_is_up(awaited, now);
        }
        let again = (!is_fresh && self.awaiting.len() > 0).then(|| now.plus(STALE_AGAIN));
        let crowded = self.put_aside_what_is_too_much(now);
        self.renew_awaited(now);
        let due = self.awaiting.next_due().filter(|_| is_fresh);
        [again, crowded, due].into_iter().flatten().min()
    }

    fn time_is_up(&mut self, awaited: Awaited, now: Mono) {
        let Awaited { held, since, over_at, .. } = awaited;
        let is_expired = held.expires_at <= self.clock.wall();
        if !is_expired && over_at > now {
            return self.awaiting.enter(Awaited { held, since, over_at, due: over_at }); // the wall clock was set
        }
        // It may be remembered already, and be told in the next turn.
        match self.verdict(&held) {
            Some(Verdict::Delivered) => self.acknowledge(held),
            Some(Verdict::Undelivered(reason)) => self.send_elsewhere(held, reason),
            None => self.send_elsewhere(held, Reason::QueuedUnconfirmed),
        }
    }

    /// Its message did not arrive, or nobody says that it did: the next provider sends the code once more, where that
    /// is of use.
    fn send_elsewhere(&mut self, held: Held, reason: Reason) {
        let is_valid = held.expires_at > self.clock.wall().plus(WAY);
        let is_of_use = is_valid && reason.may_fail_over() && self.shared.memory.is_newest(&held);
        let next = held.route.after(&self.settings.provider).filter(|_| is_of_use).cloned();
        let Some(next) = next else { return self.acknowledge(held) };
        // Each move keeps its delivery until the next lane has it: one that takes nothing must not use up this lane's.
        if self.settler.moving() > usize::from(self.prefetch.main) / 4 {
            self.metrics.not_awaited.inc();
            return self.acknowledge(held);
        }
        self.metrics.extra_sends.inc();
        if reason == Reason::QueuedUnconfirmed {
            self.metrics.possible_duplicates.inc();
        }
        self.send_once_more(next, held, reason);
    }

    /// Waiting jobs go by the routes as they are now.
    pub(crate) fn reroute_awaiting(&mut self) {
        for Awaited { mut held, since, .. } in self.awaiting.take_all() {
            held.route = self.route_now(&held.route);
            self.await_delivery(held, since);
        }
    }

    /// Puts jobs aside where those that wait hold more than half of a queue's deliveries; gives the time to look again
    /// where more is to be done.
    fn put_aside_what_is_too_much(&mut self, now: Mono) -> Option<Mono> {
        let mut left = TURN.min(self.may_give_back());
        for section in [Section::Main, Section::Bulk] {
            while self.are_too_many(section) {
                let has_place = self.has_place_aside();
                if has_place && left == 0 {
                    return Some(now.plus(AGAIN));
                }
                let Some(awaited) = self.awaiting.take_furthest(section, now.plus(SOON)) else { break };
                if has_place {
                    left -= 1;
                    self.put_aside(awaited.held, awaited.due);
                } else {
                    self.metrics.not_awaited.inc();
                    self.acknowledge(awaited.held);
                }
            }
        }
        None
    }

    fn are_too_many(&self, section: Section) -> bool {
        let prefetch: usize = match section {
            Section::Main => self.prefetch.main.into(),
            Section::Bulk => self.prefetch.bulk.into(),
            Section::Later => return false,
        };
        self.awaiting.held(section) + self.room.deferred(section) > prefetch / 2
    }

    /// The other half is for deferred jobs: they come behind whatever is put aside.
    fn has_place_aside(&self) -> bool {
        let taken = self.room.returned() + self.awaiting.held(Section::Later) + self.settler.moving();
        self.prefetch.later.is_some_and(|later| taken < usize::from(later) / 2)
    }

    /// Renews the deliveries that have been held longest.
    fn renew_awaited(&mut self, now: Mono) {
        if now.since(self.awaiting.renewed_at) < RENEW_EVERY {
            return;
        }
        self.awaiting.renewed_at = now;
        let before = Mono(now.0.saturating_sub(otpd_core::clock::nanos(OLD)));
        for _ in 0..RENEWED.min(self.may_give_back()) {
            let Some(awaited) = self.awaiting.take_oldest(before) else { return };
            self.put_aside(awaited.held, awaited.due);
        }
    }

    /// A fresh message takes the place of its own: in the `later` queue, or in its own where the lane has none. It
    /// is handed out again before what was heard of it meanwhile is forgotten.
    fn put_aside(&mut self, held: Held, due: Mono) {
        let again = due.min(self.clock.mono().plus(OLD));
        let section = if self.prefetch.later.is_some() { Section::Later } else { held.section };
        self.renew_in(section, held, Some(self.clock.wall_of(again)));
    }
}

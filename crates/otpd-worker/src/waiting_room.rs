//! The lane's live backlog: jobs that are held unacknowledged until their permit, their expiry or
//! their successor. Pure: it is told the time and does nothing else.
//!
//! Order: interactive before bulk, then by the time at which a job was first taken, so a retry, and a job
//! that was moved, keep their place. While the breaker is open, jobs that were its probes in vain go behind
//! all others. A job that is due later follows the monotonic clock, its expiry the wall clock.
//!
//! Invariant: every job is in `jobs`, in `by_id`, in `expiry`, and in exactly one of `ready` and `later`;
//! at most one job per supersede key. Ids and keys are known by 64-bit hashes, and what a hash finds is
//! compared before it is believed. A waiting job costs some 700 bytes beside its body.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use otpd_core::{JobId, Mono, Route, SendJob, TrafficClass, UnixMs};
use otpd_queue::{Section, Tag};

pub use crate::held::Held;

/// The jobs that wait.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    jobs: BTreeMap<u64, Box<Seat>>,
    by_id: HashMap<u64, u64>,
    by_key: HashMap<u64, u64>,
    ready: BTreeSet<Order>,
    /// Deferred jobs, by the queue that their deliveries occupy.
    later: [BTreeSet<(Mono, u64)>; 3],
    expiry: BTreeSet<(UnixMs, u64)>,
    /// How many of the ready ones are interactive.
    interactive: usize,
    /// How many came from [`Section::Later`].
    returned: usize,
}

#[derive(Debug)]
struct Seat {
    held: Held,
    /// Its place in `later`; `None` once it is ready.
    due: Option<Mono>,
}

/// The order of sending: probes in vain, class, when it was taken, when it came to the lane.
pub(crate) type Order = (u8, Rank, UnixMs, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Interactive,
    Bulk,
}

fn rank(held: &Held) -> Rank {
    match held.route.class {
        TrafficClass::Interactive => Rank::Interactive,
        TrafficClass::Bulk => Rank::Bulk,
    }
}

/// A replayed job counts from its replay: it does not overtake those that came meanwhile.
fn order(held: &Held) -> Order {
    (held.probed, rank(held), held.replayed_at.unwrap_or(held.taken_at), held.place)
}

pub(crate) const fn index(section: Section) -> usize {
    match section {
        Section::Main => 0,
        Section::Bulk => 1,
        Section::Later => 2,
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn key_of(job: &SendJob) -> u64 {
    hash(&(job.to, &job.purpose))
}

fn is_same_key(a: &SendJob, b: &SendJob) -> bool {
    (a.to, &a.purpose) == (b.to, &b.purpose)
}

impl WaitingRoom {
    /// Takes a job in, to be ready at once or at `due`. Gives back the older job that it replaces.
    pub fn enter(&mut self, held: Held, due: Option<Mono>) -> Option<Held> {
        let (place, key) = (held.place, key_of(&held.job));
        let replaced =
            self.by_key.get(&key).copied().filter(|place| {
                self.jobs.get(place).is_some_and(|seat| is_same_key(&seat.held.job, &held.job))
            });
        let replaced = replaced.and_then(|place| self.remove(place));
        self.by_key.insert(key, place);
        self.by_id.insert(hash(&held.job.id), place);
        self.expiry.insert((held.expires_at, place));
        self.returned += usize::from(held.section == Section::Later);
        let seat = Box::new(Seat { held, due });
        self.seat(&seat);
        self.jobs.insert(place, seat);
        replaced.map(|(held, _)| held)
    }

    /// Makes jobs ready whose time has come.
    pub fn turn(&mut self, now: Mono) {
        for section in 0..self.later.len() {
            while let Some((at, place)) = self.later.get(section).and_then(BTreeSet::first).copied() {
                if at > now {
                    break;
                }
                self.now_ready(place);
            }
        }
    }

    fn now_ready(&mut self, place: u64) {
        let Some(mut seat) = self.jobs.remove(&place) else { return };
        self.unseat(&seat);
        seat.due = None;
        self.seat(&seat);
        self.jobs.insert(place, seat);
    }

    /// The breaker is closed: its probes in vain have their place in the order again, and those which may
    /// have been refused for the account alone are due now.
    pub fn forgive(&mut self) {
        let probed = self.jobs.iter().filter(|(_, seat)| seat.held.probed > 0);
        let places: Vec<u64> = probed.map(|(place, _)| *place).collect();
        for place in places {
            let Some(mut seat) = self.jobs.remove(&place) else { continue };
            self.unseat(&seat);
            seat.held.probed = 0;
            seat.due = seat.due.filter(|_| !seat.held.refusals.may_be_the_accounts());
            self.seat(&seat);
            self.jobs.insert(place, seat);
        }
    }

    /// The next job in order, to look at.
    #[must_use]
    pub fn next(&self) -> Option<&Held> {
        self.ready.first().and_then(|(.., place)| self.jobs.get(place)).map(|s| &s.held)
    }

    /// Takes the next job in order out.
    pub fn take_next(&mut self) -> Option<Held> {
        let (.., place) = self.ready.first().copied()?;
        self.remove(place).map(|(held, _)| held)
    }

    /// Takes a job out whose code has expired.
    pub fn take_expired(&mut self, now: UnixMs) -> Option<Held> {
        let (at, place) = self.expiry.first().copied()?;
        if at <= now { self.remove(place).map(|(held, _)| held) } else { None }
    }

    /// Takes out all jobs that `which` means, in order of arrival.
    pub fn take_where(&mut self, which: impl Fn(&Held) -> bool) -> Vec<Held> {
        let meant: Vec<u64> =
            self.jobs.iter().filter(|(_, seat)| which(&seat.held)).map(|(p, _)| *p).collect();
        meant.into_iter().filter_map(|place| self.remove(place)).map(|(held, _)| held).collect()
    }

    /// The ready jobs behind `after` in the order of sending (all of them for `None`), at most `most`.
    pub(crate) fn ready_after(
        &self,
        after: Option<Order>,
        most: usize,
    ) -> impl Iterator<Item = (Order, &Held)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        let seats = self.ready.range(range).take(most);
        seats.filter_map(|order| self.jobs.get(&order.3).map(|seat| (*order, &seat.held)))
    }

    /// Takes a ready job out.
    pub(crate) fn take(&mut self, order: Order) -> Option<Held> {
        self.remove(order.3).map(|(held, _)| held)
    }

    /// Takes out the deferred job of a queue that is due last, where that is after `beyond`.
    pub fn take_furthest(&mut self, section: Section, beyond: Mono) -> Option<(Held, Mono)> {
        let (due, place) = self.later.get(index(section))?.last().copied()?;
        if due <= beyond {
            return None;
        }
        self.remove(place).map(|(held, _)| (held, due))
    }

    /// Takes out the job that was delivered first, where that was at `before` or earlier, with the time
    /// until which it is deferred.
    pub fn take_oldest(&mut self, before: Mono) -> Option<(Held, Option<Mono>)> {
        let (place, seat) = self.jobs.first_key_value()?;
        if seat.held.arrived_at > before {
            return None;
        }
        self.remove(*place)
    }

    /// How many deferred jobs occupy a queue.
    #[must_use]
    pub fn deferred(&self, section: Section) -> usize {
        self.later.get(index(section)).map_or(0, BTreeSet::len)
    }

    /// How many jobs came from [`Section::Later`].
    #[must_use]
    pub const fn returned(&self) -> usize {
        self.returned
    }

    /// Gives each job the route that `route` finds for it, where it finds another one. Its place, its
    /// time and its expiry stay.
    pub fn reroute(&mut self, route: impl Fn(&Held) -> Option<Arc<Route>>) {
        let found = self.jobs.iter().filter_map(|(place, seat)| Some((*place, route(&seat.held)?)));
        let found: Vec<(u64, Arc<Route>)> = found.collect();
        for (place, route) in found {
            let Some(mut seat) = self.jobs.remove(&place) else { continue };
            self.unseat(&seat);
            seat.held.route = route;
            self.seat(&seat);
            self.jobs.insert(place, seat);
        }
    }

    /// How many ready jobs go before a new one of this class.
    #[must_use]
    pub fn ahead_of(&self, class: TrafficClass) -> usize {
        match class {
            TrafficClass::Interactive => self.interactive,
            TrafficClass::Bulk => self.ready.len(),
        }
    }

    /// When the next deferred job is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        self.later.iter().filter_map(BTreeSet::first).map(|(at, _)| *at).min()
    }

    /// When the next code expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<UnixMs> {
        self.expiry.first().map(|(at, _)| *at)
    }

    /// The tag of a waiting job with this id.
    #[must_use]
    pub fn tag_of(&self, id: &JobId) -> Option<Tag> {
        let seat = self.jobs.get(self.by_id.get(&hash(id))?)?;
        Some(seat.held.tag).filter(|_| seat.held.job.id == *id)
    }

    /// Since when the job waits that has been here longest.
    #[must_use]
    pub fn oldest(&self) -> Option<UnixMs> {
        self.jobs.first_key_value().map(|(_, seat)| seat.held.waits_since())
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// True if nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// True if no job could be sent now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// Empties the room: its deliveries are void or handed back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Enters a seat where its job waits.
    fn seat(&mut self, seat: &Seat) {
        match seat.due {
            Some(at) => {
                if let Some(later) = self.later.get_mut(index(seat.held.section)) {
                    later.insert((at, seat.held.place));
                }
            }
            None => {
                self.ready.insert(order(&seat.held));
                self.interactive += usize::from(rank(&seat.held) == Rank::Interactive);
            }
        }
    }

    /// Removes a seat from where its job waits.
    fn unseat(&mut self, seat: &Seat) {
        match seat.due {
            Some(at) => {
                if let Some(later) = self.later.get_mut(index(seat.held.section)) {
                    later.remove(&(at, seat.held.place));
                }
            }
            None => {
                self.ready.remove(&order(&seat.held));
                self.interactive -= usize::from(rank(&seat.held) == Rank::Interactive);
            }
        }
    }

    fn remove(&mut self, place: u64) -> Option<(Held, Option<Mono>)> {
        let seat = self.jobs.remove(&place)?;
        self.unseat(&seat);
        let Seat { held, due } = *seat;
        for (index, key) in [(&mut self.by_id, hash(&held.job.id)), (&mut self.by_key, key_of(&held.job))] {
            if index.get(&key) == Some(&place) {
                index.remove(&key);
            }
        }
        self.expiry.remove(&(held.expires_at, place));
        self.returned -= usize::from(held.section == Section::Later);
        Some((held, due))
    }
}

#[cfg(test)]
mod tests;

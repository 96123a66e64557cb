//! The lane's live backlog: jobs that are held unacknowledged until their permit, their expiry or
//! their successor. Pure: it is told the time and does nothing else.
//!
//! Order: interactive before bulk, then by the time at which a job was first taken, so a retry, and a job
//! that was moved, keep their place. While the breaker is open, jobs that were its probes in vain go behind
//! all others. A job that is due later follows the monotonic clock, its expiry the wall clock.
//!
//! Invariant: every job is in `jobs`, in `by_id`, in `expiry`, and in exactly one of `ready` and `later`;
//! at most one job per supersede key. Ids and keys are known by 64-bit hashes, and what a hash finds is
//! compared before it is believed. A waiting job costs some 500 bytes beside its body.

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

const fn index(section: Section) -> usize {
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
            seat.due = seat.due.filter(|_| seat.held.refusals.alone() > 0);
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

    /// When the job that has been here longest was taken.
    #[must_use]
    pub fn oldest(&self) -> Option<UnixMs> {
        self.jobs.first_key_value().map(|(_, seat)| seat.held.taken_at)
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
mod tests {
    use super::*;
    use bytes::Bytes;
    use otpd_core::{Life, ProviderName, Refusals};
    use otpd_queue::TraceContext;
    use proptest::prelude::*;

    fn held(place: u64, id: &str, to: &str, class: TrafficClass, expires: u64) -> Held {
        let body = format!(r#"{{"id":"{id}","to":"{to}","code":"123456"}}"#);
        let provider = ProviderName::parse("p").unwrap();
        Held {
            tag: Tag { session: 1, number: place },
            section: Section::Main,
            job: SendJob::parse(body.as_bytes(), UnixMs(0)).unwrap(),
            body: Bytes::new(),
            route: Arc::new(Route { class, ..Route::of_provider(&provider) }),
            hops: 0,
            life: Life::default(),
            replayed_at: None,
            attempts: 0,
            refusals: Refusals::default(),
            probed: 0,
            unsure_since: None,
            expires_at: UnixMs(expires),
            taken_at: UnixMs(0),
            arrived_at: Mono(0),
            ready_at: Mono(0),
            place,
            trace: TraceContext::default(),
            span: tracing::Span::none(),
        }
    }

    fn taken(room: &mut WaitingRoom) -> Vec<u64> {
        std::iter::from_fn(|| room.take_next()).map(|h| h.place).collect()
    }

    #[test]
    fn interactive_first_then_by_arrival_and_a_retry_keeps_its_place() {
        let mut room = WaitingRoom::default();
        room.enter(held(1, "a", "+62811111111", TrafficClass::Bulk, 99), None);
        room.enter(held(3, "b", "+62811111112", TrafficClass::Interactive, 99), None);
        room.enter(held(2, "c", "+62811111113", TrafficClass::Interactive, 99), Some(Mono(10)));
        room.turn(Mono(9));
        assert_eq!(room.next().unwrap().place, 3);
        room.turn(Mono(10));
        assert_eq!(taken(&mut room), [2, 3, 1]);
        assert!(room.is_empty() && room.next_due().is_none() && room.next_expiry().is_none());
    }

    #[test]
    fn another_class_is_another_place_in_the_order() {
        let mut room = WaitingRoom::default();
        room.enter(held(1, "a", "+62811111111", TrafficClass::Bulk, 99), None);
        room.enter(held(2, "b", "+62811111112", TrafficClass::Interactive, 99), None);
        room.enter(held(3, "c", "+62811111113", TrafficClass::Bulk, 99), Some(Mono(10)));
        let other = |held: &Held| {
            let class = match held.route.class {
                TrafficClass::Bulk => TrafficClass::Interactive,
                TrafficClass::Interactive => TrafficClass::Bulk,
            };
            Some(Arc::new(Route { class, ..Route::clone(&held.route) }))
        };
        room.reroute(other);
        assert_eq!(
            (room.ahead_of(TrafficClass::Interactive), room.ahead_of(TrafficClass::Bulk), room.len()),
            (1, 2, 3)
        );
        assert_eq!(room.next().unwrap().place, 1);
        room.turn(Mono(10));
        assert_eq!(taken(&mut room), [1, 3, 2]);
        assert_eq!(room.ahead_of(TrafficClass::Interactive), 0);
    }

    #[test]
    fn a_successor_takes_the_seat() {
        let mut room = WaitingRoom::default();
        assert!(
            room.enter(held(1, "a", "+62811111111", TrafficClass::Interactive, 99), Some(Mono(50))).is_none()
        );
        let replaced = room.enter(held(2, "b", "+62811111111", TrafficClass::Interactive, 99), None);
        assert_eq!(replaced.unwrap().place, 1);
        assert_eq!(taken(&mut room), [2]);
    }

    #[test]
    fn a_probe_in_vain_goes_behind_all_others_until_it_is_forgiven() {
        let mut room = WaitingRoom::default();
        let refused =
            |place, id, to| Held { probed: 1, ..held(place, id, to, TrafficClass::Interactive, 99) };
        room.enter(refused(1, "a", "+62811111111"), None);
        room.enter(refused(2, "b", "+62811111112"), Some(Mono(50)));
        room.enter(held(3, "c", "+62811111113", TrafficClass::Bulk, 99), None);
        assert_eq!(room.next().unwrap().place, 3);
        room.forgive();
        assert_eq!(taken(&mut room), [1, 2, 3]);
    }

    #[test]
    fn who_is_given_back_is_the_one_due_last_and_the_one_held_longest() {
        let mut room = WaitingRoom::default();
        for (place, due) in [(1, Some(20)), (2, None), (3, Some(40)), (4, Some(30))] {
            let to = format!("+6281111111{place}");
            let job = held(place, &format!("j{place}"), &to, TrafficClass::Interactive, 99);
            room.enter(Held { arrived_at: Mono(place), ..job }, due.map(Mono));
        }
        assert_eq!((room.deferred(Section::Main), room.deferred(Section::Later)), (3, 0));
        assert!(room.take_furthest(Section::Main, Mono(40)).is_none());
        let (furthest, due) = room.take_furthest(Section::Main, Mono(10)).unwrap();
        assert_eq!((furthest.place, due), (3, Mono(40)));
        assert!(room.take_oldest(Mono(0)).is_none());
        let oldest = |room: &mut WaitingRoom| room.take_oldest(Mono(9)).map(|(held, due)| (held.place, due));
        assert_eq!(oldest(&mut room), Some((1, Some(Mono(20)))));
        assert_eq!(oldest(&mut room), Some((2, None)));
    }

    proptest! {
        #[test]
        fn everyone_leaves_exactly_once(steps in proptest::collection::vec((0u8..4, 0u64..40, 0u64..100), 1..200)) {
            let mut room = WaitingRoom::default();
            let (mut entered, mut left, mut now) = (0u64, 0u64, 0u64);
            for (what, who, when) in steps {
                match what {
                    0 | 1 => {
                        let id = format!("j{entered}");
                        let due = (what == 1).then_some(Mono(when));
                        let job = held(entered, &id, &format!("+62811111{who:03}"), TrafficClass::Interactive, when + 20);
                        left += u64::from(room.enter(job, due).is_some());
                        entered += 1;
                    }
                    2 => left += u64::from(room.take_next().is_some()),
                    _ => {
                        now = now.max(when);
                        room.turn(Mono(now));
                        left += u64::from(room.take_expired(UnixMs(now)).is_some());
                    }
                }
                prop_assert_eq!(room.len() as u64, entered - left);
                prop_assert_eq!(room.ready.len() + room.later.iter().map(BTreeSet::len).sum::<usize>(), room.len());
                prop_assert_eq!(room.expiry.len(), room.len());
                prop_assert_eq!(room.by_id.len(), room.len());
                prop_assert_eq!(room.by_key.len(), room.len());
                prop_assert_eq!(room.interactive, room.ready.len());
            }
        }
    }
}

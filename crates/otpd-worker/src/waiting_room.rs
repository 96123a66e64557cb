//! The lane's live backlog: jobs that are held unacknowledged until their permit, their expiry or
//! their successor. Pure: it is told the time and does nothing else.
//!
//! Order: interactive before bulk, then by arrival; a retry keeps the place of its first arrival, but
//! is not ready before its time. Invariant: every job is in `jobs`, in `by_id`, in `expiry`, and in
//! exactly one of `ready` and `later`; at most one job a supersede key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use otpd_core::{JobId, JobKeys, Life, Mono, Route, SendJob, SupersedeKey, TrafficClass, UnixMs};
use otpd_queue::{Tag, TraceContext};

/// A job in a lane, with all that settling it needs.
pub struct Held {
    /// The delivery to settle.
    pub tag: Tag,
    /// The job, parsed.
    pub job: SendJob,
    /// Its recipient and purpose, as facts name them.
    pub keys: JobKeys,
    /// The job, as published.
    pub body: Bytes,
    /// Its route.
    pub route: Arc<Route>,
    /// How often it moved.
    pub hops: u32,
    /// Which life of the job this is.
    pub life: Life,
    /// When an operator replayed it.
    pub replayed_at: Option<UnixMs>,
    /// Attempts made so far, over all providers.
    pub attempts: u32,
    /// Since when an attempt may have been sent without anybody knowing.
    pub unsure_since: Option<UnixMs>,
    /// From when on its code is of no use.
    pub expires_at: UnixMs,
    /// When it was first taken by broker or gateway.
    pub taken_at: UnixMs,
    /// When this lane read it.
    pub arrived_at: Mono,
    /// Since when it could be sent: its arrival, or the time of its retry.
    pub ready_at: Mono,
    /// Its place in the order of arrival.
    pub place: u64,
    /// The producer's trace.
    pub trace: TraceContext,
    /// Its stay in this lane, as a part of that trace.
    pub span: tracing::Span,
}

/// Shows which job it is, and nothing of its body.
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let job = &self.job.id;
        f.debug_struct("Held").field("tag", &self.tag).field("job", job).finish_non_exhaustive()
    }
}

/// The jobs that wait.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    jobs: BTreeMap<u64, Seat>,
    by_id: HashMap<JobId, u64>,
    by_key: HashMap<SupersedeKey, u64>,
    ready: BTreeSet<(Rank, u64)>,
    later: BTreeSet<(UnixMs, u64)>,
    expiry: BTreeSet<(UnixMs, u64)>,
    interactive: usize,
}

#[derive(Debug)]
struct Seat {
    held: Held,
    /// Its place in `later`; `None` once it is ready.
    due: Option<UnixMs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Interactive,
    Bulk,
}

fn rank(held: &Held) -> Rank {
    match held.route.class {
        TrafficClass::Interactive => Rank::Interactive,
        TrafficClass::Bulk => Rank::Bulk,
    }
}

impl WaitingRoom {
    /// Takes a job in, to be ready at once or at `not_before`. Gives back the older job that it
    /// replaces.
    pub fn enter(&mut self, held: Held, not_before: Option<UnixMs>) -> Option<Held> {
        let place = held.place;
        let key = held.job.supersede_key();
        let replaced = self.by_key.get(&key).copied().and_then(|p| self.remove(p));
        self.by_key.insert(key, place);
        self.by_id.insert(held.job.id.clone(), place);
        self.expiry.insert((held.expires_at, place));
        match not_before {
            Some(at) => self.later.insert((at, place)),
            None => self.ready.insert((rank(&held), place)),
        };
        self.interactive += usize::from(rank(&held) == Rank::Interactive);
        self.jobs.insert(place, Seat { held, due: not_before });
        replaced
    }

    /// Makes jobs ready whose time has come.
    pub fn turn(&mut self, now: UnixMs) {
        while let Some((at, place)) = self.later.first().copied() {
            if at > now {
                return;
            }
            self.later.remove(&(at, place));
            if let Some(seat) = self.jobs.get_mut(&place) {
                seat.due = None;
                self.ready.insert((rank(&seat.held), place));
            }
        }
    }

    /// The next job in order, to look at.
    #[must_use]
    pub fn next(&self) -> Option<&Held> {
        self.ready.first().and_then(|(_, place)| self.jobs.get(place)).map(|s| &s.held)
    }

    /// Takes the next job in order out.
    pub fn take_next(&mut self) -> Option<Held> {
        let (_, place) = self.ready.first().copied()?;
        self.remove(place)
    }

    /// Takes a job out whose code is of no use any more.
    pub fn take_expired(&mut self, now: UnixMs) -> Option<Held> {
        let (at, place) = self.expiry.first().copied()?;
        if at <= now { self.remove(place) } else { None }
    }

    /// Takes out all jobs that `which` means, in order of arrival.
    pub fn take_where(&mut self, which: impl Fn(&Held) -> bool) -> Vec<Held> {
        let meant: Vec<u64> =
            self.jobs.iter().filter(|(_, seat)| which(&seat.held)).map(|(p, _)| *p).collect();
        meant.into_iter().filter_map(|place| self.remove(place)).collect()
    }

    /// Gives each job the route that `route` finds for it, where it finds another one. Its place, its
    /// time and its expiry stay.
    pub fn reroute(&mut self, route: impl Fn(&Held) -> Option<Arc<Route>>) {
        for (place, seat) in &mut self.jobs {
            let Some(route) = route(&seat.held) else { continue };
            let before = rank(&seat.held);
            seat.held.route = route;
            let after = rank(&seat.held);
            if self.ready.remove(&(before, *place)) {
                self.ready.insert((after, *place));
            }
            self.interactive -= usize::from(before == Rank::Interactive);
            self.interactive += usize::from(after == Rank::Interactive);
        }
    }

    /// How many wait before a new job of this class.
    #[must_use]
    pub fn ahead_of(&self, class: TrafficClass) -> usize {
        match class {
            TrafficClass::Interactive => self.interactive,
            TrafficClass::Bulk => self.jobs.len(),
        }
    }

    /// When something next happens by itself: a retry is due or a code expires.
    #[must_use]
    pub fn next_event(&self) -> Option<UnixMs> {
        let due = self.later.first().map(|(at, _)| *at);
        let expiry = self.expiry.first().map(|(at, _)| *at);
        due.into_iter().chain(expiry).min()
    }

    /// The tag of a waiting job with this id.
    #[must_use]
    pub fn tag_of(&self, id: &JobId) -> Option<Tag> {
        self.by_id.get(id).and_then(|place| self.jobs.get(place)).map(|s| s.held.tag)
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

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Empties the room: its deliveries are void or handed back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, place: u64) -> Option<Held> {
        let Seat { held, due } = self.jobs.remove(&place)?;
        self.interactive -= usize::from(rank(&held) == Rank::Interactive);
        self.by_id.remove(&held.job.id);
        let key = held.job.supersede_key();
        if self.by_key.get(&key) == Some(&place) {
            self.by_key.remove(&key);
        }
        self.expiry.remove(&(held.expires_at, place));
        match due {
            Some(at) => self.later.remove(&(at, place)),
            None => self.ready.remove(&(rank(&held), place)),
        };
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otpd_core::{ProviderName, PurposeKey, RecipientKey};
    use proptest::prelude::*;

    fn held(place: u64, id: &str, to: &str, class: TrafficClass, expires: u64) -> Held {
        let body = format!(r#"{{"id":"{id}","to":"{to}","code":"123456"}}"#);
        let provider = ProviderName::parse("p").unwrap();
        Held {
            tag: Tag { session: 1, number: place },
            job: SendJob::parse(body.as_bytes(), UnixMs(0)).unwrap(),
            keys: JobKeys { recipient: RecipientKey(place), purpose: PurposeKey(place) },
            body: Bytes::new(),
            route: Arc::new(Route { class, ..Route::of_provider(&provider) }),
            hops: 0,
            life: Life::default(),
            replayed_at: None,
            attempts: 0,
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
        room.enter(held(2, "c", "+62811111113", TrafficClass::Interactive, 99), Some(UnixMs(10)));
        room.turn(UnixMs(9));
        assert_eq!(room.next().unwrap().place, 3);
        room.turn(UnixMs(10));
        assert_eq!(taken(&mut room), [2, 3, 1]);
        assert!(room.is_empty() && room.next_event().is_none());
    }

    #[test]
    fn another_class_is_another_place_in_the_order() {
        let mut room = WaitingRoom::default();
        room.enter(held(1, "a", "+62811111111", TrafficClass::Bulk, 99), None);
        room.enter(held(2, "b", "+62811111112", TrafficClass::Interactive, 99), None);
        room.enter(held(3, "c", "+62811111113", TrafficClass::Bulk, 99), Some(UnixMs(10)));
        let other = |held: &Held| {
            let class = match held.route.class {
                TrafficClass::Bulk => TrafficClass::Interactive,
                TrafficClass::Interactive => TrafficClass::Bulk,
            };
            Some(Arc::new(Route { class, ..Route::clone(&held.route) }))
        };
        room.reroute(other);
        assert_eq!((room.ahead_of(TrafficClass::Interactive), room.len()), (2, 3));
        assert_eq!(room.next().unwrap().place, 1);
        room.turn(UnixMs(10));
        assert_eq!(taken(&mut room), [1, 3, 2]);
        assert_eq!(room.ahead_of(TrafficClass::Interactive), 0);
    }

    #[test]
    fn a_successor_takes_the_seat() {
        let mut room = WaitingRoom::default();
        assert!(
            room.enter(held(1, "a", "+62811111111", TrafficClass::Interactive, 99), Some(UnixMs(50)))
                .is_none()
        );
        let replaced = room.enter(held(2, "b", "+62811111111", TrafficClass::Interactive, 99), None);
        assert_eq!(replaced.unwrap().place, 1);
        assert_eq!(taken(&mut room), [2]);
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
                        let due = (what == 1).then_some(UnixMs(when));
                        let job = held(entered, &id, &format!("+62811111{who:03}"), TrafficClass::Interactive, when + 20);
                        left += u64::from(room.enter(job, due).is_some());
                        entered += 1;
                    }
                    2 => left += u64::from(room.take_next().is_some()),
                    _ => {
                        now = now.max(when);
                        room.turn(UnixMs(now));
                        left += u64::from(room.take_expired(UnixMs(now)).is_some());
                    }
                }
                prop_assert_eq!(room.len() as u64, entered - left);
                prop_assert_eq!(room.ready.len() + room.later.len(), room.len());
                prop_assert_eq!(room.expiry.len(), room.len());
                prop_assert_eq!(room.by_id.len(), room.len());
                prop_assert_eq!(room.by_key.len(), room.len());
            }
        }
    }
}

//! How many messages one number may get: exact sliding logs by number, and the pauses that providers
//! ask for one recipient. Numbers are known by their keyed hash, so that facts of other processes, and of the
//! time before this one began, can be counted too.
//!
//! Compact: the times of a number stand in a slot of as many as the largest limit needs, some 45 bytes a
//! number for `1/30s` with `5/h`. Forgotten by time: each new number looks at a few slots in turn and frees
//! those whose last message is further back than the longest limit. So no number is forgotten too early as long as
//! fewer than seven eighths of [`Recipients::most`] are within their limits: 400,000 for limits of up to five
//! messages, fewer for larger ones. Beyond that the numbers looked at are forgotten, and
//! [`Recipients::forgotten_early`] tells how many.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Mono;
use crate::rate::Rate;
use crate::recipient::RecipientKey;

/// How many numbers are remembered at most: a table of 2^19 places, seven eighths full.
pub const MOST: usize = 458_752;
/// What all slots may take, in times: larger limits remember fewer numbers.
const MOST_TIMES: usize = MOST * 5;
/// How many slots a new number looks at.
const LOOKS: usize = 8;
/// How far back from its beginning a time can be kept.
const BEFORE: Duration = Duration::from_secs(86_400 + 1);
/// The last offset that is used before all are moved: leaves weeks for times that are still to come.
const MOVE_AT: u32 = 1 << 31;

/// Two halves of a hash: an entry then needs no padding.
type Halves = [u32; 2];
/// No number's.
const FREE: Halves = [0, 0];

/// The limits, and what each number got lately.
#[derive(Debug, Default)]
pub struct Recipients {
    limits: Vec<Rate>,
    places: HashMap<Halves, u32>,
    /// Whose slot this is; [`FREE`] for a free one.
    owners: Vec<Halves>,
    /// The slots: `stride` times each, oldest first, 0 where there is none.
    times: Vec<u32>,
    stride: usize,
    free: Vec<u32>,
    /// The slot that is looked at next.
    hand: usize,
    /// What times count from, in milliseconds; `None` before the first.
    origin: Option<Mono>,
    pauses: HashMap<RecipientKey, Mono>,
    /// When pauses that are over were last dropped.
    pauses_swept_at: Mono,
    forgotten_early: u64,
}

impl Recipients {
    /// Limits that all hold for each number; none: any number of messages.
    #[must_use]
    pub fn new(limits: Vec<Rate>) -> Self {
        let stride = stride(&limits);
        Self { limits, stride, ..Self::default() }
    }

    /// Other limits from now on. They count what is remembered: of each number as many messages as the
    /// limits before allowed.
    pub fn set_limits(&mut self, limits: Vec<Rate>) {
        let (before, after) = (self.stride, stride(&limits));
        self.limits = limits;
        if before == after {
            return;
        }
        let mut times = Vec::with_capacity(self.owners.len() * after);
        for slot in self.times.chunks(before.max(1)) {
            let kept = slot.len().saturating_sub(after);
            times.extend(std::iter::repeat_n(0, after.saturating_sub(slot.len())));
            times.extend(slot.iter().skip(kept));
        }
        if before == 0 || after == 0 {
            (self.places, self.owners, self.free) = Default::default();
            times.clear();
        }
        (self.times, self.stride) = (times, after);
    }

    /// The longest of the limits: facts further back need not be read.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.limits.iter().map(|limit| limit.per).max().unwrap_or_default()
    }

    /// How many numbers can be remembered.
    #[must_use]
    pub fn most(&self) -> usize {
        MOST_TIMES.checked_div(self.stride).unwrap_or(MOST).min(MOST)
    }

    /// How many numbers were forgotten although a limit still counted a message to them.
    #[must_use]
    pub fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    /// When the next message may go to `to`: `now`, or later.
    #[must_use]
    pub fn ready_at(&self, to: RecipientKey, now: Mono) -> Mono {
        let slot = self.places.get(&halves(to)).map(|place| self.slot(*place)).unwrap_or_default();
        let limited = self.limits.iter().filter_map(|limit| {
            let count = usize::try_from(limit.count).unwrap_or(usize::MAX);
            let at = *slot.get(slot.len().checked_sub(count)?)?;
            (at != 0).then(|| self.time(at).plus(limit.per))
        });
        limited.chain(self.pauses.get(&to).copied()).fold(now, Mono::max)
    }

    /// A message starts on its way to `to`.
    pub fn sent(&mut self, to: RecipientKey, now: Mono) {
        self.sent_at(to, now, now);
    }

    /// A message went to `to` at `at`: another process's, or one of the past. Times may come in any order.
    pub fn sent_at(&mut self, to: RecipientKey, at: Mono, now: Mono) {
        if self.stride == 0 || now.since(at) >= self.longest() {
            return;
        }
        let at = self.offset(at, now);
        let Some(place) = self.place_of(to, now) else { return };
        let slot = self.slot_mut(place);
        // One time less, the oldest, and this one where it belongs.
        let after = slot.partition_point(|other| *other <= at);
        if let Some(older) = slot.get_mut(..after)
            && let Some(last) = older.len().checked_sub(1)
        {
            older.rotate_left(1);
            if let Some(free) = older.get_mut(last) {
                *free = at;
            }
        }
    }

    /// The last message counted for `to` was not sent after all.
    pub fn not_sent(&mut self, to: RecipientKey) {
        if let Some(place) = self.places.get(&halves(to)).copied() {
            let slot = self.slot_mut(place);
            slot.rotate_right(1);
            if let Some(first) = slot.first_mut() {
                *first = 0;
            }
        }
    }

    /// The provider wants nothing sent to `to` before `until`. Beyond 114,688 pauses new ones are not kept: the
    /// provider then says so again.
    pub fn pause(&mut self, to: RecipientKey, until: Mono, now: Mono) {
        if self.pauses.len() >= MOST / 4 && now.since(self.pauses_swept_at) >= Duration::from_secs(1) {
            self.pauses_swept_at = now;
            self.pauses.retain(|_, until| *until > now);
        }
        if self.pauses.len() < MOST / 4 || self.pauses.contains_key(&to) {
            let paused = self.pauses.entry(to).or_default();
            *paused = until.max(*paused);
        }
    }

    /// How many numbers are remembered, those included whose messages no limit counts any more.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True if no number is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn slot(&self, place: u32) -> &[u32] {
        let start = index(place) * self.stride;
        self.times.get(start..start + self.stride).unwrap_or_default()
    }

    fn slot_mut(&mut self, place: u32) -> &mut [u32] {
        let start = index(place) * self.stride;
        self.times.get_mut(start..start + self.stride).unwrap_or_default()
    }

    /// The slot of a number; a new one, if it has none.
    fn place_of(&mut self, to: RecipientKey, now: Mono) -> Option<u32> {
        if let Some(place) = self.places.get(&halves(to)) {
            return Some(*place);
        }
        self.look_around(now);
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.owners.len()).ok()?;
                if self.owners.len() == self.owners.capacity() {
                    // An eighth more at a time: doubling would hold twice what is needed.
                    let more = (self.owners.len() / 8).max(1024);
                    self.owners.reserve_exact(more);
                    self.times.reserve_exact(more * self.stride);
                }
                self.owners.push(FREE);
                self.times.resize(self.owners.len() * self.stride, 0);
                place
            }
        };
        *self.owners.get_mut(index(place))? = halves(to);
        self.slot_mut(place).fill(0);
        self.places.insert(halves(to), place);
        Some(place)
    }

    /// Frees what no limit counts among the next few slots, and one in any case where there is no room.
    fn look_around(&mut self, now: Mono) {
        let horizon = self.origin.map_or(0, |origin| millis(now.minus(self.longest()).since(origin)));
        for look in 0..self.owners.len().min(LOOKS) {
            self.hand = (self.hand + 1) % self.owners.len();
            let Some(to) = self.owners.get(self.hand).copied().filter(|to| *to != FREE) else { continue };
            let Ok(place) = u32::try_from(self.hand) else { continue };
            let counts = self.slot(place).last().is_some_and(|last| *last > horizon);
            let is_full = self.free.is_empty() && self.places.len() >= self.most();
            if counts && !(is_full && look + 1 == LOOKS) {
                continue;
            }
            self.forgotten_early += u64::from(counts);
            self.places.remove(&to);
            self.free.push(place);
            if let Some(owner) = self.owners.get_mut(self.hand) {
                *owner = FREE;
            }
        }
    }

    /// Milliseconds from the origin, rounded up; never 0.
    fn offset(&mut self, at: Mono, now: Mono) -> u32 {
        let origin = *self.origin.get_or_insert(now.minus(BEFORE));
        let offset = millis(now.since(origin));
        let origin = if offset < MOVE_AT { origin } else { self.move_origin(origin, now) };
        let ms = at.since(origin).as_nanos().div_ceil(1_000_000);
        u32::try_from(ms).unwrap_or(u32::MAX).max(1)
    }

    /// Counts all times from a later origin, once in some weeks.
    fn move_origin(&mut self, origin: Mono, now: Mono) -> Mono {
        let by = millis(now.minus(BEFORE).since(origin));
        for time in &mut self.times {
            *time = time.saturating_sub(by);
        }
        let origin = origin.plus(Duration::from_millis(by.into()));
        self.origin = Some(origin);
        origin
    }

    fn time(&self, offset: u32) -> Mono {
        self.origin.unwrap_or_default().plus(Duration::from_millis(offset.into()))
    }
}

fn stride(limits: &[Rate]) -> usize {
    limits.iter().map(|limit| usize::try_from(limit.count).unwrap_or(usize::MAX)).max().unwrap_or(0)
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

const fn halves(to: RecipientKey) -> Halves {
    // One key of 2^64 shares its slot with another.
    let key = if to.0 == 0 { 1 } else { to.0 };
    [(key >> 32) as u32, key as u32]
}

fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

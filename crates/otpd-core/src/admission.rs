//! What is not worth a permit. Asked twice for every job: when it arrives, against what is already
//! known of its id, and again at the moment of its permit, against the clock and its successors.

use std::time::Duration;

use crate::clock::UnixMs;
use crate::life::Life;
use crate::recent::Known;

/// What an arriving job is, by what is known of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// To be worked on, after `attempts` attempts and not before `not_before`.
    Work {
        /// Attempts that were made before, wherever.
        attempts: u32,
        /// When its next attempt is due.
        not_before: Option<UnixMs>,
    },
    /// Accepted before, and its delivery is awaited still.
    Await {
        /// When it was accepted.
        since: UnixMs,
        /// Attempts that were made before, wherever.
        attempts: u32,
    },
    /// The same id was published twice: say so and drop it.
    Duplicate,
    /// Settled before, only its acknowledgement was lost: acknowledge it.
    AlreadySettled,
    /// The job ended, and its producer has published it again: a fresh message of the next life is to take
    /// the place of this one, so that what is known of the former life settles nothing of it.
    BeginAnew {
        /// The next life.
        life: Life,
    },
    /// The job ended, and nobody can tell whether this message is the one that ended or one that its producer
    /// published after that: it is neither lost nor sent, but put among the dead letters.
    MaybeEnded {
        /// The life that the letter tells of.
        life: Life,
    },
}

/// By how much the clocks of producers and workers are taken to differ at most.
pub const SKEW: Duration = Duration::from_secs(5);

/// What a message says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arriving {
    /// Which life of its job it belongs to.
    pub life: Life,
    /// The broker's word that this very message went out before.
    pub redelivered: bool,
    /// True if another lane, or this one, published it, not the job's producer.
    pub moved: bool,
    /// Attempts that were made before it was published.
    pub attempts: u32,
    /// The time before which it is not to be attempted.
    pub not_before: Option<UnixMs>,
    /// When this lane's provider accepted it, where its delivery was awaited when it was put aside.
    pub accepted_at: Option<UnixMs>,
    /// Its delivery is awaited here once it is accepted (`confirm_within`).
    pub awaits: bool,
    /// When it was published, by its own word.
    pub published_at: Option<UnixMs>,
    /// When its job was made, by the word of its body, which may be published again as it is.
    pub created_at: Option<UnixMs>,
}

/// Judges an arrival by what is known of its life of the job.
#[must_use]
pub fn arrive(known: Known, message: &Arriving) -> Arrival {
    let over = if message.redelivered { Arrival::AlreadySettled } else { Arrival::Duplicate };
    let may_go_on = message.redelivered || message.moved;
    if let Some(since) = message.accepted_at {
        return accepted_before(known, message, since);
    }
    match known {
        Known::AcceptedHere { at, attempts } if message.awaits && may_go_on => {
            Arrival::Await { since: at, attempts }
        }
        Known::AcceptedHere { .. } => over,
        Known::Nothing => Arrival::Work { attempts: message.attempts, not_before: message.not_before },
        Known::Accepted | Known::Outlived => over,
        Known::Ended { at } => match message.age(at) {
            Age::Older => over,
            Age::Younger => Arrival::BeginAnew { life: Life::after(at) },
            Age::Unclear => Arrival::MaybeEnded { life: Life::after(at) },
        },
        // Handed on by this lane, and here again by another: the routes have changed.
        Known::MovedOn { .. } if message.moved && !message.redelivered => {
            Arrival::Work { attempts: message.attempts, not_before: message.not_before }
        }
        Known::MovedOn { .. } => over,
        Known::Tried { attempts, not_before } if may_go_on => Arrival::Work {
            attempts: attempts.max(message.attempts),
            not_before: message.not_before.max(Some(not_before)),
        },
        Known::Tried { .. } => Arrival::Duplicate,
    }
}

/// A message that this lane put aside while it waited for its delivery: its first acceptance need not be remembered.
fn accepted_before(known: Known, message: &Arriving, since: UnixMs) -> Arrival {
    match known {
        Known::Nothing | Known::Tried { .. } | Known::AcceptedHere { .. } if message.awaits => {
            Arrival::Await { since, attempts: message.attempts }
        }
        Known::Nothing
        | Known::Tried { .. }
        | Known::AcceptedHere { .. }
        | Known::Accepted
        | Known::Ended { .. }
        | Known::Outlived
        | Known::MovedOn { .. } => Arrival::AlreadySettled,
    }
}

/// Whether a producer published a message before or after its job ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Older,
    Younger,
    Unclear,
}

impl Arriving {
    /// A message that comes for the first time was published after the end, unless it says that it was long
    /// before: a second copy, which has waited. One that came before has to prove it, beyond what clocks may
    /// differ by.
    fn age(&self, ended_at: UnixMs) -> Age {
        let from_producer = self.life.is_first() && !self.moved;
        if !from_producer {
            return Age::Older;
        }
        if !self.redelivered {
            let is_old = self.published_at.is_some_and(|at| at.plus(SKEW) < ended_at);
            return if is_old { Age::Older } else { Age::Younger };
        }
        match self.published_at.max(self.created_at) {
            Some(at) if at <= ended_at => Age::Older,
            Some(at) if at > ended_at.plus(SKEW) => Age::Younger,
            Some(_) | None => Age::Unclear,
        }
    }
}

/// What a waiting job's own times say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// From when on its code is of no use.
    pub expires_at: UnixMs,
    /// Since when it waits: when it was first taken, or replayed.
    pub since: UnixMs,
    /// Attempts made so far.
    pub attempts: u32,
    /// The longest it may wait for its first attempt.
    pub max_wait: Option<Duration>,
    /// Whether a newer job for the same recipient and purpose has come.
    pub superseded: bool,
    /// Whether it was heard to have arrived, by another provider.
    pub delivered: bool,
}

/// Whether a job may use a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Go,
    /// Its code is no longer valid.
    Expired,
    /// A newer code is on its way.
    Superseded,
    /// Its message has arrived already.
    Delivered,
    /// It waited longer for its first attempt than its route allows.
    WaitedTooLong,
}

/// What a code must still be valid for when its request starts: the way to the provider takes time.
pub const WAY: Duration = Duration::from_millis(100);

/// Judges a job at the moment of its permit.
#[must_use]
pub fn admit(waiting: &Waiting, now: UnixMs) -> Admission {
    if now.plus(WAY) >= waiting.expires_at {
        Admission::Expired
    } else if waiting.delivered {
        Admission::Delivered
    } else if waiting.superseded {
        Admission::Superseded
    } else if waiting.attempts == 0 && waiting.max_wait.is_some_and(|max| waited_too_long(waiting, max, now))
    {
        Admission::WaitedTooLong
    } else {
        Admission::Go
    }
}

/// The way to the provider is part of the wait, up to a twentieth of it.
fn waited_too_long(waiting: &Waiting, max: Duration, now: UnixMs) -> bool {
    now.since(waiting.since) > max.saturating_sub(WAY.min(max / 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Arriving = Arriving {
        life: Life::from_number(0),
        redelivered: false,
        moved: false,
        attempts: 0,
        not_before: None,
        accepted_at: None,
        awaits: false,
        published_at: None,
        created_at: None,
    };
    const AGAIN: Arriving = Arriving { redelivered: true, ..FRESH };
    const MOVED: Arriving = Arriving { moved: true, attempts: 1, ..FRESH };

    fn work(attempts: u32, not_before: Option<u64>) -> Arrival {
        Arrival::Work { attempts, not_before: not_before.map(UnixMs) }
    }

    #[test]
    fn arrivals() {
        let tried = Known::Tried { attempts: 2, not_before: UnixMs(9) };
        let (ended, moved_on) = (Known::Ended { at: UnixMs(9) }, Known::MovedOn { at: UnixMs(9) });
        let (settled, duplicate) = (Arrival::AlreadySettled, Arrival::Duplicate);
        for (known, message, is) in [
            (Known::Nothing, FRESH, work(0, None)),
            (Known::Nothing, AGAIN, work(0, None)),
            (Known::Nothing, Arriving { not_before: Some(UnixMs(5)), ..MOVED }, work(1, Some(5))),
            (Known::Accepted, FRESH, duplicate),
            (Known::Accepted, MOVED, duplicate),
            (Known::Accepted, AGAIN, settled),
            (Known::Outlived, FRESH, duplicate),
            (Known::Outlived, AGAIN, settled),
            (moved_on, FRESH, duplicate),
            (moved_on, AGAIN, settled),
            (moved_on, MOVED, work(1, None)),
            (ended, MOVED, duplicate),
            (tried, AGAIN, work(2, Some(9))),
            (tried, FRESH, duplicate),
            (tried, MOVED, work(2, Some(9))),
            // Deferred after an attempt, and tried once more than its own fact says.
            (tried, Arriving { attempts: 3, not_before: Some(UnixMs(20)), ..MOVED }, work(3, Some(20))),
            // Moved before it was tried: its own fact is not another copy of it.
            (tried, Arriving { attempts: 0, ..MOVED }, work(2, Some(9))),
            (tried, Arriving { attempts: u32::MAX, ..MOVED }, work(u32::MAX, Some(9))),
        ] {
            assert_eq!(arrive(known, &message), is, "{known:?} {message:?}");
        }
    }

    #[test]
    fn an_accepted_job_waits_on_where_its_route_waits_for_deliveries() {
        let here = Known::AcceptedHere { at: UnixMs(5), attempts: 2 };
        let on = Arrival::Await { since: UnixMs(5), attempts: 2 };
        let waits = |message: Arriving| Arriving { awaits: true, ..message };
        let aside = waits(Arriving { accepted_at: Some(UnixMs(7)), attempts: 3, ..MOVED });
        let aside_on = Arrival::Await { since: UnixMs(7), attempts: 3 };
        let tried = Known::Tried { attempts: 4, not_before: UnixMs(9) };
        let (settled, duplicate) = (Arrival::AlreadySettled, Arrival::Duplicate);
        for (known, message, is) in [
            (here, waits(AGAIN), on),
            (here, AGAIN, settled),
            (here, waits(FRESH), duplicate),
            // Accepted by another provider, or sent once more since.
            (Known::Accepted, waits(AGAIN), settled),
            (Known::Outlived, waits(AGAIN), settled),
            (Known::Nothing, aside, aside_on),
            (tried, aside, aside_on),
            (here, aside, aside_on),
            (Known::Accepted, aside, settled),
            (Known::MovedOn { at: UnixMs(9) }, aside, settled),
            // The route waits no longer.
            (Known::Nothing, Arriving { awaits: false, ..aside }, settled),
            (here, Arriving { awaits: false, ..aside }, settled),
        ] {
            assert_eq!(arrive(known, &message), is, "{known:?} {message:?}");
        }
    }

    #[test]
    fn a_job_that_ended_lives_again_if_its_producer_says_so() {
        let ended_at = UnixMs(60_000);
        let ended = Known::Ended { at: ended_at };
        let life = Life::after(ended_at);
        let anew = Arrival::BeginAnew { life };
        let published = |message: Arriving, at| Arriving { published_at: Some(UnixMs(at)), ..message };
        let created = |at| Arriving { created_at: Some(UnixMs(at)), ..AGAIN };
        let replayed = Life::from_number(500);
        for (message, is) in [
            (FRESH, anew),
            (published(FRESH, 60_001), anew),
            // By a producer whose clock is behind.
            (published(FRESH, 55_000), anew),
            // The second of two copies.
            (published(FRESH, 54_999), Arrival::Duplicate),
            // Its body is as old as it was the first time.
            (Arriving { created_at: Some(UnixMs(1)), ..FRESH }, anew),
            (published(AGAIN, 65_001), anew),
            (created(65_001), anew),
            (published(AGAIN, 60_000), Arrival::AlreadySettled),
            (created(60_000), Arrival::AlreadySettled),
            // By a producer whose clock is ahead, or after the end.
            (published(AGAIN, 60_001), Arrival::MaybeEnded { life }),
            (published(AGAIN, 65_000), Arrival::MaybeEnded { life }),
            (AGAIN, Arrival::MaybeEnded { life }),
            // A second copy of a replay, or of a move: the life that it belongs to has ended.
            (Arriving { life: replayed, ..FRESH }, Arrival::Duplicate),
            (Arriving { life: replayed, ..published(AGAIN, 65_001) }, Arrival::AlreadySettled),
            (Arriving { moved: true, ..published(AGAIN, 65_001) }, Arrival::AlreadySettled),
        ] {
            assert_eq!(arrive(ended, &message), is, "{message:?}");
        }
    }

    #[test]
    fn at_the_permit() {
        let fine = Waiting {
            expires_at: UnixMs(1000),
            since: UnixMs(0),
            attempts: 0,
            max_wait: Some(Duration::from_millis(500)),
            superseded: false,
            delivered: false,
        };
        for (waiting, now, is) in [
            (fine, 475, Admission::Go),
            (fine, 476, Admission::WaitedTooLong),
            (Waiting { attempts: 1, ..fine }, 899, Admission::Go),
            (Waiting { attempts: 1, ..fine }, 900, Admission::Expired),
            (fine, 1000, Admission::Expired),
            (Waiting { superseded: true, ..fine }, 1, Admission::Superseded),
            (Waiting { superseded: true, delivered: true, ..fine }, 1, Admission::Delivered),
            (Waiting { delivered: true, ..fine }, 900, Admission::Expired),
            (Waiting { superseded: true, ..fine }, 1000, Admission::Expired),
        ] {
            assert_eq!(admit(&waiting, UnixMs(now)), is);
        }
    }
}

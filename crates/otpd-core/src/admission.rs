//! What is not worth a permit. Asked twice for every job: when it arrives, against what is already
//! known of its id, and again at the moment of its permit, against the clock and its successors.

use std::time::Duration;

use crate::clock::UnixMs;
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
    /// The same id was published twice: say so and drop it.
    Duplicate,
    /// Settled before, only its acknowledgement was lost: acknowledge it.
    AlreadySettled,
}

/// Judges an arrival. `redelivered` is the broker's word that this very message went out before;
/// `carried` the attempts its headers brought, `moved` whether another lane sent it here.
#[must_use]
pub fn arrive(known: Known, redelivered: bool, carried: u32, moved: bool) -> Arrival {
    match (known, redelivered) {
        (Known::Accepted | Known::Ended { .. } | Known::Outlived | Known::MovedOn { .. }, true) => {
            Arrival::AlreadySettled
        }
        (Known::Accepted | Known::Outlived, false) => Arrival::Duplicate,
        // Dead or expired, and published anew: somebody replays it on purpose.
        (Known::Ended { .. } | Known::MovedOn { .. } | Known::Nothing, _) => {
            Arrival::Work { attempts: carried, not_before: None }
        }
        (Known::Tried { attempts, not_before }, true) => {
            Arrival::Work { attempts: attempts.max(carried), not_before: Some(not_before) }
        }
        (Known::Tried { attempts, not_before }, false) if moved => {
            Arrival::Work { attempts: attempts.max(carried), not_before: Some(not_before) }
        }
        (Known::Tried { .. }, false) => Arrival::Duplicate,
    }
}

/// What a waiting job's own times say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// From when on its code is of no use.
    pub expires_at: UnixMs,
    /// When it was first taken.
    pub taken_at: UnixMs,
    /// Attempts made so far.
    pub attempts: u32,
    /// The longest it may wait for its first attempt.
    pub max_wait: Option<Duration>,
    /// Whether a newer job for the same recipient and purpose has come.
    pub superseded: bool,
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
    now.since(waiting.taken_at) > max.saturating_sub(WAY.min(max / 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals() {
        let tried = Known::Tried { attempts: 2, not_before: UnixMs(9) };
        let again = Arrival::Work { attempts: 2, not_before: Some(UnixMs(9)) };
        let fresh = Arrival::Work { attempts: 0, not_before: None };
        for (known, redelivered, carried, moved, is) in [
            (Known::Nothing, false, 0, false, fresh),
            (Known::Nothing, true, 0, false, fresh),
            (Known::Nothing, false, 3, true, Arrival::Work { attempts: 3, not_before: None }),
            (Known::Accepted, false, 0, false, Arrival::Duplicate),
            (Known::Accepted, true, 0, false, Arrival::AlreadySettled),
            (Known::Ended { at: UnixMs(9) }, false, 0, false, fresh),
            (Known::Ended { at: UnixMs(9) }, true, 0, false, Arrival::AlreadySettled),
            (Known::Outlived, false, 0, false, Arrival::Duplicate),
            (Known::Outlived, true, 0, false, Arrival::AlreadySettled),
            (Known::MovedOn { at: UnixMs(9) }, true, 0, false, Arrival::AlreadySettled),
            (tried, true, 0, false, again),
            (tried, false, 0, false, Arrival::Duplicate),
            (tried, false, 1, true, again),
            // Moved before it was tried: its own fact is not another copy of it.
            (tried, false, 0, true, again),
        ] {
            assert_eq!(arrive(known, redelivered, carried, moved), is, "{known:?} {redelivered} {carried}");
        }
    }

    #[test]
    fn at_the_permit() {
        let fine = Waiting {
            expires_at: UnixMs(1000),
            taken_at: UnixMs(0),
            attempts: 0,
            max_wait: Some(Duration::from_millis(500)),
            superseded: false,
        };
        for (waiting, now, is) in [
            (fine, 475, Admission::Go),
            (fine, 476, Admission::WaitedTooLong),
            (Waiting { attempts: 1, ..fine }, 899, Admission::Go),
            (Waiting { attempts: 1, ..fine }, 900, Admission::Expired),
            (fine, 1000, Admission::Expired),
            (Waiting { superseded: true, ..fine }, 1, Admission::Superseded),
            (Waiting { superseded: true, ..fine }, 1000, Admission::Expired),
        ] {
            assert_eq!(admit(&waiting, UnixMs(now)), is);
        }
    }
}

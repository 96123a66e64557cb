//! What an owner says of its requests whose answers are slow: that they are written. For who takes over, a request
//! without an answer may be written up to 3 s after it was announced, and counts as if it were; with answers
//! that take a second, all of the last second would, and the lane would stand still for three.

use std::time::Duration;

use otpd_core::{Mono, UnixMs};

use crate::dispatch::Lane;
use crate::endpoint::Endpoint;

/// How long an answer may take before its request is spoken of, and how often that is looked at.
const SLOW: Duration = Duration::from_millis(100);

/// What was said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Requests announced before this time are known to be written.
    before: UnixMs,
    look_at: Mono,
}

impl<E: Endpoint> Lane<E> {
    /// Says which requests are written, if that is news; gives the time to look again, while answers are awaited.
    pub(crate) fn tell_written(&mut self, now: Mono) -> Option<Mono> {
        if self.settings.ceiling.is_empty() || self.flying.is_empty() {
            return None;
        }
        if now >= self.told.look_at {
            self.told.look_at = now.plus(SLOW);
            self.tell_written_now(now, SLOW);
        }
        Some(self.told.look_at)
    }

    /// The same at once, of requests that have been waiting for their answers for `least`.
    pub(crate) fn tell_written_now(&mut self, now: Mono, least: Duration) {
        let open = self.flying.values().filter(|flying| flying.stamp.is_open());
        let before = open.map(|flying| flying.announced_at).min().unwrap_or_else(|| self.clock.wall());
        let is_news = self.flying.values().any(|flying| {
            let waits = flying.stamp.written_at().is_some_and(|at| now.since(at) >= least);
            waits && (self.told.before..before).contains(&flying.announced_at)
        });
        if is_news {
            self.told.before = before;
            self.write_checkpoint(now);
            self.checkpoint.publish();
        }
    }

    /// A request is about to be announced at `at`. Where the wall clock was set back, what was said would speak of it.
    pub(crate) fn not_told_of(&mut self, at: UnixMs, now: Mono) {
        if at < self.told.before {
            self.told.before = UnixMs::default();
            self.write_checkpoint(now);
        }
    }

    /// What a checkpoint says of it: nothing where nothing was said.
    pub(crate) fn written_before(&self) -> Option<UnixMs> {
        Some(self.told.before).filter(|before| *before > UnixMs::default())
    }
}

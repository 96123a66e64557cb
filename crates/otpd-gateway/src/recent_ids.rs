//! What recent ids stood for: the same id with another content is a mistake of the producer (409), and with the
//! same content it is a repetition, which is answered without being queued twice.
//!
//! Contents are kept as keyed hashes, under a key that each process makes for itself: nothing here tells a code.
//! This memory is one process's, and begins empty. It therefore catches what comes to the same gateway
//! within [`IDS_FOR`] and among the last [`IDS`] ids. What it does not know is queued again, and dropped by the
//! workers, which know every id of the window by the events stream (`otp.job.duplicate`): no code is sent
//! twice, but a repetition with another content is then not told, it is only not sent.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use otpd_core::{JobId, Mono};
use ring::hmac;

use crate::limits::{IDS, IDS_FOR};

/// A content, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content([u8; 16]);

/// What an id was used for before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing that is known.
    Nothing,
    /// The same, and that is queued.
    Queued,
    /// The same, and nobody knows yet whether that is queued.
    Unconfirmed,
    /// Something else.
    Other,
}

struct Seen {
    content: Content,
    at: Mono,
    is_queued: bool,
    failures: u8,
}

#[derive(Default)]
struct Inner {
    seen: HashMap<JobId, Seen>,
    /// Oldest first; one of them may be about an id that was seen anew since.
    order: VecDeque<(Mono, JobId)>,
}

/// The memory.
pub(crate) struct RecentIds {
    key: hmac::Key,
    inner: Mutex<Inner>,
}

impl fmt::Debug for RecentIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecentIds")
    }
}

impl RecentIds {
    /// An empty memory. `key` is made by chance, anew for each process.
    pub(crate) fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), inner: Mutex::default() }
    }

    /// The hash of a content: of its parts, in order.
    pub(crate) fn content<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Content {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut short = [0; 16];
        short.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        Content(short)
    }

    /// Says what `id` was used for, and remembers this use where there was none.
    pub(crate) fn use_for(&self, id: &JobId, content: Content, now: Mono) -> Before {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.forget(now);
        match inner.seen.get(id) {
            Some(seen) if seen.content != content => Before::Other,
            Some(seen) if seen.is_queued => Before::Queued,
            Some(_) => Before::Unconfirmed,
            None => {
                inner.seen.insert(id.clone(), Seen { content, at: now, is_queued: false, failures: 0 });
                inner.order.push_back((now, id.clone()));
                Before::Nothing
            }
        }
    }

    /// True if `id` was used.
    pub(crate) fn knows(&self, id: &JobId) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).seen.contains_key(id)
    }

    /// The queue has confirmed it.
    pub(crate) fn queued(&self, id: &JobId) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = inner.seen.get_mut(id) {
            seen.is_queued = true;
        }
    }

    /// It could not be queued in time; says how often by now.
    pub(crate) fn failed(&self, id: &JobId) -> u8 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = inner.seen.get_mut(id) else { return 1 };
        seen.failures = seen.failures.saturating_add(1);
        seen.failures
    }

    /// It was certainly not queued.
    pub(crate) fn not_queued(&self, id: &JobId) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.seen.get(id).is_some_and(|seen| !seen.is_queued) {
            inner.seen.remove(id);
        }
    }
}

impl Inner {
    fn forget(&mut self, now: Mono) {
        while let Some((at, id)) = self.order.front() {
            if now.since(*at) < IDS_FOR && self.order.len() < IDS {
                return;
            }
            if self.seen.get(id).is_some_and(|seen| seen.at == *at) {
                self.seen.remove(id);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::parse(text).unwrap()
    }

    #[test]
    fn an_id_stands_for_one_content_within_the_window() {
        let ids = RecentIds::new(b"key");
        let (one, other) = (ids.content([&b"one"[..]]), ids.content([&b"other"[..]]));
        let later = |ms: u64| Mono(ms * 1_000_000);
        assert_eq!(ids.use_for(&id("a"), one, later(0)), Before::Nothing);
        assert_eq!(ids.use_for(&id("a"), one, later(1)), Before::Unconfirmed);
        assert_eq!(ids.use_for(&id("a"), other, later(1)), Before::Other);
        ids.queued(&id("a"));
        assert_eq!(ids.use_for(&id("a"), one, later(2)), Before::Queued);
        ids.not_queued(&id("a"));
        assert_eq!(ids.use_for(&id("a"), other, later(3)), Before::Other, "what is queued stays");
        assert_eq!(ids.use_for(&id("b"), other, later(4)), Before::Nothing);
        ids.not_queued(&id("b"));
        assert_eq!(ids.use_for(&id("b"), one, later(5)), Before::Nothing);
        assert_eq!(ids.use_for(&id("a"), other, later(600_000)), Before::Nothing, "the window is over");
    }

    #[test]
    fn parts_are_not_run_together_and_the_memory_is_bounded() {
        let ids = RecentIds::new(b"key");
        assert_ne!(ids.content([&b"ab"[..], b"c"]), ids.content([&b"a"[..], b"bc"]));
        assert_ne!(ids.content([&b"a"[..]]), RecentIds::new(b"another").content([&b"a"[..]]));
        let content = ids.content([&b"a"[..]]);
        for n in 0..IDS + 1_000 {
            ids.use_for(&id(&n.to_string()), content, Mono(0));
        }
        let inner = ids.inner.lock().unwrap();
        assert!(inner.seen.len() <= IDS && inner.order.len() <= IDS, "{}", inner.seen.len());
        assert!(!inner.seen.contains_key("0") && inner.seen.contains_key((IDS + 999).to_string().as_str()));
    }
}

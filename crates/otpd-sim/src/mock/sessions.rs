//! Sessions of Meta's on-premises API: which token speaks for which user, and until when.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::contract::base64_id;

/// The most sessions that are open at once; with one more, all must log in again.
const MAX_SESSIONS: usize = 10_000;

/// The open sessions. Times are nanoseconds since the mock started.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    ever: u64,
    by_token: HashMap<String, (Box<str>, u64)>,
}

impl Sessions {
    /// Opens one for `user`; returns its token.
    pub(crate) fn open(&self, user: &str, origin: u64, now: u64, until: u64) -> String {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.ever += 1;
        let token = base64_id("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.", origin, open.ever);
        if open.by_token.len() >= MAX_SESSIONS {
            open.by_token.retain(|_, (_, until)| *until > now);
        }
        if open.by_token.len() >= MAX_SESSIONS {
            open.by_token.clear();
        }
        open.by_token.insert(token.clone(), (user.into(), until));
        token
    }

    /// Whom `token` speaks for.
    pub(crate) fn user(&self, token: &str, now: u64) -> Option<Box<str>> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.by_token.get(token).filter(|(_, until)| *until > now).map(|(user, _)| user.clone())
    }

    /// Ends all of them.
    pub(crate) fn end_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_token.clear();
    }
}

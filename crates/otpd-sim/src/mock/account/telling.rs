//! What an account tells of its messages after it took them, and the book of its callbacks.

use super::Account;
use crate::chance::Chance;
use crate::mock::callbacks::caller::address;
use crate::mock::callbacks::journey::Telling;
use crate::mock::callbacks::post::Ended;
use crate::mock::callbacks::settings::{Address, CallTo};
use crate::mock::contract::Message;

/// What is drawn about a message: what becomes of it, and what is told of that.
pub(super) const BECOMES: u64 = 1;
const IS_TOLD: u64 = 2;

impl Account {
    /// The draws about a message with this fingerprint: the same code to the same phone meets the same fate.
    pub(super) fn fate(&self, fingerprint: u64, of: u64) -> Chance {
        Chance::of(&[self.seed, self.origin, fingerprint, of])
    }

    /// What is to be told of a message that was just sent, and to whom; `None` for nothing, to nobody.
    pub(crate) fn tells(
        &self,
        number: u64,
        message: &Message<'_>,
    ) -> Option<(Telling, Address, Option<Box<str>>)> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let calling = state.settings.calling.as_ref().filter(|calling| calling.to != CallTo::Nowhere)?;
        // It was just sent, so it is among the last.
        let sent = state.outbox.last().iter().rev().find(|sent| sent.number == number);
        let sent = sent?;
        let telling = sent.journey.told(calling, &mut self.fate(sent.fingerprint, IS_TOLD));
        match address(calling, message.callback_url.as_deref()) {
            Some(address) => Some((telling, address, calling.secret.clone())),
            None => {
                state.counts.callbacks.dropped += telling.news.len() as u64;
                None
            }
        }
    }

    /// Books a report that waits to be sent.
    pub(crate) fn callback_waits(&self) {
        self.lock().counts.callbacks.waiting += 1;
    }

    /// Books a report that found no room to wait.
    pub(crate) fn dropped_a_callback(&self) {
        self.lock().counts.callbacks.dropped += 1;
    }

    /// Books a request with so many reports.
    pub(crate) fn called_back(&self, ended: Ended, reports: u64, is_again: bool) {
        let callbacks = &mut self.lock().counts.callbacks;
        // After a reset of the counts there may be fewer.
        callbacks.waiting = callbacks.waiting.saturating_sub(reports);
        callbacks.sent += 1;
        callbacks.reports += reports;
        callbacks.repeated += u64::from(is_again);
        match ended {
            Ended::Taken => callbacks.taken += 1,
            Ended::Refused => callbacks.refused += 1,
            Ended::Unanswered => callbacks.unanswered += 1,
        }
    }
}

//! The messages one account sent: the last of them one by one, all of them by count, and which of them
//! repeated a code to the same phone.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use otpd_core::Phone;

use super::callbacks::journey::Journey;

/// The most messages that are remembered one by one.
const MAX_MESSAGES: usize = 100_000;
/// The most codes that are told apart.
const MAX_CODES: usize = 1 << 20;

/// A message that was sent.
pub(crate) struct Sent {
    /// Which one of its account; rises by one, whatever is forgotten.
    pub(crate) number: u64,
    /// Nanoseconds since the mock started.
    pub(crate) at: u64,
    pub(crate) phone: Phone,
    pub(crate) fingerprint: u64,
    /// What was sent, in clear, where the provider can be asked for it.
    pub(crate) text: Option<Box<str>>,
    /// What becomes of it.
    pub(crate) journey: Journey,
}

/// The messages of one account.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) count: u64,
    pub(crate) duplicates: u64,
    /// True once more codes were seen than are told apart: `duplicates` is a lower bound then.
    pub(crate) overflowed: bool,
    last: VecDeque<Sent>,
    next: u64,
    fingerprints: HashSet<u64>,
}

impl Outbox {
    /// Puts in a message, whose number it is given; returns that.
    pub(crate) fn put(&mut self, message: Sent) -> u64 {
        let fingerprint = message.fingerprint;
        if self.fingerprints.contains(&fingerprint) {
            self.duplicates += 1;
        } else if self.fingerprints.len() < MAX_CODES {
            self.fingerprints.insert(fingerprint);
        } else {
            self.overflowed = true;
        }
        if self.last.len() >= MAX_MESSAGES {
            self.last.pop_front();
        }
        let number = self.next;
        self.next += 1;
        self.count += 1;
        self.last.push_back(Sent { number, ..message });
        number
    }

    /// The remembered messages, oldest first.
    pub(crate) const fn last(&self) -> &VecDeque<Sent> {
        &self.last
    }

    /// Forgets everything but which number is next.
    pub(crate) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }
}

/// What stands for a phone and a code in statistics. It keeps codes off screens; it is no protection
/// against someone who knows the seed.
#[must_use]
pub fn fingerprint(seed: u64, phone: Phone, code: &str) -> u64 {
    hash(&(seed, phone, code))
}

/// The same in every run of one build.
pub(crate) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

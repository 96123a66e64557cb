//! What went wrong on the wire, told to an operator once.
//!
//! A fault of the wire meets every request, fifty times a second; the log is to hold it once. The same words
//! are told again after [`AGAIN`], as long as the fault goes on.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use otpd_core::Mono;

/// After how long the same words are told again.
const AGAIN: Duration = Duration::from_secs(600);
/// The most different words that are remembered; with more, the oldest may be told again early.
const MOST: usize = 8;

/// What was told lately.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<(Box<str>, Mono)>>);

impl Told {
    /// Whether these words are to be told now; remembers that they were.
    pub(crate) fn is_new(&self, words: &str, now: Mono) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(_, at)| now.since(*at) < AGAIN);
        if told.iter().any(|(known, _)| **known == *words) {
            return false;
        }
        if told.len() >= MOST {
            told.remove(0);
        }
        told.push((words.into(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_ten_minutes() {
        let told = Told::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        for (words, seconds, is_new) in [
            ("refused", 1, true),
            ("refused", 2, false),
            ("expired", 3, true),
            ("refused", 600, false),
            ("refused", 601, true),
            ("expired", 602, false),
        ] {
            assert_eq!(told.is_new(words, at(seconds)), is_new, "{words} at {seconds}");
        }
        for words in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
            assert!(told.is_new(words, at(602)));
        }
        assert_eq!(told.0.lock().unwrap().len(), MOST);
    }
}

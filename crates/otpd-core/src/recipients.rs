//! How many messages one number may get: exact sliding logs by number, and the pauses that providers
//! ask for one recipient. Bounded: beyond [`MOST`] numbers the ones asked for least lately are forgotten.

use std::collections::{HashMap, VecDeque};

use crate::clock::Mono;
use crate::phone::Phone;
use crate::rate::Rate;

/// How many numbers are remembered at most.
pub const MOST: usize = 100_000;

/// The limits, and what each number got lately.
#[derive(Debug, Default)]
pub struct Recipients {
    limits: Vec<Rate>,
    numbers: HashMap<Phone, Number>,
    order: VecDeque<(Phone, Mono)>,
}

#[derive(Debug, Default)]
struct Number {
    sent: VecDeque<Mono>,
    paused_until: Option<Mono>,
    last: Mono,
}

impl Recipients {
    /// Limits that all hold for each number; none: any number of messages.
    #[must_use]
    pub fn new(limits: Vec<Rate>) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Other limits from now on. They count what is remembered: of each number as many messages as the
    /// limits before allowed.
    pub fn set_limits(&mut self, limits: Vec<Rate>) {
        self.limits = limits;
    }

    /// When the next message may go to `to`: `now`, or later.
    #[must_use]
    pub fn ready_at(&self, to: Phone, now: Mono) -> Mono {
        let Some(number) = self.numbers.get(&to) else { return now };
        let limited = self.limits.iter().filter_map(|limit| {
            let count = usize::try_from(limit.count).unwrap_or(usize::MAX);
            let place = number.sent.len().checked_sub(count)?;
            number.sent.get(place).map(|sent| sent.plus(limit.per))
        });
        limited.chain(number.paused_until).fold(now, Mono::max)
    }

    /// A message starts on its way to `to`.
    pub fn sent(&mut self, to: Phone, now: Mono) {
        let Some(most) = self.limits.iter().map(|l| l.count).max() else { return };
        let number = self.touch(to, now);
        number.sent.push_back(now);
        while number.sent.len() > usize::try_from(most).unwrap_or(usize::MAX) {
            number.sent.pop_front();
        }
    }

    /// The last message counted for `to` was not sent after all.
    pub fn not_sent(&mut self, to: Phone) {
        if let Some(number) = self.numbers.get_mut(&to) {
            number.sent.pop_back();
        }
    }

    /// The provider wants nothing sent to `to` before `until`.
    pub fn pause(&mut self, to: Phone, until: Mono, now: Mono) {
        let number = self.touch(to, now);
        number.paused_until = number.paused_until.max(Some(until));
    }

    fn touch(&mut self, to: Phone, now: Mono) -> &mut Number {
        self.order.push_back((to, now));
        while self.order.len() > MOST {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.numbers.get(&oldest).is_some_and(|n| n.last <= at) {
                self.numbers.remove(&oldest);
            }
        }
        let number = self.numbers.entry(to).or_default();
        number.last = now;
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Mono {
        Mono(1_000_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn phone(n: u64) -> Phone {
        Phone::parse(&format!("+62811{n:07}")).unwrap()
    }

    #[test]
    fn all_limits_hold_and_numbers_do_not_meet() {
        let mut recipients = Recipients::new(vec!["1/30s".parse().unwrap(), "3/h".parse().unwrap()]);
        for second in [0, 30, 60] {
            assert_eq!(recipients.ready_at(phone(1), at(second)), at(second));
            recipients.sent(phone(1), at(second));
        }
        assert_eq!(recipients.ready_at(phone(1), at(61)), at(3600));
        recipients.not_sent(phone(1));
        assert_eq!(recipients.ready_at(phone(1), at(61)), at(61), "the third did not go out");
        assert_eq!(recipients.ready_at(phone(2), at(61)), at(61));
        recipients.pause(phone(2), at(70), at(61));
        assert_eq!(recipients.ready_at(phone(2), at(61)), at(70));
    }

    #[test]
    fn other_limits_count_what_was_sent_before() {
        let mut recipients = Recipients::new(vec!["3/h".parse().unwrap()]);
        for second in [0, 10] {
            recipients.sent(phone(1), at(second));
        }
        recipients.set_limits(vec!["1/30s".parse().unwrap()]);
        assert_eq!(recipients.ready_at(phone(1), at(11)), at(40));
        recipients.set_limits(vec!["3/h".parse().unwrap()]);
        assert_eq!(recipients.ready_at(phone(1), at(11)), at(11));
    }

    #[test]
    fn without_limits_nothing_is_kept_but_pauses() {
        let mut recipients = Recipients::default();
        recipients.sent(phone(1), at(0));
        assert!(recipients.numbers.is_empty());
        for n in 0..MOST as u64 + 5 {
            recipients.pause(phone(n), at(9), at(0));
        }
        assert_eq!(recipients.numbers.len(), MOST);
    }
}

//! Which acknowledgements to write, and in which form. Pure.
//!
//! The broker finds a delivery by searching from the oldest unacknowledged one, so what lies near
//! the head is cheap and one acknowledgement for a whole settled prefix is the cheapest. Everything
//! settled up to the first unsettled delivery goes out as one `multiple`; the rest one by one,
//! oldest first.
//!
//! Handing back goes by the same forms.
//!
//! Invariants: a delivery is acknowledged at most once, never before it is settled, and never
//! through a `multiple` that covers an unsettled one. Tags of other sessions change nothing.

use std::collections::{HashSet, VecDeque};

use crate::seam::Tag;

/// One `basic.ack`, or `basic.nack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    /// This delivery.
    One(u64),
    /// This one and all before it.
    UpTo(u64),
}

impl Ack {
    /// As the protocol puts it: a delivery, and whether all before it are meant too.
    pub(super) fn parts(self) -> (u64, bool) {
        match self {
            Self::One(number) => (number, false),
            Self::UpTo(number) => (number, true),
        }
    }
}

/// The deliveries of one session, settled or not.
#[derive(Debug)]
pub(super) struct Acks {
    session: u32,
    /// The oldest delivery that is not settled, or the next to come.
    head: u64,
    /// From `head` on: whether each delivery is settled.
    settled: VecDeque<bool>,
    /// Settled and not yet acknowledged.
    fresh: Vec<u64>,
    outstanding: usize,
}

impl Acks {
    /// A session begins; its deliveries are numbered from 1.
    pub(super) fn new(session: u32) -> Self {
        Self { session, head: 1, settled: VecDeque::new(), fresh: Vec::new(), outstanding: 0 }
    }

    /// Delivery `number` came, and all before it.
    pub(super) fn delivered(&mut self, number: u64) {
        while self.next() <= number {
            self.settled.push_back(false);
            self.outstanding += 1;
        }
    }

    fn next(&self) -> u64 {
        self.head + self.settled.len() as u64
    }

    /// A delivery is settled. Says whether that was news.
    pub(super) fn settle(&mut self, tag: Tag) -> bool {
        if tag.session != self.session || tag.number < self.head {
            return false;
        }
        let place = usize::try_from(tag.number - self.head).ok().and_then(|i| self.settled.get_mut(i));
        let Some(settled) = place.filter(|s| !**s) else { return false };
        *settled = true;
        self.outstanding -= 1;
        self.fresh.push(tag.number);
        true
    }

    /// How many acknowledgements wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.fresh.len()
    }

    /// How many deliveries are out and not settled.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// What to hand back: all that is not settled, apart from `kept`. To be written after what [`Acks::take`] gives.
    pub(super) fn hand_back(&mut self, kept: &HashSet<u64>) -> Vec<Ack> {
        let first_kept = kept.iter().copied().filter(|n| *n >= self.head).min().unwrap_or(u64::MAX);
        let mut prefix = None;
        let mut ones = Vec::new();
        for (number, settled) in (self.head..).zip(&mut self.settled) {
            if *settled || kept.contains(&number) {
                continue;
            }
            *settled = true;
            self.outstanding -= 1;
            if number < first_kept {
                prefix = Some(Ack::UpTo(number));
            } else {
                ones.push(Ack::One(number));
            }
        }
        prefix.into_iter().chain(ones).collect()
    }

    /// What to write now, in order. After this nothing waits.
    pub(super) fn take(&mut self) -> Vec<Ack> {
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.head += 1;
        }
        self.fresh.sort_unstable();
        let prefix = self.fresh.partition_point(|n| *n < self.head);
        let mut ones = self.fresh.drain(..);
        let last = ones.by_ref().take(prefix).last();
        last.map(Ack::UpTo).into_iter().chain(ones.map(Ack::One)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: u32 = 3;

    fn after(delivered: u64, settled: &[u64]) -> Acks {
        let mut acks = Acks::new(SESSION);
        acks.delivered(delivered);
        for number in settled {
            acks.settle(Tag { session: SESSION, number: *number });
        }
        acks
    }

    #[test]
    fn a_prefix_is_one_and_the_rest_are_single() {
        for (delivered, settled, written) in [
            (5, vec![], vec![]),
            (5, vec![1], vec![Ack::UpTo(1)]),
            (5, vec![3, 1, 2], vec![Ack::UpTo(3)]),
            (5, vec![5, 1, 3], vec![Ack::UpTo(1), Ack::One(3), Ack::One(5)]),
            (5, vec![4, 2], vec![Ack::One(2), Ack::One(4)]),
            (5, vec![1, 1, 1], vec![Ack::UpTo(1)]),
            (2, vec![3, 0, u64::MAX], vec![]),
        ] {
            assert_eq!(after(delivered, &settled).take(), written, "{delivered} {settled:?}");
        }
    }

    #[test]
    fn the_head_passes_over_what_was_acknowledged_singly() {
        let mut acks = after(4, &[2, 3]);
        assert_eq!(acks.take(), [Ack::One(2), Ack::One(3)]);
        acks.settle(Tag { session: SESSION, number: 1 });
        assert_eq!(acks.take(), [Ack::UpTo(1)], "2 and 3 are gone already and must not be named again");
        assert_eq!((acks.waiting(), acks.outstanding()), (0, 1));
    }

    #[test]
    fn another_session_changes_nothing() {
        let mut acks = after(2, &[]);
        for session in [SESSION - 1, SESSION + 1] {
            assert!(!acks.settle(Tag { session, number: 1 }));
        }
        assert_eq!((acks.take(), acks.outstanding()), (Vec::new(), 2));
    }

    #[test]
    fn what_is_handed_back_is_neither_kept_nor_settled() {
        for (settled, kept, written) in [
            (vec![], vec![], vec![Ack::UpTo(6)]),
            (vec![1, 2], vec![], vec![Ack::UpTo(6)]),
            (vec![6], vec![], vec![Ack::UpTo(5)]),
            (vec![2], vec![4], vec![Ack::UpTo(3), Ack::One(5), Ack::One(6)]),
            (vec![1], vec![2, 5], vec![Ack::One(3), Ack::One(4), Ack::One(6)]),
            (vec![], vec![1, 2, 3, 4, 5, 6], vec![]),
            // Kept, and ended meanwhile.
            (vec![1, 2], vec![2], vec![Ack::UpTo(6)]),
        ] {
            let mut acks = after(6, &settled);
            acks.take();
            let kept: HashSet<u64> = kept.into_iter().collect();
            assert_eq!(acks.hand_back(&kept), written, "{settled:?} {kept:?}");
            assert_eq!(acks.outstanding(), kept.iter().filter(|n| !settled.contains(n)).count());
            assert!(!acks.settle(Tag { session: SESSION, number: 3 }) || kept.contains(&3), "it is gone");
        }
    }

    /// The broker's side: what is out, and what each acknowledgement takes away.
    struct Broker(std::collections::BTreeSet<u64>);

    impl Broker {
        /// Fails as RabbitMQ does where the named delivery is not out.
        fn ack(&mut self, ack: Ack) -> Vec<u64> {
            let (Ack::One(n) | Ack::UpTo(n)) = ack;
            assert!(self.0.contains(&n), "unknown delivery tag {n}");
            let gone: Vec<u64> = match ack {
                Ack::One(n) => vec![n],
                Ack::UpTo(n) => self.0.range(..=n).copied().collect(),
            };
            self.0.retain(|n| !gone.contains(n));
            gone
        }
    }

    proptest! {
        #[test]
        fn exactly_what_is_settled_is_acknowledged(
            steps in proptest::collection::vec((0u64..40, any::<bool>(), any::<bool>()), 0..120)
        ) {
            let mut acks = Acks::new(SESSION);
            let mut broker = Broker(std::collections::BTreeSet::new());
            let (mut settled, mut acknowledged) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            let mut last = 0;
            for (number, delivers, flushes) in steps {
                if delivers {
                    last += 1;
                    acks.delivered(last);
                    broker.0.insert(last);
                }
                if acks.settle(Tag { session: SESSION, number }) {
                    settled.insert(number);
                }
                if flushes {
                    for ack in acks.take() {
                        for gone in broker.ack(ack) {
                            prop_assert!(settled.contains(&gone), "{gone} was not settled");
                            prop_assert!(acknowledged.insert(gone), "{gone} twice");
                        }
                    }
                    prop_assert_eq!(&acknowledged, &settled);
                }
            }
            prop_assert_eq!(acks.outstanding() as u64, last - settled.len() as u64);
        }
    }
}

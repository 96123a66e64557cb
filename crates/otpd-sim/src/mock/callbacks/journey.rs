//! What becomes of a message after it was taken, and what is told of it: two draws, so that a message has its states
//! for who asks, whatever callbacks say.

use std::time::Duration;

use super::settings::Calling;
use super::shares::Shares;
use crate::chance::Chance;

/// How far a message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Sent,
    Failed,
    Delivered,
    Read,
}

/// The steps of a message, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Journey([Option<(Step, Millis)>; 3]);

/// Milliseconds after a message was taken; 49 days are enough.
type Millis = u32;

impl Journey {
    /// Sent at once, and nothing more is known of it.
    pub(crate) const ONLY_SENT: Self = Self([Some((Step::Sent, 0)), None, None]);

    /// What becomes of a message of this account.
    pub(crate) fn draw(calling: &Calling, chance: &mut Chance) -> Self {
        let Shares { undelivered, failed, read, .. } = calling.shares;
        let delay = calling.delay.draw(chance);
        let (fate, is_read) = (chance.share(), chance.share() < read);
        let after = |factor: f64| u32::try_from(delay.mul_f64(factor).as_millis()).unwrap_or(u32::MAX);
        let sent = Some((Step::Sent, after(0.2)));
        if fate < undelivered {
            Self([sent, None, None])
        } else if fate < undelivered + failed {
            Self([sent, Some((Step::Failed, after(1.0))), None])
        } else {
            let read = is_read.then(|| (Step::Read, after(2.0)));
            Self([sent, Some((Step::Delivered, after(1.0))), read])
        }
    }

    /// The step it has reached by then, and how long after it was taken; `None` before the first.
    pub(crate) fn at(&self, elapsed: Duration) -> Option<(Step, Duration)> {
        self.steps().take_while(|(_, after)| *after <= elapsed).last()
    }

    /// When it reached this step.
    pub(crate) fn reached(&self, step: Step) -> Option<Duration> {
        self.steps().find_map(|(each, after)| (each == step).then_some(after))
    }

    /// The steps, each with how long after the message was taken it is reached.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Step, Duration)> {
        self.0.into_iter().flatten().map(|(step, after)| (step, Duration::from_millis(after.into())))
    }

    /// The callbacks about it, in any order.
    pub(crate) fn told(&self, calling: &Calling, chance: &mut Chance) -> Telling {
        let shares = &calling.shares;
        let (silent, early, shuffled) = (chance.share(), chance.share(), chance.share());
        if silent < shares.silent {
            return Telling { news: Vec::new(), is_early: false };
        }
        let mut news: Vec<News> =
            self.steps().map(|(step, after)| News { step, reached: after, after }).collect();
        if shuffled < shares.shuffled {
            shuffle(&mut news, chance);
        }
        let is_early = early < shares.early && !news.is_empty();
        if is_early {
            news.first_mut().into_iter().for_each(|first| first.after = Duration::ZERO);
        }
        for at in 0..news.len() {
            if chance.share() < shares.twice
                && let Some(first) = news.get(at).copied()
            {
                news.push(News { after: first.after + calling.delay.draw(chance), ..first });
            }
        }
        Telling { news, is_early }
    }
}

/// What is told of a message.
pub(crate) struct Telling {
    pub(crate) news: Vec<News>,
    /// The first of the news comes before the answer to the request.
    pub(crate) is_early: bool,
}

/// One callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) step: Step,
    /// When the step is reached, after the message was taken.
    pub(crate) reached: Duration,
    /// When the callback leaves.
    pub(crate) after: Duration,
}

/// Gives the news each other's times: never the order they had.
fn shuffle(news: &mut [News], chance: &mut Chance) {
    let before: Vec<Duration> = news.iter().map(|news| news.after).collect();
    for last in (1..news.len()).rev() {
        let other = usize::try_from(chance.next_u64() % (last as u64 + 1)).unwrap_or(0);
        swap(news, last, other);
    }
    if news.len() > 1 && news.iter().map(|news| news.after).eq(before) {
        swap(news, 0, 1);
    }
}

fn swap(news: &mut [News], one: usize, other: usize) {
    let after = |news: &[News], at: usize| news.get(at).map(|news| news.after);
    if let (Some(first), Some(second)) = (after(news, one), after(news, other)) {
        news.get_mut(one).into_iter().for_each(|news| news.after = second);
        news.get_mut(other).into_iter().for_each(|news| news.after = first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calling(shares: &str) -> Calling {
        Calling { shares: shares.parse().unwrap(), delay: "10s".parse().unwrap(), ..Calling::default() }
    }

    fn journeys(shares: &str) -> (Calling, Vec<Journey>) {
        let calling = calling(shares);
        let all = (0..4000).map(|i| Journey::draw(&calling, &mut Chance::of(&[i]))).collect();
        (calling, all)
    }

    #[test]
    fn steps_take_their_time() {
        let (_, all) = journeys("read=100%");
        let ms = Duration::from_millis;
        for (elapsed, step) in [
            (1999, None),
            (2000, Some((Step::Sent, ms(2000)))),
            (9999, Some((Step::Sent, ms(2000)))),
            (10_000, Some((Step::Delivered, ms(10_000)))),
            (99_000, Some((Step::Read, ms(20_000)))),
        ] {
            assert_eq!(all[0].at(ms(elapsed)), step, "{elapsed}");
        }
        assert_eq!(all[0].reached(Step::Failed), None);
    }

    #[test]
    fn shares_are_shares() {
        let (_, all) = journeys("undelivered=20%,failed=10%,read=50%");
        let count = |step: Step| all.iter().filter(|journey| journey.reached(step).is_some()).count();
        for (step, about) in
            [(Step::Sent, 4000), (Step::Failed, 400), (Step::Delivered, 2800), (Step::Read, 1400)]
        {
            assert!(count(step).abs_diff(about) <= 120, "{step:?}: {}", count(step));
        }
    }

    #[test]
    fn what_is_told_of_them() {
        let (calling, all) = journeys("silent=10%,early=20%,shuffled=50%,twice=50%,read=100%");
        let told: Vec<Telling> =
            (0..).zip(&all).map(|(i, journey)| journey.told(&calling, &mut Chance::of(&[i, 1]))).collect();
        let count = |is: &dyn Fn(&Telling) -> bool| told.iter().filter(|telling| is(telling)).count();
        let silent = count(&|telling| telling.news.is_empty());
        let early = count(&|telling| telling.is_early);
        let ordered = count(&|telling| {
            telling.news.len() >= 3
                && !telling.is_early
                && telling.news[..3].is_sorted_by_key(|news| news.after)
        });
        let requests: usize = told.iter().map(|telling| telling.news.len()).sum();
        assert!(silent.abs_diff(400) <= 80, "{silent} silent");
        assert!(early.abs_diff(720) <= 100, "{early} early");
        assert!(ordered.abs_diff(1440) <= 160, "{ordered} in order");
        assert!(requests.abs_diff(3600 * 3 * 3 / 2) <= 400, "{requests} requests");
        let truth = |news: &News| all[0].reached(news.step) == Some(news.reached);
        assert!(told[0].news.iter().all(truth), "a callback out of order says when the step was");
    }
}

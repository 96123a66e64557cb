//! How much an account really takes, learned from refusals that say nothing but "too many".
//!
//! A refusal is a measurement: what was accepted within the window before it is what the account takes. So
//! the rate that is in force afterwards is that count in that window, kept exactly (a log of requests, as
//! for configured ceilings) and evenly, which fits a provider that counts in sliding windows, in fixed ones,
//! or with a token bucket alike. It is only ever in force beside the configured ceiling, never above it.
//!
//! Three kinds of refusals. *The first*, or one that comes although no limit is known, pauses the account: 1 s,
//! and twice as long as long as nothing is accepted in between, up to 60 s. *One at the edge*, where what is
//! in force was accepted until now, takes the last step back and pauses nothing; the request that was
//! refused occupies its place in the window, so a provider that counts refused requests is content too. *Two
//! in a row* say that the limit has moved: a pause, and then the next refusal measures what was accepted since.
//! What was on its way before the last change says nothing about the state after it.
//!
//! It is raised step by step, each time after a whole window at the present count was accepted: halfway to what
//! was refused last, and at that edge by single steps. Those are paid for: every accepted request earns
//! [`EARNED`] refusals, so that refusals stay below 2 %. They are asked for more often where more was taken
//! lately ([`OFTEN`]) than where nothing is to be gained ([`SELDOM`]). A step that is accepted for a whole
//! window ends the edge: then straight to what was taken lately, or up by a quarter, a half, twice.
//!
//! Refusals that have nothing to do with the rate, but come at random, are not told from those that have: the
//! rate then sinks until whole windows pass without one.
//!
//! Where the shortest pauses are not enough, the provider counts in minutes, and so does this from then on. Where few
//! were accepted in the minute before ([`FEW`]) they may have been all that there were: then at the second time only.
//!
//! Pure: times are arguments. Bounded: the accepted requests of a minute, in cells of [`CELL`].

use std::time::Duration;

use crate::checkpoint::{LearnedFrom, LearnedLimit};
use crate::clock::Mono;
use crate::counts::Counts;
use crate::limit::held_for_measured;
use crate::rate::Rate;
use found::{Found, step};

mod found;

/// The first and the longest pause where the provider names none.
pub(crate) const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The windows in which providers are taken to count.
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// After so many pauses in a row it is the minute.
const PAUSES_OF_A_SECOND: u32 = 3;
/// Fewer than so many in a minute may be all that was to be sent.
const FEW: u32 = 30;
/// How long, and how exactly, accepted requests are remembered.
const HISTORY: Duration = Duration::from_secs(61);
const CELL: Duration = Duration::from_millis(5);
/// What is made up for where a request starts late: two places of the even flow, and this at least. More would
/// be a burst.
const LATE: Duration = Duration::from_millis(150);
/// How many refusals an accepted request earns, how many are there at first, and how many can be saved.
const EARNED: f64 = 0.015;
const SAVED: (f64, f64) = (5.0, 60.0);
/// How many can be owed, and how many are there after a pause.
const OWED: f64 = 4.0;
const AFTER_A_PAUSE: f64 = 2.0;
/// What a second earns where less is accepted, and of how many seconds at most.
const EARNED_A_SECOND: f64 = 0.05;
const LONGEST_IDLE: Duration = Duration::from_secs(20);
/// The longest wait between two steps over the edge: where more may be taken, and where not.
const OFTEN: Duration = Duration::from_secs(3);
const SELDOM: Duration = Duration::from_secs(15);
/// What is worth asking often: so many times what is in force.
const WORTH_IT: f64 = 1.3;
/// After how many steps in vain nothing is to be gained, unless more was taken lately.
const HOPEFUL: u32 = 40;
/// How long it is remembered what was taken.
const LATELY: Duration = Duration::from_secs(600);
/// A provider that asks for a wait is asked for more so seldom that waiting costs a fortieth of the time.
const COSTLY: u32 = 40;
/// How many refusals in a row say that the limit has moved.
const MOVED: u32 = 2;
/// So many single ones within five windows say that a proved rate is a little too much.
const STRIKES: u32 = 3;
/// So many steps down within two windows say that it has moved.
const STEPS_DOWN: u32 = 4;
/// Without a configured ceiling, so many raises in a row end what was learned.
const FORGOTTEN: u32 = 8;

/// What is learned of one account.
#[derive(Debug)]
pub(crate) struct Learner {
    /// Requests that were accepted, by when they were written.
    taken: Counts,
    last_taken: Mono,
    found: Option<Found>,
    /// The configured ceiling a second.
    configured: Option<f64>,
    /// When the next request may start.
    free_at: Mono,
    /// How many pauses there were since a request was accepted, and until when the last one lasts.
    pauses: u32,
    paused_until: Mono,
    /// What was accepted in the second and in the minute before the first of them.
    before: (u32, u32),
    /// When it was last doubted whether the provider counts in minutes.
    doubted_at: Option<Mono>,
    /// The last change. Of the requests written since: accepted ones, and refused ones in a row.
    changed_at: Mono,
    accepted: u32,
    refused: u32,
    /// The last accepted one when it was looked whether they fill a window.
    looked_at: Mono,
    /// The wait that the provider named last.
    named: Duration,
    /// What a whole window accepted lately.
    peak: Option<(Rate, Mono)>,
    saved: f64,
}

impl Default for Learner {
    fn default() -> Self {
        let [last_taken, paused_until, changed_at, looked_at] = [Mono::default(); 4];
        Self {
            taken: Counts::default(),
            last_taken,
            found: None,
            configured: None,
            free_at: Mono::default(),
            pauses: 0,
            paused_until,
            before: (0, 0),
            doubted_at: None,
            changed_at,
            looked_at,
            accepted: 0,
            refused: 0,
            named: Duration::ZERO,
            peak: None,
            saved: SAVED.0,
        }
    }
}

impl Learner {
    /// The limit in force, if there is one.
    pub(crate) fn rate(&self) -> Option<Rate> {
        self.found.and_then(Found::rate)
    }

    /// True until a request is accepted after a pause: one at a time asks whether it is over.
    pub(crate) const fn asks(&self) -> bool {
        self.pauses > 0
    }

    /// When the next request may start, as far as the even flow is concerned.
    pub(crate) fn ready_at(&self) -> Mono {
        if self.found.is_some() { self.free_at } else { Mono::default() }
    }

    /// Counts a request that starts now.
    pub(crate) fn started(&mut self, now: Mono) {
        if let Some(rate) = self.rate() {
            let spacing = held_for_measured(rate) / rate.count.max(1);
            self.free_at = self.free_at.max(now.minus(spacing * 2).min(now.minus(LATE))).plus(spacing);
        }
    }

    /// A request that was written at `written` was accepted.
    pub(crate) fn accepted(&mut self, written: Mono, now: Mono) {
        self.taken.add_rounded(written, 1, CELL);
        self.taken.forget(HISTORY, now);
        let idle = written.since(self.last_taken).min(LONGEST_IDLE).as_secs_f64() * EARNED_A_SECOND;
        self.saved = (self.saved + idle.max(EARNED)).min(SAVED.1);
        self.last_taken = self.last_taken.max(written);
        if written >= self.paused_until && self.pauses > 0 {
            self.pauses = 0;
            self.saved = self.saved.max(AFTER_A_PAUSE);
        }
        if written >= self.changed_at {
            self.accepted = self.accepted.saturating_add(1);
            self.refused = 0;
        }
    }

    /// A request that was written at `written` was refused for the whole account, with the wait that the provider
    /// `named`. Gives the pause that follows where it named none.
    pub(crate) fn refused(&mut self, written: Mono, named: Option<Duration>, now: Mono) -> Option<Duration> {
        self.saved = (self.saved - 1.0).max(-OWED);
        if written < self.changed_at {
            return None;
        }
        self.refused = self.refused.saturating_add(1);
        self.named = named.unwrap_or_default();
        let enough = if self.found.is_some() { MOVED } else { 1 };
        if self.pauses > 0 || self.refused >= enough {
            return self.pause(written, named, now);
        }
        match self.found {
            Some(mut found) => {
                if found.is_proved {
                    let is_new = now.since(found.struck_at) >= found.per * 5;
                    found.strikes = if is_new { 1 } else { found.strikes + 1 };
                    found.struck_at = if is_new { now } else { found.struck_at };
                    self.found = Some(found);
                    if found.strikes < STRIKES {
                        return None;
                    }
                }
                let is_soon = now.since(found.lowered_at) < found.per * 2;
                if is_soon && found.lowered + 1 >= STEPS_DOWN {
                    return self.pause(written, named, now);
                }
                self.step_back(found, written, now);
                None
            }
            None => None,
        }
    }

    /// Nothing more for a while; then with what was taken until now.
    fn pause(&mut self, written: Mono, named: Option<Duration>, now: Mono) -> Option<Duration> {
        if self.pauses == 0 {
            self.before = (self.taken_before(written, SECOND), self.taken_before(written, MINUTE));
            if self.found.is_none() && self.before.0 > 0 {
                self.found = Some(Found::new(self.before.0, SECOND));
            }
        } else if self.pauses == PAUSES_OF_A_SECOND && self.before.1 > 0 && self.counts_in_minutes(now) {
            let most = self.before.1.max(self.before.0.saturating_mul(10));
            self.found = Some(Found::new(most, MINUTE));
        }
        let wait = named.unwrap_or_else(|| (PAUSES.0 * 2u32.pow(self.pauses.min(6))).min(PAUSES.1));
        self.pauses = self.pauses.saturating_add(1);
        self.paused_until = now.plus(wait);
        if let Some(found) = &mut self.found {
            (found.is_proved, found.is_trial, found.strikes, found.lowered) = (false, false, 0, 0);
        }
        self.changed(self.paused_until);
        named.is_none().then_some(wait)
    }

    /// True unless few were accepted before the pauses, and it is the first time.
    fn counts_in_minutes(&mut self, now: Mono) -> bool {
        let was_doubted = self.doubted_at.replace(now).is_some_and(|at| now.since(at) < LATELY);
        was_doubted || self.before.1 >= FEW
    }

    /// What is in force was a little too much, or all that was accepted since the pause is what fits.
    fn step_back(&mut self, found: Found, written: Mono, now: Mono) {
        let taken = self.taken_before(written, found.per);
        let down = step(found.count) << found.lowered.min(6);
        let halfway = found.count.midpoint(found.proved.min(found.count));
        let halfway = if found.proved == 0 { found.count } else { halfway };
        let one_back = found.count.saturating_sub(down).min(halfway).max(1);
        let (mut found, mut is_proved) = (found, false);
        if taken + (found.count / 10).max(1) < one_back {
            found = Found { failed: found.failed, ..Found::new(taken.max(1), found.per) };
        } else if found.count == 1 && found.per == SECOND {
            let taken = self.taken_before(written, MINUTE).max(1);
            found = Found { failed: found.failed, ..Found::new(taken, MINUTE) };
        } else {
            found.edge = Some(found.count);
            found.count = one_back;
            is_proved = found.is_trial;
            if found.lowered == 0 {
                found.lowered_at = now;
            }
            found.lowered += 1;
        }
        (found.is_proved, found.is_trial, found.strikes, found.raised) = (is_proved, false, 0, 0);
        if is_proved {
            found.lowered = 0;
        }
        found.failed = found.failed.saturating_add(1);
        found.try_at = now.plus(self.wait_at_edge(&found, now));
        self.found = Some(found);
        self.changed(now);
    }

    /// How long a step over the edge waits.
    fn wait_at_edge(&self, found: &Found, now: Mono) -> Duration {
        let shortest = found.per * 3 / 2;
        let gain = |rate: f64| rate >= found.per_second() * WORTH_IT;
        let was_more = self.peak_at(found.per, now).is_some_and(|peak| gain(peak.per_second()));
        let may_be_more = found.failed < HOPEFUL && self.configured.is_none_or(gain);
        let longest = if was_more || may_be_more { OFTEN } else { SELDOM };
        let doubled = shortest * 2u32.pow(found.failed.saturating_sub(1).min(6));
        doubled.min(longest).max(shortest).max(self.named * COSTLY)
    }

    fn peak_at(&self, per: Duration, now: Mono) -> Option<Rate> {
        self.peak.filter(|(peak, at)| peak.per == per && now.since(*at) < LATELY).map(|(peak, _)| peak)
    }

    /// Raises what is in force where it is time. Says whether it did.
    pub(crate) fn raise(&mut self, now: Mono) -> bool {
        let Some(mut found) = self.found.filter(|_| now >= self.paused_until) else { return false };
        if !found.is_proved {
            let is_new = self.last_taken.since(self.looked_at) >= found.per / 50;
            if self.accepted < found.count || !is_new {
                return false;
            }
            self.looked_at = self.last_taken;
            if !self.has_filled_a_window(&found) {
                return false;
            }
            self.prove(&mut found, now);
        }
        let most = self.configured.map(|c| c * found.per.as_secs_f64());
        let is_free = match most {
            Some(most) => f64::from(found.count) >= most.floor(),
            None => found.raised >= FORGOTTEN,
        };
        if is_free {
            self.found = None;
            self.changed(now);
            return true;
        }
        let Some((count, edge)) = self.higher(&found, now) else {
            self.found = Some(found);
            return false;
        };
        if edge.is_some_and(|edge| edge > count) && found.edge.is_none() {
            // Straight to what was taken lately: if that is a little too much now, then only a little.
            found.proved = count.saturating_sub(2 * step(count)).max(found.proved);
        }
        let most = most.map_or(u32::MAX, |most| most.floor().clamp(1.0, f64::from(u32::MAX)) as u32);
        found.raised = found.raised.saturating_add(1);
        let is_trial = found.is_at_edge();
        self.found = Some(Found { count: count.min(most), edge, is_proved: false, is_trial, ..found });
        self.changed(now);
        true
    }

    /// A whole window of the present count was accepted.
    fn prove(&mut self, found: &mut Found, now: Mono) {
        (found.is_proved, found.is_trial, found.strikes) = (true, false, 0);
        found.proved = found.count;
        found.lowered = 0;
        if found.edge.is_some_and(|edge| found.count >= edge) {
            (found.edge, found.failed) = (None, 0);
        }
        if let Some(rate) = found.rate()
            && self.peak_at(found.per, now).is_none_or(|peak| rate.count >= peak.count)
        {
            self.peak = Some((rate, now));
        }
    }

    /// The next count to try, with the edge that is known above it; `None` where it is not time yet.
    fn higher(&self, found: &Found, now: Mono) -> Option<(u32, Option<u32>)> {
        let next = found.count.saturating_add(step(found.count));
        match found.edge {
            Some(_) if found.is_at_edge() => {
                (now >= found.try_at && self.saved >= 1.0).then_some((next, found.edge))
            }
            Some(edge) => Some((found.count + (edge - found.count) / 2, found.edge)),
            None => Some(match self.peak_at(found.per, now).filter(|peak| peak.count > next) {
                Some(peak) if peak.count / 4 <= found.count => {
                    (peak.count, Some(peak.count.saturating_add(step(peak.count))))
                }
                Some(_) | None => {
                    let quarters = [4, 5, 6].get(index(found.raised)).copied().unwrap_or(8);
                    (next.max(found.count.saturating_mul(quarters) / 4), None)
                }
            }),
        }
    }

    /// True if within about a window since the last change as many were accepted as are in force: fewer
    /// prove nothing. The window ends with the last one that was accepted, because answers take their time.
    fn has_filled_a_window(&self, found: &Found) -> bool {
        let since = self.last_taken.minus(found.per + found.per / 8).max(self.changed_at);
        self.taken_between(since, self.last_taken) >= found.count
    }

    fn taken_before(&self, end: Mono, window: Duration) -> u32 {
        self.taken_between(end.minus(window).max(self.paused_until.min(end)), end)
    }

    /// How many were accepted that were written after `since` and until `end`.
    fn taken_between(&self, since: Mono, end: Mono) -> u32 {
        let last = end.plus(CELL);
        let counted =
            self.taken.iter().rev().skip_while(|(at, _)| *at >= last).take_while(|(at, _)| *at > since);
        counted.map(|(_, count)| count).fold(0, u32::saturating_add)
    }

    fn changed(&mut self, at: Mono) {
        (self.changed_at, self.accepted, self.refused) = (at, 0, 0);
    }

    /// Ends what was learned where it is more than the `configured` ceiling.
    pub(crate) fn bound(&mut self, configured: Option<f64>) {
        self.configured = configured;
        self.found = self.found.filter(|found| configured.is_none_or(|c| found.per_second() <= c));
    }

    /// What the next owner must know.
    pub(crate) fn limit(&self, now: Mono) -> Option<LearnedLimit> {
        let (found, rate) = (self.found?, self.rate()?);
        Some(LearnedLimit { rate, raise_in: found.try_at.since(now), from: LearnedFrom::Refusals })
    }

    /// Goes by what another owner learned, or had not.
    pub(crate) fn adopt(&mut self, learned: Option<LearnedLimit>, now: Mono) {
        let is_known = learned.is_some_and(|learned| self.rate() == Some(learned.rate));
        if is_known {
            return;
        }
        self.found = learned.map(|learned| {
            let try_at = now.plus(learned.raise_in.min(SELDOM));
            Found { try_at, ..Found::new(learned.rate.count, learned.rate.per) }
        });
        self.changed(now);
    }
}

fn index(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

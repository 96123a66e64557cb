//! What follows from an attempt. One function, no side effects: the lane does what it says.

use std::time::Duration;

use crate::breaker::REFUSED_ALONE;
use crate::clock::UnixMs;
use crate::outcome::{Answered, Outcome};
use crate::reason::Reason;
use crate::retry::RetryPolicy;

/// What to do when nobody can tell whether a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnAmbiguous {
    /// Send the same code once more, by the next provider where there is one; counted as a possible duplicate.
    #[default]
    Resend,
    /// Send it once more by the next provider; where there is none, park it.
    NextProvider,
    /// Do not risk a second message: dead letter.
    Park,
}

/// An attempt that ended, with all that deciding needs.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// What the provider answered.
    pub answered: &'a Answered,
    /// Attempts made so far over all providers, this one included.
    pub attempts: u32,
    /// From when on the code is of no use.
    pub expires_at: UnixMs,
    /// How many providers of the route come after this one.
    pub providers_left: u32,
    /// How many account refusals met this job although others were accepted meanwhile.
    pub refused_alone: u8,
    /// How many attempts before this one nobody can tell about, over all providers.
    pub ambiguous: u32,
    /// How long nothing may be sent here for this job, where a limit refused it.
    pub limited_for: Duration,
    /// Now.
    pub now: UnixMs,
    /// Chance, 0 to 1.
    pub jitter: f64,
}

/// What the lane does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Sent: settle as accepted.
    Done,
    /// Try again here, after this wait. A wait and not a time: a wall clock that is set changes no retry.
    RetryAfter(Duration),
    /// Try again here, after this wait. The attempt does not count: a limit refused it, and nobody got anything.
    RetryUncounted(Duration),
    /// Try the next provider of the route.
    NextProvider,
    /// Dead letter, for this reason.
    Dead(Reason),
    /// The account is refused, and no other is left: wait for it, without using up an attempt.
    Hold,
    /// The code will be of no use by the time it could be tried again.
    Expired,
}

/// Decides.
#[must_use]
pub fn decide(attempted: &Attempted<'_>, retry: &RetryPolicy, on_ambiguous: OnAmbiguous) -> Disposition {
    let has_next = attempted.providers_left > 0;
    match &attempted.answered.outcome {
        Outcome::Accepted { .. } => Disposition::Done,
        Outcome::RateLimited { .. } => uncounted(attempted),
        Outcome::Transient { wait, .. } => again(attempted, retry, *wait),
        Outcome::Ambiguous { .. } => ambiguous(attempted, retry, on_ambiguous),
        Outcome::Permanent { reason, .. } => {
            if has_next && reason.may_fail_over() {
                Disposition::NextProvider
            } else {
                Disposition::Dead(*reason)
            }
        }
        Outcome::Account { .. } if has_next => Disposition::NextProvider,
        Outcome::Account { reason } if attempted.refused_alone >= REFUSED_ALONE => Disposition::Dead(*reason),
        Outcome::Account { .. } => Disposition::Hold,
    }
}

/// Once more at most, whatever the policy: a person gets the same code twice at the worst.
fn ambiguous(attempted: &Attempted<'_>, retry: &RetryPolicy, on_ambiguous: OnAmbiguous) -> Disposition {
    let has_next = attempted.providers_left > 0;
    let is_last = attempted.ambiguous > 0 || attempted.attempts >= retry.max_attempts;
    match on_ambiguous {
        _ if is_last => Disposition::Dead(Reason::AmbiguousParked),
        OnAmbiguous::Resend | OnAmbiguous::NextProvider if has_next => Disposition::NextProvider,
        OnAmbiguous::Resend => again(attempted, retry, None),
        OnAmbiguous::NextProvider | OnAmbiguous::Park => Disposition::Dead(Reason::AmbiguousParked),
    }
}

/// Again here, when the limit allows it; elsewhere, if that is too late for the code.
fn uncounted(attempted: &Attempted<'_>) -> Disposition {
    if attempted.now.plus(attempted.limited_for) < attempted.expires_at {
        Disposition::RetryUncounted(attempted.limited_for)
    } else if attempted.providers_left > 0 && attempted.now < attempted.expires_at {
        Disposition::NextProvider
    } else {
        Disposition::Expired
    }
}

/// Again here, if attempts and time are left. Each provider still to come keeps one attempt.
fn again(attempted: &Attempted<'_>, retry: &RetryPolicy, wait: Option<Duration>) -> Disposition {
    let has_next = attempted.providers_left > 0;
    if attempted.attempts >= retry.max_attempts {
        return Disposition::Dead(Reason::AttemptsExhausted);
    }
    if attempted.attempts.saturating_add(attempted.providers_left) >= retry.max_attempts {
        return Disposition::NextProvider;
    }
    let delay = retry.delay(attempted.attempts, attempted.jitter).max(wait.unwrap_or_default());
    if attempted.now.plus(delay) < attempted.expires_at {
        Disposition::RetryAfter(delay)
    } else if has_next && attempted.now < attempted.expires_at {
        Disposition::NextProvider
    } else {
        Disposition::Expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Scope;
    use proptest::prelude::*;

    fn answered(outcome: Outcome) -> Answered {
        Answered { outcome, http_status: None, code: None, detail: None }
    }

    fn transient() -> Outcome {
        Outcome::Transient { reason: Reason::InternalError, wait: None, possibly_sent: true }
    }

    fn permanent(reason: Reason) -> Outcome {
        Outcome::Permanent { reason, scope: Scope::Message }
    }

    fn limited(seconds: u64) -> Outcome {
        let wait = Some(Duration::from_secs(seconds));
        Outcome::RateLimited { reason: Reason::RateProvider, scope: Scope::Account, wait, limit: None }
    }

    fn limited_for(answered: &Answered) -> Duration {
        match answered.outcome {
            Outcome::RateLimited { wait, .. } => wait.unwrap_or_default(),
            Outcome::Accepted { .. }
            | Outcome::Transient { .. }
            | Outcome::Ambiguous { .. }
            | Outcome::Permanent { .. }
            | Outcome::Account { .. } => Duration::ZERO,
        }
    }

    #[test]
    fn table() {
        use Disposition::{Dead, Done, Expired, Hold, NextProvider, RetryAfter, RetryUncounted};
        let after = |ms| RetryAfter(Duration::from_millis(ms));
        let uncounted = |s| RetryUncounted(Duration::from_secs(s));
        let accepted = Outcome::Accepted { message_id: None, note: None };
        let account = Outcome::Account { reason: Reason::AuthInvalid };
        let ambiguous = Outcome::Ambiguous { reason: Reason::Timeout };
        let resend = OnAmbiguous::Resend;
        for (outcome, attempts, left, on_ambiguous, is) in [
            (accepted, 1, 0, resend, Done),
            (transient(), 1, 0, resend, after(500)),
            (transient(), 3, 0, resend, after(2000)),
            (transient(), 6, 0, resend, Dead(Reason::AttemptsExhausted)),
            (transient(), 5, 1, resend, NextProvider),
            (transient(), 6, 1, resend, Dead(Reason::AttemptsExhausted)),
            (limited(7), 1, 0, resend, uncounted(7)),
            (limited(7), 6, 0, resend, uncounted(7)),
            (limited(7), 6, 1, resend, uncounted(7)),
            (limited(20), 1, 0, resend, Expired),
            (limited(20), 1, 1, resend, NextProvider),
            (permanent(Reason::TemplateMissing), 1, 0, resend, Dead(Reason::TemplateMissing)),
            (permanent(Reason::TemplateMissing), 1, 1, resend, NextProvider),
            (permanent(Reason::RecipientNotOnWhatsapp), 1, 1, resend, Dead(Reason::RecipientNotOnWhatsapp)),
            (account.clone(), 1, 1, resend, NextProvider),
            (account, 1, 0, resend, Hold),
            (ambiguous.clone(), 1, 0, resend, after(500)),
            (ambiguous.clone(), 6, 0, resend, Dead(Reason::AmbiguousParked)),
            (ambiguous.clone(), 1, 1, resend, NextProvider),
            (ambiguous.clone(), 1, 1, OnAmbiguous::NextProvider, NextProvider),
            (ambiguous.clone(), 1, 0, OnAmbiguous::NextProvider, Dead(Reason::AmbiguousParked)),
            (ambiguous, 1, 1, OnAmbiguous::Park, Dead(Reason::AmbiguousParked)),
        ] {
            let answered = answered(outcome);
            let attempted = Attempted {
                answered: &answered,
                attempts,
                expires_at: UnixMs(11_000),
                providers_left: left,
                refused_alone: 2,
                ambiguous: 0,
                limited_for: limited_for(&answered),
                now: UnixMs(1000),
                jitter: 0.5,
            };
            assert_eq!(decide(&attempted, &RetryPolicy::default(), on_ambiguous), is, "{attempted:?}");
            if answered.outcome.class() == crate::Class::Ambiguous {
                let again = Attempted { ambiguous: 1, ..attempted };
                let parked = Dead(Reason::AmbiguousParked);
                assert_eq!(decide(&again, &RetryPolicy::default(), on_ambiguous), parked, "{again:?}");
            }
        }
    }

    #[test]
    fn a_job_that_alone_is_refused_is_dead() {
        let answered = answered(Outcome::Account { reason: Reason::IpNotAllowed });
        for (refused_alone, providers_left, is) in [
            (REFUSED_ALONE - 1, 0, Disposition::Hold),
            (REFUSED_ALONE, 0, Disposition::Dead(Reason::IpNotAllowed)),
            (REFUSED_ALONE, 1, Disposition::NextProvider),
        ] {
            let attempted = Attempted {
                answered: &answered,
                attempts: 1,
                expires_at: UnixMs(11_000),
                providers_left,
                refused_alone,
                ambiguous: 0,
                limited_for: Duration::ZERO,
                now: UnixMs(1000),
                jitter: 0.5,
            };
            assert_eq!(decide(&attempted, &RetryPolicy::default(), OnAmbiguous::Resend), is);
        }
    }

    proptest! {
        #[test]
        fn a_retry_is_never_past_the_expiry(attempts in 1u32..10, now in 0u64..20_000, expires in 0u64..20_000, wait in 0u64..10, left in 0u32..3, jitter in 0.0f64..1.0) {
            for outcome in [limited(wait), transient()] {
                let answered = answered(outcome);
                let limited_for = limited_for(&answered);
                let attempted = Attempted { answered: &answered, attempts, expires_at: UnixMs(expires), providers_left: left, refused_alone: 0, ambiguous: 0, limited_for, now: UnixMs(now), jitter };
                match decide(&attempted, &RetryPolicy::default(), OnAmbiguous::Resend) {
                    Disposition::RetryAfter(delay) => {
                        prop_assert!(UnixMs(now).plus(delay) < UnixMs(expires) && attempts < 6);
                    }
                    Disposition::RetryUncounted(delay) => {
                        let at = UnixMs(now).plus(delay);
                        prop_assert!(at < UnixMs(expires) && at >= UnixMs(now + wait * 1000));
                    }
                    Disposition::Done | Disposition::NextProvider | Disposition::Dead(_) | Disposition::Hold | Disposition::Expired => {}
                }
            }
        }
    }
}

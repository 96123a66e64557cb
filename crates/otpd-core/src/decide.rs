//! What follows from an attempt. One function, no side effects: the lane does what it says.

use crate::clock::UnixMs;
use crate::outcome::{Answered, Outcome};
use crate::reason::Reason;
use crate::retry::RetryPolicy;

/// What to do when nobody can tell whether a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnAmbiguous {
    /// Send the same code again; counted as a possible duplicate.
    #[default]
    Resend,
    /// Send it through the next provider; where there is none, park it.
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
    /// Try again here, not before this time.
    RetryAt(UnixMs),
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
        Outcome::RateLimited { wait, .. } | Outcome::Transient { wait, .. } => again(attempted, retry, *wait),
        Outcome::Ambiguous { .. } => match on_ambiguous {
            OnAmbiguous::Resend => again(attempted, retry, None),
            OnAmbiguous::NextProvider if has_next => Disposition::NextProvider,
            OnAmbiguous::NextProvider | OnAmbiguous::Park => Disposition::Dead(Reason::AmbiguousParked),
        },
        Outcome::Permanent { reason, .. } => {
            if has_next && reason.may_fail_over() {
                Disposition::NextProvider
            } else {
                Disposition::Dead(*reason)
            }
        }
        Outcome::Account { .. } if has_next => Disposition::NextProvider,
        Outcome::Account { .. } => Disposition::Hold,
    }
}

/// Again here, if attempts and time are left. Each provider still to come keeps one attempt.
fn again(attempted: &Attempted<'_>, retry: &RetryPolicy, wait: Option<std::time::Duration>) -> Disposition {
    let has_next = attempted.providers_left > 0;
    if attempted.attempts >= retry.max_attempts {
        return Disposition::Dead(Reason::AttemptsExhausted);
    }
    if attempted.attempts.saturating_add(attempted.providers_left) >= retry.max_attempts {
        return Disposition::NextProvider;
    }
    let delay = retry.delay(attempted.attempts, attempted.jitter).max(wait.unwrap_or_default());
    let at = attempted.now.plus(delay);
    if at < attempted.expires_at {
        Disposition::RetryAt(at)
    } else if has_next && attempted.now < attempted.expires_at {
        Disposition::NextProvider
    } else {
        Disposition::Expired
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn table() {
        use Disposition::{Dead, Done, Expired, Hold, NextProvider, RetryAt};
        let accepted = Outcome::Accepted { message_id: None, note: None };
        let account = Outcome::Account { reason: Reason::AuthInvalid };
        let ambiguous = Outcome::Ambiguous { reason: Reason::Timeout };
        let resend = OnAmbiguous::Resend;
        for (outcome, attempts, left, on_ambiguous, is) in [
            (accepted, 1, 0, resend, Done),
            (transient(), 1, 0, resend, RetryAt(UnixMs(1500))),
            (transient(), 3, 0, resend, RetryAt(UnixMs(3000))),
            (transient(), 6, 0, resend, Dead(Reason::AttemptsExhausted)),
            (transient(), 5, 1, resend, NextProvider),
            (transient(), 6, 1, resend, Dead(Reason::AttemptsExhausted)),
            (limited(7), 1, 0, resend, RetryAt(UnixMs(8000))),
            (limited(20), 1, 0, resend, Expired),
            (limited(20), 1, 1, resend, NextProvider),
            (permanent(Reason::TemplateMissing), 1, 0, resend, Dead(Reason::TemplateMissing)),
            (permanent(Reason::TemplateMissing), 1, 1, resend, NextProvider),
            (permanent(Reason::RecipientNotOnWhatsapp), 1, 1, resend, Dead(Reason::RecipientNotOnWhatsapp)),
            (account.clone(), 1, 1, resend, NextProvider),
            (account, 1, 0, resend, Hold),
            (ambiguous.clone(), 1, 0, resend, RetryAt(UnixMs(1500))),
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
                now: UnixMs(1000),
                jitter: 0.5,
            };
            assert_eq!(decide(&attempted, &RetryPolicy::default(), on_ambiguous), is, "{attempted:?}");
        }
    }

    proptest! {
        #[test]
        fn a_retry_is_never_past_the_expiry(attempts in 1u32..10, now in 0u64..20_000, expires in 0u64..20_000, wait in 0u64..10, left in 0u32..3, jitter in 0.0f64..1.0) {
            let answered = answered(limited(wait));
            let attempted = Attempted { answered: &answered, attempts, expires_at: UnixMs(expires), providers_left: left, now: UnixMs(now), jitter };
            if let Disposition::RetryAt(at) = decide(&attempted, &RetryPolicy::default(), OnAmbiguous::Resend) {
                prop_assert!(at < UnixMs(expires) && at >= UnixMs(now + wait * 1000) && attempts < 6);
            }
        }
    }
}

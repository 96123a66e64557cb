//! Faults: what goes wrong, for which requests, and whether the message goes out all the same. Their
//! text form is read in [`super::fault_text`].
//!
//! A fault meets only a request that is valid and within its limits: an invalid one has its documented
//! answer already. Rules that name phones or first attempts come before shares, in the order written;
//! the shares divide one draw, so 5 % and 2 % together meet 7 % of the requests.

use std::time::Duration;

use otpd_core::clock::nanos;
use otpd_core::{Phone, Rate};

use super::contract::Documented;
use super::kind::Kind;
use super::wire_fault::WireFault;

/// The faults of one kind of provider, such as `verihubs:429=5%,500=5%,bad_recipient=2%,reset=1%`.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultPlan {
    pub(super) kind: Kind,
    pub(super) text: Box<str>,
    pub(super) rules: Vec<Rule>,
    pub(super) limits: Vec<Hidden>,
}

/// A limit that the account is not told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) limit: Rate,
    /// In every second stretch of this length, beginning with the first; `None`: always.
    pub(crate) every: Option<Duration>,
}

/// One rule: this fault, then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) fault: Fault,
    pub(crate) when: When,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) effect: Effect,
    pub(crate) message: Fares,
}

/// What the client sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Effect {
    /// 429 in the provider's form, with `Retry-After` where a wait is given.
    TooMany { retry_after: Option<Duration> },
    /// 429 and nothing else.
    Wordless,
    /// A 5xx, with `Retry-After` where a wait is given.
    Failed { error: ServerError, retry_after: Option<Duration> },
    /// A refusal that the provider documents.
    Refused(&'static Documented),
    /// The connection is reset instead of an answer.
    Reset,
    /// No answer, until the client gives up.
    Stall,
    /// 200 with a body that is not JSON.
    Garbage,
    /// The right answer, a few bytes at a time.
    Slow,
    /// Something on the wire.
    Wire(WireFault),
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fares {
    Sent,
    NotSent,
}

/// How a provider fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerError {
    Internal,
    BadGateway,
    Unavailable,
    GatewayTimeout,
}

impl ServerError {
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Internal => 500,
            Self::BadGateway => 502,
            Self::Unavailable => 503,
            Self::GatewayTimeout => 504,
        }
    }
}

/// Which requests a rule meets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum When {
    /// This share of all, 0 to 1.
    Share(f64),
    /// The first so many for each phone.
    First(u32),
    /// Those to phones of this pattern.
    To(Digits),
}

/// A pattern of digits: exact, or with `*` at either end or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digits {
    pub(super) part: Box<str>,
    pub(super) open_start: bool,
    pub(super) open_end: bool,
}

impl Digits {
    fn meets(&self, digits: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => digits == &*self.part,
            (false, true) => digits.starts_with(&*self.part),
            (true, false) => digits.ends_with(&*self.part),
            (true, true) => digits.contains(&*self.part),
        }
    }
}

impl FaultPlan {
    /// The kind it is for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// No faults.
    #[must_use]
    pub fn none(kind: Kind) -> Self {
        Self { kind, text: "".into(), rules: Vec::new(), limits: Vec::new() }
    }

    /// The limits in force `at` nanoseconds since the mock started that the account is not told of.
    pub(crate) fn hidden_limits(&self, at: u64) -> Vec<Rate> {
        let is_in_force = |hidden: &&Hidden| {
            let stretch = hidden.every.map_or(0, |every| nanos(every).max(1));
            stretch == 0 || (at / stretch).is_multiple_of(2)
        };
        self.limits.iter().filter(is_in_force).map(|hidden| hidden.limit).collect()
    }

    /// The fault that meets this request: the `attempt`th to `phone`, where the draw was `share`.
    pub(crate) fn fault(&self, phone: Phone, attempt: u32, share: f64) -> Option<Fault> {
        let mut digits = None;
        let mut drawn = share;
        let mut by_chance = None;
        for rule in &self.rules {
            let met = match &rule.when {
                When::First(n) => attempt <= *n,
                When::To(pattern) => pattern.meets(digits.get_or_insert_with(|| phone.expose_digits())),
                When::Share(share) => {
                    if by_chance.is_none() && drawn < *share {
                        by_chance = Some(rule.fault);
                    }
                    drawn -= share;
                    false
                }
            };
            if met {
                return Some(rule.fault);
            }
        }
        by_chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(plan: &str, phone: &str, attempt: u32, share: f64) -> Option<u16> {
        let plan: FaultPlan = plan.parse().unwrap();
        match plan.fault(Phone::parse(phone).unwrap(), attempt, share)?.effect {
            Effect::Failed { error, .. } => Some(error.status()),
            Effect::TooMany { .. } | Effect::Wordless => Some(429),
            Effect::Refused(refusal) => Some(refusal.status),
            Effect::Reset | Effect::Stall | Effect::Garbage | Effect::Slow | Effect::Wire(_) => Some(0),
        }
    }

    #[test]
    fn shares_divide_one_draw() {
        let plan = "verihubs:429=5%,500=5%,reset=0.5%";
        for (share, expected) in [
            (0.0, Some(429)),
            (0.0499, Some(429)),
            (0.0501, Some(500)),
            (0.0999, Some(500)),
            (0.1001, Some(0)),
            (0.1051, None),
            (0.99, None),
        ] {
            assert_eq!(status(plan, "628123456890", 1, share), expected, "{share}");
        }
    }

    #[test]
    fn phones_and_first_attempts_come_before_shares() {
        let plan = "betatel:500=100%,balance=to:*007,502=first:2";
        assert_eq!(status(plan, "628123456007", 1, 0.5), Some(402));
        assert_eq!(status(plan, "628123456890", 2, 0.5), Some(502));
        assert_eq!(status(plan, "628123456890", 3, 0.5), Some(500));
    }

    #[test]
    fn patterns() {
        for (pattern, phone, met) in [
            ("*", "628123456890", true),
            ("62*", "628123456890", true),
            ("63*", "628123456890", false),
            ("*890", "628123456890", true),
            ("*89", "628123456890", false),
            ("*345*", "628123456890", true),
            ("628123456890", "628123456890", true),
            ("62812345689", "628123456890", false),
        ] {
            assert_eq!(status(&format!("msgai:500=to:{pattern}"), phone, 1, 0.0).is_some(), met, "{pattern}");
        }
    }
}

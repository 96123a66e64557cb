//! The text form of faults, for the command line and for `POST /control`:
//!
//! ```text
//! KIND:FAULT[(WAIT)][+sent]=WHEN,…        verihubs:429(2s)=5%,500+sent=1%,blocked=to:*007,502=first:2
//! ```
//!
//! `limit(10/s)=always` is a limit that the account is not told of: what is beyond it gets a 429 that says
//! nothing. `limit(10/s)=every:60s` holds in every second minute, beginning with the first.
//!
//! `FAULT` is `429`, `bare_429` (without any words), `500`, `502`, `503`, `504`, `reset`, `stall`, `garbage`, `slow_headers`, or the name
//! or code of a refusal that the kind documents (`bad_recipient`, `131026`). `(WAIT)` adds `Retry-After`
//! to a 429 or 5xx. `+sent` sends the message all the same; `garbage` and `slow_headers` always do.
//! Or a fault of the wire (`wire_fault`): `cut`, `open_end`, `drip`, `late(12s)`, `gzip`, `hints`, `huge_head`,
//! after which the message is sent; `goaway`, `refused`, after which it is not; `silence`.
//! `WHEN` is a share (`5%`), `first:N` (the first N requests for each phone) or `to:PATTERN` (digits,
//! with `*` at either end).

use std::fmt;
use std::str::FromStr;

use otpd_core::Rate;

use super::fault::{Digits, Effect, Fares, Fault, FaultPlan, Hidden, Rule, ServerError, When};
use super::kind::Kind;
use super::wire_fault::WireFault;

/// A text that is not a fault plan: which part, and what would fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault `{part}`: {problem}")]
pub struct InvalidFault {
    part: String,
    problem: String,
}

impl FaultPlan {
    /// Reads the part after `KIND:`; an empty text is no faults.
    ///
    /// # Errors
    /// [`InvalidFault`] names the part that does not fit.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, InvalidFault> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let (mut rules, mut limits) = (Vec::new(), Vec::new());
        for part in parts {
            let invalid = |problem| InvalidFault { part: part.to_owned(), problem };
            match hidden(part).map_err(invalid)? {
                Some(limit) => limits.push(limit),
                None => rules.push(rule(kind, part).map_err(invalid)?),
            }
        }
        let shares = rules.iter().map(|rule| match rule.when {
            When::Share(share) => share,
            When::First(_) | When::To(_) => 0.0,
        });
        // A little room for the rounding of sums such as 33.3 + 33.3 + 33.4.
        if shares.sum::<f64>() > 1.000_001 {
            let problem = "the shares are more than 100 % together".into();
            return Err(InvalidFault { part: text.trim().to_owned(), problem });
        }
        Ok(Self { kind, text: text.trim().into(), rules, limits })
    }
}

impl FromStr for FaultPlan {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, InvalidFault> {
        let invalid = |problem: String| InvalidFault { part: text.trim().to_owned(), problem };
        let (kind, rules) =
            text.split_once(':').ok_or_else(|| invalid("must be KIND:FAULT=WHEN,…".into()))?;
        Self::parse(kind.trim().parse().map_err(|e| invalid(format!("{e}")))?, rules)
    }
}

/// The part after `KIND:`, as it was written.
impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A limit that the account is not told of; `None` for anything else.
fn hidden(part: &str) -> Result<Option<Hidden>, String> {
    let Some((rate, when)) = part.strip_prefix("limit(").and_then(|rest| rest.split_once(")=")) else {
        return Ok(None);
    };
    let limit: Rate = rate.parse().map_err(|e| format!("the limit in brackets {e}"))?;
    let every = match when.trim() {
        "always" => None,
        when => {
            let every = when.strip_prefix("every:").and_then(|time| humantime::parse_duration(time).ok());
            Some(every.ok_or("a limit holds `always` or `every:TIME`, such as every:60s")?)
        }
    };
    Ok(Some(Hidden { limit, every }))
}

fn rule(kind: Kind, part: &str) -> Result<Rule, String> {
    let (fault, when) = part.split_once('=').ok_or("must be FAULT=WHEN")?;
    Ok(Rule { fault: self::fault(kind, fault.trim())?, when: self::when(when.trim())? })
}

fn fault(kind: Kind, text: &str) -> Result<Fault, String> {
    let (rest, message) = match text.strip_suffix("+sent") {
        Some(rest) => (rest, Fares::Sent),
        None => (text, Fares::NotSent),
    };
    let (name, retry_after) = match rest.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        Some((name, wait)) => {
            let wait = humantime::parse_duration(wait);
            (name, Some(wait.map_err(|_| "the wait in brackets must be a time such as 2s")?))
        }
        None => (rest, None),
    };
    let effect = match name {
        "429" => Effect::TooMany { retry_after },
        "bare_429" => Effect::Wordless,
        "500" => Effect::Failed { error: ServerError::Internal, retry_after },
        "502" => Effect::Failed { error: ServerError::BadGateway, retry_after },
        "503" => Effect::Failed { error: ServerError::Unavailable, retry_after },
        "504" => Effect::Failed { error: ServerError::GatewayTimeout, retry_after },
        "reset" => Effect::Reset,
        "stall" => Effect::Stall,
        "garbage" => Effect::Garbage,
        "slow_headers" => Effect::Slow,
        other => match WireFault::parse(other, retry_after) {
            Some(fault) => return on_the_wire(fault?, message),
            None => documented(kind, other)?,
        },
    };
    match effect {
        Effect::TooMany { .. } | Effect::Wordless if message == Fares::Sent => {
            Err("a 429 never sends the message".into())
        }
        Effect::TooMany { .. } | Effect::Failed { .. } => Ok(Fault { effect, message }),
        Effect::Wordless
        | Effect::Refused(_)
        | Effect::Reset
        | Effect::Stall
        | Effect::Garbage
        | Effect::Slow
        | Effect::Wire(_)
            if retry_after.is_some() =>
        {
            Err("only a 429 or 5xx can name a wait".into())
        }
        Effect::Wordless | Effect::Refused(_) | Effect::Reset | Effect::Stall | Effect::Wire(_) => {
            Ok(Fault { effect, message })
        }
        Effect::Garbage | Effect::Slow => Ok(Fault { effect, message: Fares::Sent }),
    }
}

fn on_the_wire(fault: WireFault, message: Fares) -> Result<Fault, String> {
    match (fault.decides(), message) {
        (Some(Fares::NotSent), Fares::Sent) => Err("what is not processed is never sent".into()),
        (decided, _) => Ok(Fault { effect: Effect::Wire(fault), message: decided.unwrap_or(message) }),
    }
}

fn documented(kind: Kind, name: &str) -> Result<Effect, String> {
    let known = kind.contract().documented();
    let code = name.parse::<i64>().ok().filter(|code| *code != 0);
    let found = known
        .iter()
        .find(|d| !d.name.is_empty() && d.name == name)
        .or_else(|| known.iter().find(|d| code == Some(d.code)));
    found.map(Effect::Refused).ok_or_else(|| {
        let mut names: Vec<String> = known
            .iter()
            .map(|d| if d.name.is_empty() { d.code.to_string() } else { d.name.to_owned() })
            .filter(|name| name != "0")
            .collect();
        names.sort_unstable();
        names.dedup();
        let names = names.join(", ");
        format!(
            "{kind} has no such fault; there are 429, bare_429, 500, 502, 503, 504, reset, stall, garbage, slow_headers, {}, {names}",
            WireFault::NAMES,
        )
    })
}

fn when(text: &str) -> Result<When, String> {
    if let Some(share) = text.strip_suffix('%') {
        let percent: f64 = share.trim().parse().map_err(|_| "the share must be a number such as 5%")?;
        return if (0.0..=100.0).contains(&percent) {
            Ok(When::Share(percent / 100.0))
        } else {
            Err("the share must be 0% to 100%".into())
        };
    }
    if let Some(count) = text.strip_prefix("first:") {
        return count.parse().map(When::First).map_err(|_| "first: needs a count such as first:2".into());
    }
    if let Some(pattern) = text.strip_prefix("to:") {
        let (open_start, part) = pattern.strip_prefix('*').map_or((false, pattern), |rest| (true, rest));
        let (open_end, part) = part.strip_suffix('*').map_or((false, part), |rest| (true, rest));
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        return if digits && !pattern.is_empty() {
            Ok(When::To(Digits { part: part.into(), open_start, open_end }))
        } else {
            Err("to: needs digits, with * at either end, such as to:*007".into())
        };
    }
    Err("must be a share (5%), first:N or to:PATTERN".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_documents() {
        let plan: FaultPlan =
            "verihubs:429(2s)=5%, 500+sent=1%, blocked=to:*007, 502=first:2, garbage=0.5%".parse().unwrap();
        assert_eq!(plan.kind(), Kind::Verihubs);
        assert_eq!(plan.rules.len(), 5);
        assert_eq!(plan.rules[0].when, When::Share(0.05));
        assert_eq!(plan.rules[1].fault.message, Fares::Sent);
        assert_eq!(plan.rules[4].fault, Fault { effect: Effect::Garbage, message: Fares::Sent });
        assert!(FaultPlan::parse(Kind::Msgai, "").unwrap().rules.is_empty());
        assert_eq!(FaultPlan::parse(Kind::Msgai, &plan_text()).unwrap().to_string(), plan_text());
    }

    #[test]
    fn reads_faults_of_the_wire() {
        for (text, effect, message) in [
            ("cut", WireFault::Cut, Fares::Sent),
            ("late(12s)+sent", WireFault::Late(std::time::Duration::from_secs(12)), Fares::Sent),
            ("silence", WireFault::Silence, Fares::NotSent),
            ("silence+sent", WireFault::Silence, Fares::Sent),
            ("refused", WireFault::Refused, Fares::NotSent),
        ] {
            let plan = FaultPlan::parse(Kind::Msgai, &format!("{text}=first:1")).unwrap();
            assert_eq!(plan.rules[0].fault, Fault { effect: Effect::Wire(effect), message }, "{text}");
        }
    }

    fn plan_text() -> String {
        "429=5%,not_on_whatsapp=1%".to_owned()
    }

    #[test]
    fn every_documented_refusal_can_be_asked_for() {
        for kind in Kind::ALL {
            for refusal in kind.contract().documented() {
                if !refusal.name.is_empty() {
                    let plan = FaultPlan::parse(kind, &format!("{}=1%", refusal.name)).unwrap();
                    assert_eq!(plan.rules[0].fault.effect, Effect::Refused(refusal), "{kind}");
                }
                if refusal.code != 0 {
                    FaultPlan::parse(kind, &format!("{}=1%", refusal.code)).unwrap();
                }
                assert!(http::StatusCode::from_u16(refusal.status).is_ok());
            }
            let names = kind.contract().documented().iter().map(|d| d.name).filter(|n| !n.is_empty());
            let mut unique: Vec<&str> = names.clone().collect();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), names.count(), "{kind} names two refusals alike");
        }
    }

    #[test]
    fn says_which_part_is_wrong() {
        for (text, says) in [
            ("429=5%", "must be KIND:FAULT=WHEN"),
            ("twilio:429=5%", "no such kind"),
            ("verihubs:429", "must be FAULT=WHEN"),
            ("verihubs:500=1%,teapot=5%", "fault `teapot=5%`: verihubs has no such fault; there are 429"),
            ("verihubs:429=5", "must be a share"),
            ("verihubs:429=five%", "a number such as 5%"),
            ("verihubs:429=NaN%", "0% to 100%"),
            ("verihubs:429=101%", "0% to 100%"),
            ("verihubs:429=60%,500=50%", "more than 100 % together"),
            ("verihubs:429(soon)=5%", "a time such as 2s"),
            ("verihubs:bare_429(2s)=5%", "only a 429 or 5xx"),
            ("verihubs:bare_429+sent=5%", "never sends"),
            ("verihubs:limit(fast)=always", "the limit in brackets must be COUNT/TIME"),
            ("verihubs:limit(9/s)=5%", "`always` or `every:TIME`"),
            ("verihubs:reset(2s)=5%", "only a 429 or 5xx"),
            ("verihubs:429+sent=5%", "never sends"),
            ("verihubs:late=5%", "late needs its time"),
            ("verihubs:open_end(2s)=5%", "or late can name a time"),
            ("verihubs:goaway+sent=5%", "is never sent"),
            ("verihubs:500=first:x", "first:2"),
            ("verihubs:500=to:+62*", "to:*007"),
            ("verihubs:500=to:", "to:*007"),
        ] {
            let error = text.parse::<FaultPlan>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

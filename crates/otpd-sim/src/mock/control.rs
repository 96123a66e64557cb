//! What can be set: at the start ([`super::MockConfig::setup`]) and, in the same words, while the mock
//! runs (`POST /control`, [`super::Mock::control`]). One way to set things means that whatever a test
//! changes on the way can also be how it begins.
//!
//! ```json
//! {"kind": "verihubs", "account": "app-1", "secret": "key-1", "ceilings": ["50/s", "600/min"],
//!  "balance": 100, "latency": "p50=80ms,p99=400ms", "faults": "429=5%,reset=1%",
//!  "callbacks": {"url": "http://127.0.0.1:8080/callbacks/verihubs/t0ken", "delay": "p50=2s,p99=20s"}}
//! ```

use otpd_core::Rate;
use serde::{Deserialize, Serialize};

use super::callbacks::settings::Callbacks;
use super::fault::FaultPlan;
use super::kind::Kind;
use super::latency::Latency;

/// A change. What it does not mention stays as it is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Control {
    /// Which kind of provider.
    pub kind: Kind,
    /// Which account of it; without one, every account there is and will be.
    pub account: Option<String>,
    /// What the account must prove itself with; until one is set, anything does.
    pub secret: Option<String>,
    /// How much it may send; an empty list is no limit.
    pub ceilings: Option<Vec<Rate>>,
    /// How many more messages it can pay for.
    pub balance: Option<Balance>,
    /// How long its answers take.
    pub latency: Option<Latency>,
    /// What goes wrong; an empty plan is nothing.
    pub faults: Option<FaultPlan>,
    /// Who may send (concerns the whole kind).
    pub accounts: Option<Accounts>,
    /// Ends every session (Meta on-premises; concerns the whole kind).
    pub expire_tokens: bool,
    /// What becomes of messages, and how it calls back about them.
    pub callbacks: Option<Callbacks>,
}

/// How many messages an account can pay for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Balance {
    /// As many as it likes.
    #[default]
    Unlimited,
    /// So many.
    Left(u64),
}

/// Who may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accounts {
    /// Whoever names an account; it is made on its first request.
    #[default]
    Any,
    /// Only accounts that a control named before; others get the answer to a wrong credential.
    Known,
}

/// A control that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {problem}")]
pub struct InvalidControl {
    field: &'static str,
    problem: String,
}

impl Control {
    /// A change of this kind that changes nothing yet.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self {
            kind,
            account: None,
            secret: None,
            ceilings: None,
            balance: None,
            latency: None,
            faults: None,
            accounts: None,
            expire_tokens: false,
            callbacks: None,
        }
    }

    /// The change `plan` describes.
    #[must_use]
    pub fn faults(plan: FaultPlan) -> Self {
        let nothing = Self::of(plan.kind());
        Self { faults: Some(plan), ..nothing }
    }

    /// The same for one account only.
    #[must_use]
    pub fn account(self, name: impl Into<String>) -> Self {
        Self { account: Some(name.into()), ..self }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ceilings: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    balance: Option<WireBalance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    faults: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accounts: Option<Accounts>,
    #[serde(default)]
    expire_tokens: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    callbacks: Option<Callbacks>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WireBalance {
    Left(u64),
    Word(String),
}

impl TryFrom<Wire> for Control {
    type Error = InvalidControl;

    fn try_from(wire: Wire) -> Result<Self, InvalidControl> {
        fn invalid<E: ToString>(field: &'static str) -> impl Fn(E) -> InvalidControl {
            move |e| InvalidControl { field, problem: e.to_string() }
        }
        let rates = |texts: Vec<String>| texts.iter().map(|t| t.parse::<Rate>()).collect::<Result<_, _>>();
        let balance = match wire.balance {
            None => None,
            Some(WireBalance::Left(left)) => Some(Balance::Left(left)),
            Some(WireBalance::Word(word)) if word == "unlimited" => Some(Balance::Unlimited),
            Some(WireBalance::Word(_)) => return Err(invalid("balance")("must be a count or \"unlimited\"")),
        };
        let plan = |text: String| FaultPlan::parse(wire.kind, &text);
        Ok(Self {
            kind: wire.kind,
            account: wire.account,
            secret: wire.secret,
            ceilings: wire.ceilings.map(rates).transpose().map_err(invalid("ceilings"))?,
            balance,
            latency: wire.latency.map(|t| t.parse()).transpose().map_err(invalid("latency"))?,
            faults: wire.faults.map(plan).transpose().map_err(invalid("faults"))?,
            accounts: wire.accounts,
            expire_tokens: wire.expire_tokens,
            callbacks: wire.callbacks,
        })
    }
}

impl From<Control> for Wire {
    fn from(control: Control) -> Self {
        Self {
            kind: control.kind,
            account: control.account,
            secret: control.secret,
            ceilings: control.ceilings.map(|rates| rates.iter().map(ToString::to_string).collect()),
            balance: control.balance.map(|balance| match balance {
                Balance::Unlimited => WireBalance::Word("unlimited".into()),
                Balance::Left(left) => WireBalance::Left(left),
            }),
            latency: control.latency.map(|latency| latency.to_string()),
            faults: control.faults.map(|plan| plan.to_string()),
            accounts: control.accounts,
            expire_tokens: control.expire_tokens,
            callbacks: control.callbacks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_written_alike() {
        for text in [
            r#"{"kind":"onemsg","expire_tokens":false}"#,
            concat!(
                r#"{"kind":"verihubs","account":"app-1","secret":"key-1","ceilings":["50/s","600/min"],"#,
                r#""balance":100,"latency":"p50=80ms,p99=400ms","faults":"429=5%,reset=1%","#,
                r#""accounts":"known","expire_tokens":true,"callbacks":{"shares":"twice=5%"}}"#
            ),
            r#"{"kind":"msgai","ceilings":[],"balance":"unlimited","expire_tokens":false}"#,
        ] {
            let control: Control = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&control).unwrap(), text);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, says) in [
            (r#"{"kind":"verihubs","ceilings":["fast"]}"#, "`ceilings`: must be COUNT/TIME"),
            (r#"{"kind":"verihubs","balance":"much"}"#, "`balance`: must be a count"),
            (r#"{"kind":"verihubs","latency":"long"}"#, "`latency`: must be a time"),
            (r#"{"kind":"verihubs","faults":"oops=5%"}"#, "`faults`: fault `oops=5%`: verihubs has no such"),
            (r#"{"kind":"verihubs","celings":["50/s"]}"#, "unknown field `celings`"),
            (r#"{"kind":"verihubs","callbacks":{"url":"here"}}"#, "`url`: must be http://"),
            (r#"{"ceilings":["50/s"]}"#, "missing field `kind`"),
        ] {
            let Err(error) = serde_json::from_str::<Control>(text) else { panic!("{text}") };
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}

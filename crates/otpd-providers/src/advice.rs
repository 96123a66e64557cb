//! What is known about each kind beyond its requests: the config keys that mean something to it, the
//! ceiling to begin with, and the limits that no config can lift. `config check` shows it.

use crate::kind::Kind;

/// The config keys of a kind, besides those that every provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Without these there is no provider.
    pub required: &'static [&'static str],
    /// These may be left out.
    pub optional: &'static [&'static str],
    /// Left out, every job has to bring its own (`template`, `namespace`) or is refused.
    pub wanted: &'static [&'static str],
}

/// The keys of `kind`.
#[must_use]
pub const fn keys(kind: Kind) -> Keys {
    match kind {
        Kind::Verihubs => Keys {
            required: &["app_id", "api_key"],
            optional: &["base_url", "template", "language", "callback_url", "callback_token"],
            wanted: &[],
        },
        Kind::Msgai => Keys {
            required: &["api_key"],
            optional: &["base_url", "template", "language", "callback_token", "signature_secret"],
            wanted: &["template"],
        },
        Kind::OneMsg => Keys {
            required: &["channel_id", "token"],
            optional: &["base_url", "template", "language", "namespace", "callback_token"],
            wanted: &["template", "namespace"],
        },
        Kind::MetaCloud => Keys {
            required: &["phone_number_id", "token"],
            optional: &[
                "base_url",
                "api_version",
                "template",
                "language",
                "app_secret",
                "verify_token",
                "callback_token",
            ],
            wanted: &["template"],
        },
        Kind::MetaOnPrem => Keys {
            required: &["base_url", "username", "password"],
            optional: &["template", "language", "namespace", "callback_token"],
            wanted: &["template", "namespace"],
        },
        Kind::Betatel => Keys {
            required: &["api_key", "account_id"],
            optional: &["base_url", "text", "callback_token"],
            wanted: &[],
        },
    }
}

/// What an operator of a kind should know. The rates are written as the config writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// A ceiling that is safe to begin with.
    pub ceiling: &'static str,
    /// What the provider documents as its limit; a higher ceiling earns refusals.
    pub hard_limit: Option<&'static str>,
    /// What else to know, one sentence each.
    pub notes: &'static [&'static str],
}

/// What is known about `kind`.
#[must_use]
pub const fn advice(kind: Kind) -> Advice {
    match kind {
        Kind::Verihubs => Advice {
            ceiling: "45/s",
            hard_limit: Some("50/s"),
            notes: &[
                "WhatsApp V2 takes 50 requests a second; further limits per product are not published.",
                "Statuses 0 to 5 are charged, so a message sent twice is charged twice.",
                "Callbacks are not signed: set callback_token.",
            ],
        },
        Kind::Msgai => Advice {
            ceiling: "90/min",
            hard_limit: None,
            notes: &[
                "The limit is per minute and depends on the plan (100 seen); a 429 names it and the ceiling follows.",
                "Turn on opt-out send errors: otherwise messages to contacts who opted out are dropped silently.",
                "Callbacks are not repeated, and there is nothing to poll.",
            ],
        },
        Kind::OneMsg => Advice {
            ceiling: "20/s",
            hard_limit: None,
            notes: &[
                "No limit is published; Meta's limits apply underneath (one message to one recipient in 6 s).",
                "Delivery reports need ackNotificationsOn in the channel's settings.",
                "Callbacks are not signed: set callback_token.",
            ],
        },
        Kind::MetaCloud => Advice {
            ceiling: "70/s",
            hard_limit: Some("80/s"),
            notes: &[
                "A number takes 80 messages a second, 20 when it is shared with the Business app, up to 1000 once upgraded.",
                "One recipient takes one message in 6 s, with a burst of 45 that is paid back.",
                "Unique recipients in 24 h are limited per business portfolio (250 to unlimited).",
            ],
        },
        Kind::MetaOnPrem => Advice {
            ceiling: "45/s",
            hard_limit: Some("50/s"),
            notes: &[
                "Meta ended this API on 23 October 2025: messages are no longer delivered. Use meta_cloud.",
                "Callbacks are not signed: keep them on a private network.",
            ],
        },
        Kind::Betatel => Advice {
            ceiling: "10/s",
            hard_limit: None,
            notes: &[
                "No limit is published.",
                "The balance is prepaid, so a message sent twice is paid twice.",
                "Callbacks are not signed: set callback_token.",
            ],
        },
    }
}

#[cfg(test)]
mod tests {
    use otpd_core::Rate;

    use super::*;

    #[test]
    fn rates_are_rates_and_below_the_limit() {
        for kind in Kind::ALL {
            let advice = advice(kind);
            let ceiling: Rate = advice.ceiling.parse().unwrap();
            if let Some(limit) = advice.hard_limit {
                assert!(ceiling.per_second() < limit.parse::<Rate>().unwrap().per_second(), "{kind}");
            }
            assert!(!advice.notes.is_empty());
        }
    }

    #[test]
    fn a_key_is_required_or_optional_and_the_base_url_has_a_default_or_is_required() {
        for kind in Kind::ALL {
            let keys = keys(kind);
            assert!(keys.required.iter().all(|k| !keys.optional.contains(k)), "{kind}");
            assert!(keys.wanted.iter().all(|k| keys.optional.contains(k)), "{kind}");
            assert_eq!(kind.default_base_url().is_none(), keys.required.contains(&"base_url"), "{kind}");
        }
    }
}

//! Refusals that nobody has documented. The first is taken for its own message's. The same one for another
//! recipient, with nothing accepted and nothing else said in between, is the account's: it would meet job after
//! job.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::outcome::{Answered, Outcome};
use crate::reason::Reason;
use crate::recipient::RecipientKey;

/// The last such refusal of one lane.
#[derive(Debug, Default)]
pub struct Unlisted {
    last: Option<(u64, RecipientKey)>,
    /// It was found to be the account's.
    is_accounts: bool,
}

impl Unlisted {
    /// Takes an answer to a message for `to` in, and reads it as the account's refusal where it is one.
    pub fn judge(&mut self, answered: &mut Answered, to: RecipientKey) {
        match &answered.outcome {
            Outcome::Permanent { reason: Reason::UnknownError, .. } => {
                let said = what_it_says(answered);
                let is_same = self.last.is_some_and(|(last, _)| last == said);
                let is_another = self.last.is_some_and(|(_, other)| other != to);
                self.is_accounts = is_same && (is_another || self.is_accounts);
                self.last = Some((said, to));
                if self.is_accounts {
                    answered.outcome = Outcome::Account { reason: Reason::UnknownError };
                }
            }
            Outcome::Accepted { .. } | Outcome::Permanent { .. } | Outcome::Account { .. } => {
                *self = Self::default();
            }
            Outcome::RateLimited { .. } | Outcome::Transient { .. } | Outcome::Ambiguous { .. } => {}
        }
    }
}

/// What makes two refusals the same: the provider's number, or else its words.
fn what_it_says(answered: &Answered) -> u64 {
    let mut hasher = DefaultHasher::new();
    let words = answered.detail.as_deref().filter(|_| answered.code.is_none());
    (answered.http_status, answered.code, words).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Class, Scope};

    fn unknown(code: Option<i64>, detail: &str) -> Answered {
        let outcome = Outcome::Permanent { reason: Reason::UnknownError, scope: Scope::Message };
        Answered { outcome, http_status: Some(400), code, detail: Some(detail.into()) }
    }

    fn accepted() -> Answered {
        let outcome = Outcome::Accepted { message_id: None, note: None };
        Answered { outcome, http_status: Some(200), code: None, detail: None }
    }

    #[test]
    fn the_same_for_another_recipient_is_the_accounts() {
        let name = || unknown(Some(131_999), "x");
        type Case<'a> = (&'a [(Answered, u64)], &'a [Class]);
        let table: [Case<'_>; 6] = [
            (&[(name(), 1), (name(), 2), (name(), 2)], &[Class::Permanent, Class::Account, Class::Account]),
            (
                &[(name(), 1), (name(), 1), (name(), 1)],
                &[Class::Permanent, Class::Permanent, Class::Permanent],
            ),
            (
                &[(name(), 1), (accepted(), 3), (name(), 2)],
                &[Class::Permanent, Class::Accepted, Class::Permanent],
            ),
            (&[(name(), 1), (unknown(Some(7), "x"), 2)], &[Class::Permanent, Class::Permanent]),
            (&[(unknown(None, "a"), 1), (unknown(None, "b"), 2)], &[Class::Permanent, Class::Permanent]),
            (&[(unknown(None, "a"), 1), (unknown(None, "a"), 2)], &[Class::Permanent, Class::Account]),
        ];
        for (answers, classes) in table {
            let mut unlisted = Unlisted::default();
            let judged: Vec<Class> = answers
                .iter()
                .map(|(answered, to)| {
                    let mut answered = answered.clone();
                    unlisted.judge(&mut answered, RecipientKey(*to));
                    answered.outcome.class()
                })
                .collect();
            assert_eq!(judged, classes, "{answers:?}");
        }
    }
}

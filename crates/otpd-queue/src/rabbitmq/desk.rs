//! Declaring, comparing and binding on one channel, which is opened again where the broker closed it
//! with an answer.
//!
//! Two ways of looking. Whoever may configure asks passively, which tells whether a part is there, and
//! then declares it again as planned: the broker refuses, naming the argument, where it differs. Whoever
//! may not (a worker) only asks passively, for which no right is needed. What AMQP does not show is not
//! compared: policies, and the kind of a queue's leader; bindings are known from the record.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;

use super::dial::{away, refusal, refused_or_away};
use super::link::{Link, Open};
use super::topology::{Binding, Part, Publishers};
use super::wire::short;
use crate::error::QueueError;
use crate::plan::Difference;

/// How a declaration went, as far as comparing goes.
pub(super) enum Answer {
    Fine,
    Missing,
    Different(String),
}

/// A channel that is opened again when the broker closed it with an answer.
pub(super) struct Desk {
    link: Link,
    open: Option<Open>,
}

/// How a part is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declare {
    /// Asks whether it is there.
    Passively,
    /// Makes it, unless it is there.
    AsPlanned,
}

impl Desk {
    pub(super) fn new(link: &Link) -> Self {
        Self { link: link.clone(), open: None }
    }

    async fn open(&mut self) -> Result<Open, QueueError> {
        match self.open.take() {
            Some(open) if open.channel.status().connected() => Ok(open),
            Some(_) | None => self.link.channel().await,
        }
    }

    pub(super) async fn declare(&mut self, part: &Part, how: Declare) -> Result<Answer, QueueError> {
        let open = self.open().await?;
        let passive = how == Declare::Passively;
        let answer = match part {
            Part::Exchange { name, kind, who, arguments } => {
                let internal = *who == Publishers::Exchanges;
                let options =
                    ExchangeDeclareOptions { passive, durable: true, internal, ..Default::default() };
                let declare =
                    open.channel.exchange_declare(short(name), kind.clone(), options, arguments.clone());
                open.within(declare).await
            }
            Part::Queue { name, arguments } => {
                let options = QueueDeclareOptions { passive, durable: true, ..Default::default() };
                let declare = open.channel.queue_declare(short(name), options, arguments.clone());
                open.within(declare).await.map(|answer| answer.map(drop))
            }
        };
        let Some(answer) = answer else {
            return Err(away(open.url(), "no answer to a declaration in time"));
        };
        let Err(error) = answer else {
            self.open = Some(open);
            return Ok(Answer::Fine);
        };
        match refusal(&error) {
            Some((404, _)) => Ok(Answer::Missing),
            Some((406, how)) => Ok(Answer::Different(how)),
            Some(_) | None => Err(refused_or_away(open.url(), &error)),
        }
    }

    /// Whether it is there.
    pub(super) async fn has(&mut self, part: &Part) -> Result<bool, QueueError> {
        match self.declare(part, Declare::Passively).await? {
            Answer::Fine | Answer::Different(_) => Ok(true),
            Answer::Missing => Ok(false),
        }
    }

    /// How a part differs from the plan; needs the right to configure it.
    pub(super) async fn compare(&mut self, part: &Part) -> Result<Option<Difference>, QueueError> {
        let what = part.what();
        let passively = self.declare(part, Declare::Passively).await?;
        let answer = match passively {
            Answer::Fine => self.declare(part, Declare::AsPlanned).await?,
            Answer::Missing | Answer::Different(_) => passively,
        };
        Ok(match answer {
            Answer::Fine => None,
            Answer::Missing => Some(Difference::Missing { what }),
            Answer::Different(how) => Some(Difference::Different { what, how }),
        })
    }

    pub(super) async fn bind(&mut self, binding: &Binding) -> Result<(), QueueError> {
        let open = self.open().await?;
        let (queue, exchange, key) = (short(&binding.queue), short(&binding.exchange), short(&binding.key));
        let bind =
            open.channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default());
        open.call(bind).await?;
        self.open = Some(open);
        Ok(())
    }

    /// Does nothing where there is no such binding, queue or exchange.
    pub(super) async fn unbind(&mut self, binding: &Binding) -> Result<(), QueueError> {
        let open = self.open().await?;
        let (queue, exchange, key) = (short(&binding.queue), short(&binding.exchange), short(&binding.key));
        let unbind = open.channel.queue_unbind(queue, exchange, key, FieldTable::default());
        let Some(answer) = open.within(unbind).await else {
            return Err(away(open.url(), "no answer to an unbinding in time"));
        };
        let Err(error) = answer else {
            self.open = Some(open);
            return Ok(());
        };
        match refusal(&error) {
            Some((404, _)) => Ok(()),
            Some(_) | None => Err(refused_or_away(open.url(), &error)),
        }
    }

    /// How a whole plan differs from what is there.
    pub(super) async fn compare_all(&mut self, parts: &[Part]) -> Result<Vec<Difference>, QueueError> {
        let mut differences = Vec::new();
        for part in parts {
            differences.extend(self.compare(part).await?);
        }
        Ok(differences)
    }

    /// How many messages wait in a queue, and how many consume it; `None` where there is no such queue.
    pub(super) async fn count(&mut self, queue: &str) -> Result<Option<Count>, QueueError> {
        let open = self.open().await?;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declare = open.channel.queue_declare(short(queue), options, FieldTable::default());
        let Some(answer) = open.within(declare).await else {
            return Err(away(open.url(), "no answer to a declaration in time"));
        };
        match answer {
            Ok(queue) => {
                let count =
                    Count { waiting: queue.message_count().into(), consumers: queue.consumer_count() };
                self.open = Some(open);
                Ok(Some(count))
            }
            Err(error) => match refusal(&error) {
                Some((404, _)) => Ok(None),
                Some(_) | None => Err(refused_or_away(open.url(), &error)),
            },
        }
    }

    /// Deletes a queue with whatever is in it.
    pub(super) async fn delete(&mut self, queue: &str) -> Result<(), QueueError> {
        let open = self.open().await?;
        open.call(open.channel.queue_delete(short(queue), QueueDeleteOptions::default())).await?;
        self.open = Some(open);
        Ok(())
    }
}

/// What the broker counts of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// Messages that no consumer holds.
    pub(super) waiting: u64,
    /// Consumers; of a single active consumer's queue only the active one.
    pub(super) consumers: u32,
}

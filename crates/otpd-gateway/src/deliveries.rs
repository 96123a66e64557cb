//! What a provider says of a message becomes a fact, once.
//!
//! The job is found in the index, by the message's id or by what the provider echoes; the fact gets the job's life,
//! attempt, route, metadata and masked number from there. A thing said twice is told once: what was told is
//! known from the stream, what is being told from here. Two gateways that are told the same at the same
//! moment may both tell it; readers fold the two into one.
//!
//! A fact that the queue does not take is tried again for [`KEPT_FOR`], although the provider was told 503: some
//! never call twice.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use otpd_core::{Class, DeliveryStatus, Fact, FactKind, JobId, MessageId, ProviderName, Reason, UnixMs};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::early::{Early, KEPT_FOR};
use crate::gateway::Gateway;
use crate::index::Found;

/// How long a provider waits for the record of a message that is not known yet. Meta counts answers that take
/// longer than a second.
const HELD_FOR: Duration = Duration::from_millis(800);
/// How many may wait so at once: an account that somebody else uses too calls back for messages that are none of ours.
const HELD: usize = 256;
/// How long a provider waits for a fact: a little longer than the queue's own 5 s.
const TOLD_WITHIN: Duration = Duration::from_secs(6);
/// The wait before a fact is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The most facts on their way.
const ON_THEIR_WAY: usize = 20_000;

/// What a provider said of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) provider: ProviderName,
    pub(crate) message_id: Option<MessageId>,
    /// What the provider echoes.
    pub(crate) job: Option<JobId>,
    pub(crate) status: DeliveryStatus,
    pub(crate) at: Option<UnixMs>,
    pub(crate) reason: Option<Reason>,
    pub(crate) class: Option<Class>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is on the stream.
    Told,
    /// It was before.
    Known,
    /// Its message is not known yet.
    Kept,
    /// The queue did not take it yet.
    Away,
}

/// One thing that is told once.
type Once = (JobId, ProviderName, u32, u64, DeliveryStatus);

/// How far the telling of a fact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    Trying,
    Failing,
    Told,
}

/// What is on its way.
#[derive(Debug)]
pub(crate) struct Deliveries {
    early: Early,
    held: Semaphore,
    on_their_way: Mutex<HashMap<Once, watch::Receiver<Telling>>>,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self { early: Early::default(), held: Semaphore::new(HELD), on_their_way: Mutex::default() }
    }
}

impl Deliveries {
    pub(crate) fn early(&self) -> &Early {
        &self.early
    }

    fn on_their_way(&self) -> MutexGuard<'_, HashMap<Once, watch::Receiver<Telling>>> {
        self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// Tells what a provider said; returns once it is on the stream, or it is known that it is not.
    pub(crate) async fn hear(&self, said: Said) -> Heard {
        if let Some(found) = self.message_of(&said) {
            return self.tell(found, said).await;
        }
        let (number, mut resolved) = self.deliveries().early().keep(said.clone(), self.clock().mono());
        // The record may have come in between.
        if let Some(found) = self.message_of(&said) {
            let _ = self.deliveries().early().take_back(number);
            return self.tell(found, said).await;
        }
        let place = self.deliveries().held.try_acquire();
        let held_for = if place.is_ok() { HELD_FOR } else { Duration::ZERO };
        let ended = timeout(held_for, &mut resolved).await;
        drop(place);
        match ended {
            Ok(Ok(said)) => self.hear_resolved(said).await,
            Ok(Err(_)) => Heard::Kept,
            // Before the stream is read the job's life is not known, and a fact of another life counts for nothing.
            Err(_) if said.job.is_some() && self.index().has_caught_up() => {
                match self.deliveries().early().take_back(number) {
                    // The job is known by what was echoed: that is enough.
                    Some(said) => self.hear_resolved(said).await,
                    None => match resolved.await {
                        Ok(said) => self.hear_resolved(said).await,
                        Err(_) => Heard::Kept,
                    },
                }
            }
            Err(_) => {
                let gateway = self.clone();
                tokio::spawn(async move {
                    if let Ok(said) = resolved.await {
                        gateway.hear_resolved(said).await;
                    }
                });
                Heard::Kept
            }
        }
    }

    /// Tells what was said of a message whose record has come, or will not be waited for any more.
    async fn hear_resolved(&self, said: Said) -> Heard {
        let found = self.message_of(&said).or_else(|| {
            self.index().find(&said.provider, said.message_id.as_ref(), said.job.as_ref()).or_else(|| {
                Some(Found {
                    job: said.job.clone()?,
                    message: None,
                    route: None,
                    to: None,
                    metadata: None,
                    life: otpd_core::Life::default(),
                })
            })
        });
        match found {
            Some(found) => self.tell(found, said).await,
            None => Heard::Kept,
        }
    }

    /// The stream has been read to its end: tells what waited for that.
    pub(crate) fn resolve_early(&self) {
        self.deliveries().early().resolve_all(|said| self.message_of(said).is_some());
    }

    /// The job and the message that is spoken of, once our own record of it is known, and what was told of it before.
    fn message_of(&self, said: &Said) -> Option<Found> {
        if !self.index().has_caught_up() {
            return None;
        }
        let found = self.index().find(&said.provider, said.message_id.as_ref(), said.job.as_ref())?;
        found.message.as_ref().is_some_and(crate::record::Message::is_accepted).then_some(found)
    }

    async fn tell(&self, found: Found, said: Said) -> Heard {
        if found.message.as_ref().is_some_and(|message| message.was_told(said.status)) {
            return Heard::Known;
        }
        let fact = fact(&found, &said, self.clock().wall());
        let once = (fact.job.clone(), fact.provider.clone(), fact.attempt, fact.life.number(), said.status);
        let (mut progress, is_new) = {
            let mut all = self.deliveries().on_their_way();
            match all.get(&once) {
                Some(progress) => (progress.clone(), false),
                None if all.len() >= ON_THEIR_WAY => return Heard::Away,
                None => {
                    let (telling, progress) = watch::channel(Telling::Trying);
                    all.insert(once.clone(), progress.clone());
                    tokio::spawn(self.clone().tell_until_told(Box::new((found, fact, once)), telling));
                    (progress, true)
                }
            }
        };
        let ended = timeout(TOLD_WITHIN, progress.wait_for(|telling| *telling != Telling::Trying)).await;
        match ended {
            Ok(Ok(telling)) if *telling == Telling::Told && is_new => Heard::Told,
            Ok(Ok(telling)) if *telling == Telling::Told => Heard::Known,
            // The sender is dropped only once it is told, or given up.
            Ok(Ok(_) | Err(_)) | Err(_) => Heard::Away,
        }
    }

    async fn tell_until_told(self, what: Box<(Found, Fact, Once)>, telling: watch::Sender<Telling>) {
        let (found, fact, once) = *what;
        let given_up_at = self.clock().mono().plus(KEPT_FOR);
        loop {
            match self.queue().tell(&fact).await {
                Ok(()) => {
                    self.metrics().delivery(&found, &fact);
                    // Before it is read back: what comes twice at once must find it.
                    self.index().fold(&fact, self.clock().mono());
                    self.deliveries().on_their_way().remove(&once);
                    telling.send_replace(Telling::Told);
                    return;
                }
                Err(error) => {
                    self.metrics().queue_away(&error);
                    telling.send_replace(Telling::Failing);
                }
            }
            if self.clock().mono() >= given_up_at {
                tracing::error!(job = %fact.job, kind = fact.kind.event_type(), "a provider's word could not be told and is given up");
                self.deliveries().on_their_way().remove(&once);
                return;
            }
            sleep(AGAIN).await;
        }
    }
}

fn fact(found: &Found, said: &Said, now: UnixMs) -> Fact {
    let message = found.message.as_ref();
    // The provider's time, held between the request and now: it may tell whole seconds, or have another clock. Where the
    // request is not known our own, or lanes that wait for it would take it for old.
    let at = match message.and_then(crate::record::Message::sent_at) {
        Some(sent_at) => said.at.unwrap_or(now).max(sent_at).min(now.max(sent_at)),
        None => now,
    };
    let mut fact = Fact::new(FactKind::Delivery(said.status), found.job.clone(), said.provider.clone(), at);
    fact.life = found.life;
    fact.attempt = message.map_or(0, |message| message.attempt);
    fact.route.clone_from(&found.route);
    fact.class = said.class;
    fact.reason = said.reason;
    fact.message_id = said.message_id.clone().or_else(|| message.and_then(|message| message.id.clone()));
    fact.to.clone_from(&found.to);
    fact.metadata.clone_from(&found.metadata);
    fact
}

//! What is known of one job: how far it has come, what happened, and which messages providers took for it.

use std::collections::VecDeque;

use otpd_core::{
    DeliveryStatus, Fact, FactKind, JobId, JobState, Life, MessageId, Metadata, Mono, Progress, ProviderName,
    RouteName, SendJob, UnixMs,
};
use serde_json::value::RawValue;

use crate::limits::TIMELINE;
use crate::view::{EntryView, JobView};

/// The most messages of one job that callbacks are matched with; the newest are kept.
const MESSAGES: usize = 8;

/// One job.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) seen_at: Mono,
    queued_at: Option<UnixMs>,
    pub(crate) progress: Progress,
    pub(crate) route: Option<RouteName>,
    provider: Option<ProviderName>,
    pub(crate) to: Option<Box<str>>,
    pub(crate) metadata: Option<Metadata>,
    timeline: VecDeque<Fact>,
    left_out: u32,
    messages: VecDeque<Message>,
    /// Messages that made room for newer ones, until the index forgets them too.
    forgotten: Vec<(ProviderName, MessageId)>,
}

/// A message that a provider took, or spoke of.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) provider: ProviderName,
    pub(crate) id: Option<MessageId>,
    /// 0 where it is not known: the provider spoke of the message before our own record of it was read.
    pub(crate) attempt: u32,
    pub(crate) life: Life,
    /// Our own record of it, less what it says of the job.
    accepted: Option<(Option<UnixMs>, UnixMs)>,
    told: u8,
}

impl Message {
    /// True if our own record of it was read.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted.is_some()
    }

    /// True if this was told of it before.
    pub(crate) fn was_told(&self, status: DeliveryStatus) -> bool {
        self.told & bit(status) != 0
    }

    /// When its request was written, or else when it was accepted.
    pub(crate) fn sent_at(&self) -> Option<UnixMs> {
        self.accepted.map(|(sent_at, at)| sent_at.unwrap_or(at))
    }

    /// True if nothing was told by which it had reached the phone.
    pub(crate) fn was_delivered(&self) -> bool {
        DeliveryStatus::ALL.into_iter().any(|status| status.is_delivered() && self.was_told(status))
    }
}

fn bit(status: DeliveryStatus) -> u8 {
    DeliveryStatus::ALL.iter().position(|other| *other == status).map_or(0, |place| 1 << place)
}

impl Record {
    pub(crate) fn new(seen_at: Mono) -> Self {
        Self {
            seen_at,
            queued_at: None,
            progress: Progress::default(),
            route: None,
            provider: None,
            to: None,
            metadata: None,
            timeline: VecDeque::new(),
            left_out: 0,
            messages: VecDeque::new(),
            forgotten: Vec::new(),
        }
    }

    /// This gateway has queued it.
    pub(crate) fn queued(&mut self, job: &SendJob, route: &RouteName, at: UnixMs) {
        self.queued_at.get_or_insert(at);
        self.route.get_or_insert_with(|| route.clone());
        self.to.get_or_insert_with(|| job.to.to_string().into());
        if self.metadata.is_none() {
            self.metadata.clone_from(&job.metadata);
        }
    }

    /// Takes a fact in; false if it was known.
    pub(crate) fn fold(&mut self, fact: &Fact) -> bool {
        if self.timeline.iter().any(|known| is_same(known, fact)) {
            return false;
        }
        self.progress.fold(fact);
        if let Some(route) = &fact.route {
            self.route.get_or_insert_with(|| route.clone());
        }
        if fact.to.is_some() {
            self.to.clone_from(&fact.to);
        }
        if fact.metadata.is_some() {
            self.metadata.clone_from(&fact.metadata);
        }
        match fact.kind {
            FactKind::Accepted => {
                let message = self.message_of(fact);
                message.accepted = Some((fact.sent_at, fact.at));
                self.provider = Some(fact.provider.clone());
            }
            FactKind::Delivery(status) => {
                self.message_of(fact).told |= bit(status);
                self.provider.get_or_insert_with(|| fact.provider.clone());
            }
            FactKind::FailedOver => self.provider.clone_from(&fact.next_provider),
            FactKind::Sending | FactKind::Retrying => self.provider = Some(fact.provider.clone()),
            FactKind::Superseded
            | FactKind::Expired
            | FactKind::Duplicate
            | FactKind::Dead
            | FactKind::Paused
            | FactKind::Resumed
            | FactKind::Verified => {}
        }
        if self.timeline.len() >= TIMELINE {
            // How it began and how it ended are worth more than what was in between.
            self.timeline.remove(TIMELINE / 2);
            self.left_out = self.left_out.saturating_add(1);
        }
        self.timeline.push_back(fact.clone());
        true
    }

    /// The message that a fact is about; a new one where it is not known.
    fn message_of(&mut self, fact: &Fact) -> &mut Message {
        let is_meant = |message: &Message| {
            let same_id = match (&message.id, &fact.message_id) {
                (Some(one), Some(other)) => one == other,
                (None, _) | (_, None) => message.attempt == fact.attempt,
            };
            message.provider == fact.provider && message.life == fact.life && same_id
        };
        let place = self.messages.iter().position(is_meant).unwrap_or_else(|| {
            if self.messages.len() >= MESSAGES {
                let oldest = self.messages.pop_front();
                self.forgotten.extend(oldest.and_then(|oldest| Some((oldest.provider, oldest.id?))));
            }
            self.messages.push_back(Message {
                provider: fact.provider.clone(),
                id: None,
                attempt: 0,
                life: fact.life,
                accepted: None,
                told: 0,
            });
            self.messages.len() - 1
        });
        #[allow(clippy::indexing_slicing, reason = "found, or just put there")]
        let message = &mut self.messages[place];
        message.attempt = message.attempt.max(fact.attempt);
        if message.id.is_none() {
            message.id.clone_from(&fact.message_id);
        }
        message
    }

    /// The message of a provider with this id; without an id, or where none has it, the latest that it took
    /// without saying one.
    pub(crate) fn message(&self, provider: &ProviderName, id: Option<&MessageId>) -> Option<&Message> {
        let of_provider = || self.messages.iter().rev().filter(|message| message.provider == *provider);
        match id {
            Some(id) => of_provider()
                .find(|message| message.id.as_ref() == Some(id))
                .or_else(|| of_provider().find(|message| message.id.is_none())),
            None => of_provider().next(),
        }
    }

    /// The messages that are not known any more, once.
    pub(crate) fn forgotten(&mut self) -> Vec<(ProviderName, MessageId)> {
        std::mem::take(&mut self.forgotten)
    }

    /// The latest message that a provider accepted.
    pub(crate) fn accepted(&self) -> Option<&Message> {
        self.messages.iter().rev().find(|message| message.is_accepted())
    }

    /// The ids by which its messages are found.
    pub(crate) fn message_ids(&self) -> impl Iterator<Item = (&ProviderName, &MessageId)> {
        self.messages.iter().filter_map(|message| Some((&message.provider, message.id.as_ref()?)))
    }

    /// The state.
    pub(crate) fn state(&self) -> JobState {
        self.progress.state()
    }

    /// What happened, oldest first as it was read.
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryView> {
        self.timeline.iter().map(entry)
    }

    /// As callers read it.
    pub(crate) fn view(&self, id: &JobId) -> JobView {
        let mut timeline: Vec<&Fact> = self.timeline.iter().collect();
        timeline.sort_by_key(|fact| fact.at);
        let metadata = self.metadata.as_ref().map(|metadata| metadata.as_json().to_owned());
        JobView {
            id: id.to_string(),
            state: self.state().as_str(),
            is_end: self.state().is_end(),
            route: self.route.as_ref().map(ToString::to_string),
            provider: self.provider.as_ref().map(ToString::to_string),
            to: self.to.as_deref().map(ToOwned::to_owned),
            queued_at: self.queued_at.map(|at| at.to_string()),
            metadata: metadata.and_then(|json| RawValue::from_string(json).ok()),
            timeline: timeline.into_iter().map(entry).collect(),
            left_out: self.left_out,
        }
    }
}

/// True if both are about the same thing that happened. What a provider says of one message it says once,
/// whenever it was heard.
fn is_same(one: &Fact, other: &Fact) -> bool {
    let same = one.kind == other.kind
        && one.attempt == other.attempt
        && one.life == other.life
        && one.provider == other.provider;
    let at_any_time = matches!(one.kind, FactKind::Delivery(_)) && one.message_id == other.message_id;
    same && (at_any_time || one.at == other.at)
}

/// A fact as callers read it.
pub(crate) fn entry(fact: &Fact) -> EntryView {
    EntryView {
        id: fact.event_id(),
        at: fact.at.to_string(),
        kind: fact.kind.event_type(),
        provider: fact.provider.to_string(),
        attempt: fact.attempt,
        extra_send: fact.extra,
        class: fact.class.map(otpd_core::Class::as_str),
        reason: fact.reason.map(otpd_core::Reason::as_str),
        http_status: fact.http_status,
        message_id: fact.message_id.as_ref().map(|id| id.as_str().to_owned()),
        next_attempt_at: fact.next_attempt_at.map(|at| at.to_string()),
        next_provider: fact.next_provider.as_ref().map(ToString::to_string),
        queued_ms: fact.timings.map(|t| t.queued_ms),
        permit_ms: fact.timings.map(|t| t.permit_ms),
        http_ms: fact.timings.map(|t| t.http_ms),
    }
}

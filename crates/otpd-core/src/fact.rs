//! Facts: what happened to a job, told once to everyone (`otp.events`), and read back by the next
//! owner of a lane. The JSON form is in [`crate::fact_json`].

use crate::clock::UnixMs;
use crate::delivery::DeliveryStatus;
use crate::life::{Life, Stage};
use crate::metadata::Metadata;
use crate::names::{JobId, ProviderName, RouteName};
use crate::outcome::{Class, MessageId};
use crate::phone::Phone;
use crate::reason::Reason;
use crate::recipient::{JobKeys, PurposeKey, RecipientKey};

/// What kind of thing happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FactKind {
    /// A provider took the message.
    Accepted,
    /// An attempt failed, another follows.
    Retrying,
    /// The job went to the next provider of its route.
    FailedOver,
    /// A newer job for the same recipient and purpose replaced it.
    Superseded,
    /// Its code was no longer of use before it could be sent.
    Expired,
    /// The same id was published again; this copy was dropped.
    Duplicate,
    /// It failed for good and is in the dead letters.
    Dead,
    /// Its request is about to be written: what a hand-over counts until the answer's own fact.
    Sending,
    /// The provider takes nothing for a while; told with the job that met it.
    Paused,
    /// The provider takes messages again; told with the job that found out.
    Resumed,
    /// The provider says what became of the message.
    Delivery(DeliveryStatus),
    /// The user typed the code, says the producer.
    Verified,
}

impl FactKind {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Accepted,
        Self::Retrying,
        Self::FailedOver,
        Self::Superseded,
        Self::Expired,
        Self::Duplicate,
        Self::Dead,
        Self::Sending,
        Self::Paused,
        Self::Resumed,
        Self::Delivery(DeliveryStatus::Sent),
        Self::Delivery(DeliveryStatus::Delivered),
        Self::Delivery(DeliveryStatus::Read),
        Self::Delivery(DeliveryStatus::Verified),
        Self::Delivery(DeliveryStatus::Failed),
        Self::Delivery(DeliveryStatus::Expired),
        Self::Delivery(DeliveryStatus::Rejected),
        Self::Delivery(DeliveryStatus::Blocked),
        Self::Verified,
    ];

    /// The CloudEvents `type`.
    #[must_use]
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::Accepted => "otp.job.accepted",
            Self::Retrying => "otp.job.retrying",
            Self::FailedOver => "otp.job.failed_over",
            Self::Superseded => "otp.job.superseded",
            Self::Expired => "otp.job.expired",
            Self::Duplicate => "otp.job.duplicate",
            Self::Dead => "otp.job.dead",
            Self::Sending => "otp.lane.sending",
            Self::Paused => "otp.provider.paused",
            Self::Resumed => "otp.provider.resumed",
            Self::Delivery(status) => status.event_type(),
            Self::Verified => "otp.job.verified",
        }
    }

    /// The last word of the type, as labels and tables show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.event_type().rsplit('.').next().unwrap_or_default()
    }

    /// The kind with this CloudEvents `type`.
    #[must_use]
    pub fn parse(event_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.event_type() == event_type)
    }

    /// Whether a job, or its extra send, is over with this: see [`Fact::is_end`].
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Accepted | Self::Superseded | Self::Expired | Self::Dead => true,
            Self::Retrying
            | Self::FailedOver
            | Self::Duplicate
            | Self::Sending
            | Self::Paused
            | Self::Resumed
            | Self::Delivery(_)
            | Self::Verified => false,
        }
    }
}

/// How long a job spent where, up to the answer that accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Timings {
    /// From being taken by the broker or gateway (or made, where that is not known) to being read by a lane.
    pub queued_ms: u64,
    /// From being ready (read by a lane, or due again) to the permit of the last attempt.
    pub permit_ms: u64,
    /// From that permit to the answer.
    pub http_ms: u64,
}

/// One fact. Holds no code, and the recipient only masked and as a keyed hash.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// What happened.
    pub kind: FactKind,
    /// To which job.
    pub job: JobId,
    /// In which life of it.
    pub life: Life,
    /// It is about the extra send: a provider had accepted the job before, and nobody had heard that it arrived.
    pub extra: bool,
    /// In the lane of which provider.
    pub provider: ProviderName,
    /// When.
    pub at: UnixMs,
    /// Attempts made so far, over all providers.
    pub attempt: u32,
    /// The route it was published to.
    pub route: Option<RouteName>,
    /// The class of the answer.
    pub class: Option<Class>,
    /// Why.
    pub reason: Option<Reason>,
    /// The HTTP status of the answer.
    pub http_status: Option<u16>,
    /// The provider's id of the message.
    pub message_id: Option<MessageId>,
    /// The recipient, masked.
    pub to: Option<Box<str>>,
    /// The recipient's keyed hash, where the fleet has a key for it.
    pub recipient: Option<RecipientKey>,
    /// The keyed hash of recipient and purpose, where the fleet has a key for it.
    pub purpose: Option<PurposeKey>,
    /// When the code was made, where `purpose` is given: of two jobs with the same one the newer counts.
    pub created_at: Option<UnixMs>,
    /// The producer's metadata.
    pub metadata: Option<Metadata>,
    /// When the next attempt is due (`retrying`).
    pub next_attempt_at: Option<UnixMs>,
    /// Where the job went (`failed_over`).
    pub next_provider: Option<ProviderName>,
    /// When the request of this attempt was written to the socket: what a hand-over counts.
    pub sent_at: Option<UnixMs>,
    /// Where the time went (`accepted`).
    pub timings: Option<Timings>,
    /// How many requests a second the provider was found to take, where that is less than the configured ceiling
    /// (`paused`, `resumed`).
    pub ceiling_per_second: Option<f64>,
}

impl Fact {
    /// A fact with nothing but what every fact has.
    #[must_use]
    pub fn new(kind: FactKind, job: JobId, provider: ProviderName, at: UnixMs) -> Self {
        Self {
            kind,
            job,
            life: Life::default(),
            extra: false,
            provider,
            at,
            attempt: 0,
            route: None,
            class: None,
            reason: None,
            http_status: None,
            message_id: None,
            to: None,
            recipient: None,
            purpose: None,
            created_at: None,
            metadata: None,
            next_attempt_at: None,
            next_provider: None,
            sent_at: None,
            timings: None,
            ceiling_per_second: None,
        }
    }

    /// The same fact about this life of the job.
    #[must_use]
    pub fn in_life(mut self, life: Life) -> Self {
        self.life = life;
        self
    }

    /// Which part of the job's life it is about.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        Stage { life: self.life, extra: self.extra }
    }

    /// Whether the job is over with this. A job that was accepted counts as that, whatever becomes of its extra send.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        self.kind.is_final() && !self.extra
    }

    /// The same fact about this recipient, masked.
    #[must_use]
    pub fn about(mut self, to: Phone) -> Self {
        self.to = Some(to.to_string().into());
        self
    }

    /// The same fact about a job with these keys, made at `created_at`.
    #[must_use]
    pub fn keyed(mut self, keys: JobKeys, created_at: UnixMs) -> Self {
        (self.recipient, self.purpose) = (Some(keys.recipient), Some(keys.purpose));
        self.created_at = Some(created_at);
        self
    }

    /// The routing key on the events exchange: `job.accepted.verihubs`.
    #[must_use]
    pub fn routing_key(&self) -> String {
        format!("{}.{}", self.kind.event_type().trim_start_matches("otp."), self.provider)
    }

    /// The event's id: the same for the same fact, however often it is published.
    #[must_use]
    pub fn event_id(&self) -> String {
        let kind = self.kind.as_str();
        // A job may be `expired` and its message too.
        let of = if matches!(self.kind, FactKind::Delivery(_)) { "delivery." } else { "" };
        format!("{}/{}/{}/{of}{kind}/{}", self.job, self.provider, self.attempt, self.at.0)
    }
}

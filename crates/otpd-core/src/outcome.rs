//! What one attempt came to: a closed set, decided in one place per provider and by types only.

use std::fmt;
use std::time::Duration;

use crate::rate::Rate;
use crate::reason::Reason;

/// The provider's own id of a message it took; at most 256 characters are kept.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MessageId(Box<str>);

impl MessageId {
    /// `None` for an empty text; a longer one than 256 characters is cut.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let cut: String = text.chars().filter(|c| !c.is_control()).take(256).collect();
        if cut.is_empty() { None } else { Some(Self(cut.into())) }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// How far an answer reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This message only.
    Message,
    /// This recipient, whoever sends.
    Recipient,
    /// This sender with this recipient.
    Pair,
    /// The recipient's country.
    Country,
    /// This provider with this template.
    Template,
    /// The sending number or channel.
    Sender,
    /// The application at the provider.
    App,
    /// The whole account.
    Account,
    /// The provider does not say.
    Unknown,
}

impl Scope {
    /// The scope as the provider page spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Recipient => "recipient",
            Self::Pair => "pair",
            Self::Country => "country",
            Self::Template => "template",
            Self::Sender => "sender",
            Self::App => "app",
            Self::Account => "account",
            Self::Unknown => "unknown",
        }
    }
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The provider took the message.
    Accepted {
        /// Its id there, when it named one.
        message_id: Option<MessageId>,
        /// A remark: [`Reason::MissingId`], [`Reason::HeldForQualityAssessment`], [`Reason::QueuedUnconfirmed`].
        note: Option<Reason>,
    },
    /// Not taken, because of a limit.
    RateLimited {
        /// Which kind of limit.
        reason: Reason,
        /// Whom it concerns.
        scope: Scope,
        /// The wait it asks for, when it names one.
        wait: Option<Duration>,
        /// The limit it names, when it does (Msgai: `Limit: N requests/minute`).
        limit: Option<Rate>,
    },
    /// Worth trying again at the same provider.
    Transient {
        /// What passed.
        reason: Reason,
        /// The wait it asks for, when it names one.
        wait: Option<Duration>,
        /// Whether the message may have been sent all the same (a 5xx after the request was read).
        possibly_sent: bool,
    },
    /// Nobody can tell whether the message was sent.
    Ambiguous {
        /// What hid it.
        reason: Reason,
    },
    /// This message will not be taken here, ever.
    Permanent {
        /// Why not.
        reason: Reason,
        /// Whom it concerns.
        scope: Scope,
    },
    /// No message will be taken here until an operator acts.
    Account {
        /// Why not.
        reason: Reason,
    },
}

/// The class of an [`Outcome`]: what events and metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are those of Outcome")]
pub enum Class {
    Accepted,
    RateLimited,
    Transient,
    Ambiguous,
    Permanent,
    Account,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::RateLimited, Self::Transient, Self::Ambiguous, Self::Permanent, Self::Account];

    /// The class as events and labels spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::RateLimited => "rate_limited",
            Self::Transient => "transient",
            Self::Ambiguous => "ambiguous",
            Self::Permanent => "permanent",
            Self::Account => "account",
        }
    }

    /// The class spelled `text`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == text)
    }
}

impl Outcome {
    /// Which class this is.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Accepted { .. } => Class::Accepted,
            Self::RateLimited { .. } => Class::RateLimited,
            Self::Transient { .. } => Class::Transient,
            Self::Ambiguous { .. } => Class::Ambiguous,
            Self::Permanent { .. } => Class::Permanent,
            Self::Account { .. } => Class::Account,
        }
    }

    /// The reason it carries; an unremarkable acceptance has none.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Accepted { note, .. } => *note,
            Self::RateLimited { reason, .. }
            | Self::Transient { reason, .. }
            | Self::Ambiguous { reason }
            | Self::Permanent { reason, .. }
            | Self::Account { reason } => Some(*reason),
        }
    }

    /// Whether sending the code again could reach the recipient twice.
    #[must_use]
    pub const fn may_have_been_sent(&self) -> bool {
        match self {
            Self::Accepted { .. } | Self::Ambiguous { .. } => true,
            Self::Transient { possibly_sent, .. } => *possibly_sent,
            Self::RateLimited { .. } | Self::Permanent { .. } | Self::Account { .. } => false,
        }
    }
}

/// An outcome with what is worth showing of the answer it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// What it came to.
    pub outcome: Outcome,
    /// The HTTP status, when there was an answer.
    pub http_status: Option<u16>,
    /// The provider's own error code (Meta's `error.code`), when it gave one.
    pub code: Option<i64>,
    /// The provider's message, redacted (see [`crate::text::redacted`]).
    pub detail: Option<Box<str>>,
}

//! The names that tables, objectives, JSON and plots share: the parts of a job's latency, and what is counted.

/// A part of the time a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// From the intended time to the publishing: how far the generator itself was behind.
    Late,
    /// From the publishing to the broker's confirm (or the commit of the embedded queue).
    Confirm,
    /// From being handed to the queue to being read by a lane, as the worker told. `Confirm` is beside it, not
    /// before it: late + queued + permit + http make up the total of a job that needed one attempt.
    Queued,
    /// From there to the permit of the last attempt, as the worker told.
    Permit,
    /// From there to the provider's answer, as the worker told.
    Http,
    /// From the intended time to the acceptance.
    Total,
    /// From the acceptance to its event being read here.
    Told,
}

impl Part {
    /// All of them, in the order of a job's way; `Total` after what it is made of.
    pub(super) const ALL: [Self; 7] =
        [Self::Late, Self::Confirm, Self::Queued, Self::Permit, Self::Http, Self::Total, Self::Told];

    /// Its name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Confirm => "confirm",
            Self::Queued => "queued",
            Self::Permit => "permit",
            Self::Http => "http",
            Self::Total => "total",
            Self::Told => "told",
        }
    }

    /// What it is, for people.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::Late => "intended time to publishing: the generator's own lateness",
            Self::Confirm => "publishing to the queue's confirm",
            Self::Queued => "handed to the queue to read by a lane",
            Self::Permit => "ready to be sent to the permit of the last attempt",
            Self::Http => "permit to the provider's answer",
            Self::Total => "intended time to acceptance",
            Self::Told => "acceptance to its event read here",
        }
    }

    /// The part with this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == name)
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Count {
    Accepted,
    Dead,
    Expired,
    Superseded,
    /// Published, and how it ended is not known.
    Open,
    /// Not taken by the queue, or nobody knows.
    Unpublished,
    /// Attempts that another followed.
    Retried,
    /// Moves to the next provider.
    FailedOver,
    /// Attempts answered with 429 or one of its relatives.
    RateLimited,
    /// Jobs that ended more than once.
    EndedTwice,
}

impl Count {
    /// All of them.
    pub(super) const ALL: [Self; 10] = [
        Self::Accepted,
        Self::Dead,
        Self::Expired,
        Self::Superseded,
        Self::Open,
        Self::Unpublished,
        Self::Retried,
        Self::FailedOver,
        Self::RateLimited,
        Self::EndedTwice,
    ];

    /// Its name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Dead => "dead",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Open => "open",
            Self::Unpublished => "unpublished",
            Self::Retried => "retried",
            Self::FailedOver => "failed_over",
            Self::RateLimited => "rate_limited",
            Self::EndedTwice => "ended_twice",
        }
    }

    /// The count with this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|count| count.as_str() == name)
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

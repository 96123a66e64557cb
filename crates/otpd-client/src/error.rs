//! What can go wrong, and what to do then.

use otpd_core::RouteName;

use crate::config::InvalidUrl;

/// Why a client could not be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// A URL that cannot be used.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// No URL was given.
    #[error("no broker URL is given")]
    NoUrl,
    /// The broker does not answer.
    #[error("the broker at {place} is away: {why}")]
    Away {
        /// Host and port.
        place: String,
        /// What happened.
        why: String,
    },
    /// The broker refuses: credentials, rights, virtual host.
    #[error("the broker at {place} refuses: {why}")]
    Refused {
        /// Host and port.
        place: String,
        /// Its words.
        why: String,
    },
}

/// Why a job was not sent, or may not have been.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// The route's name is not one.
    #[error("the route's name is not one: it {0}")]
    InvalidRoute(#[from] otpd_core::InvalidName),
    /// The job is not one; otpd would bury it. Says what is wrong without repeating a value.
    #[error("the job is not valid: {0}")]
    InvalidJob(String),
    /// There is no such route. Nothing was queued.
    #[error(
        "there is no route `{0}`: see [routes] in otpd's config, and run `otpd topology apply` after a change"
    )]
    UnknownRoute(RouteName),
    /// Nothing was queued, because the broker could not be reached in time.
    #[error(transparent)]
    Unreachable(#[from] ConnectError),
    /// No confirm came in time: the job may or may not be queued. Send it again with the same id.
    #[error("no confirm came in time: the job may or may not be queued; send it again with the same id")]
    TimedOut,
}

impl SendError {
    /// Whether sending the same job again may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::TimedOut | Self::Unreachable(ConnectError::Away { .. }) => true,
            Self::InvalidRoute(_) | Self::InvalidJob(_) | Self::UnknownRoute(_) => false,
            Self::Unreachable(ConnectError::Url(_) | ConnectError::NoUrl | ConnectError::Refused { .. }) => {
                false
            }
        }
    }
}

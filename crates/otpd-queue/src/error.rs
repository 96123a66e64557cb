//! What can go wrong with a queue, in words an operator can act on. Broker URLs are shown without
//! their password.

/// An error of the queue.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// The broker does not answer, or hung up.
    #[error("the broker at {url} is away: {why}")]
    Away {
        /// The address, without credentials.
        url: String,
        /// What happened.
        why: String,
    },
    /// The broker refuses: rights, virtual host, credentials.
    #[error("the broker refuses: {why}")]
    Refused {
        /// Its words.
        why: String,
    },
    /// The topology is not as planned.
    #[error("the broker's topology is not as planned: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Topology(Vec<crate::plan::Difference>),
    /// A message came back: nothing is bound to its key.
    #[error("nothing is bound to the key `{key}` on exchange `{exchange}`; run `otpd topology apply`")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
    },
    /// Something is still used, or done by somebody else.
    #[error("{why}")]
    InUse {
        /// What is, and what to do.
        why: String,
    },
    /// The embedded queue's file.
    #[error("the queue file {path}: {why}")]
    File {
        /// Which file.
        path: String,
        /// What happened.
        why: String,
    },
    /// The embedded queue's lanes have an owner already.
    #[error("the queue file {path} is worked on by another otpd process; one worker a file")]
    Owned {
        /// Which file.
        path: String,
    },
}

//! What a process is told of the facts of the whole fleet.
//!
//! A backend has one reader of facts per process, which starts with the first lane and never stops. It
//! tells one [`Listener`] everything: first what was written in the last seconds and what is
//! written from now on, and meanwhile, in pieces that begin ever further back, what was written before. A lane
//! can therefore take over at any moment with what the listener already knows.

use std::sync::Arc;
use std::time::Duration;

use otpd_core::{Fact, ProviderName};
use tokio::sync::{mpsc, oneshot};

/// Facts on their way to a follower.
#[derive(Debug)]
pub struct Following {
    /// The facts, oldest first.
    pub facts: mpsc::Receiver<Fact>,
    /// Is answered when every fact that was there at the beginning is among `facts`; those may still wait there.
    pub caught_up: oneshot::Receiver<()>,
}

/// When a piece of news was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Just now: it was read as soon as it was written.
    Live,
    /// Some time ago; older pieces may come after newer ones.
    Past,
}

/// One record of the events stream.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all news are facts; a box would cost each an allocation"
)]
pub enum News {
    /// A fact of another process, or of this one before it started.
    Fact(Fact),
    /// An owner's claim to a lane, or its renewal, with what it said for its successor.
    Opened {
        /// Whose lane.
        provider: ProviderName,
        /// Identifies the claim.
        claim: Box<str>,
        /// The owner's checkpoint as JSON, if it wrote one.
        checkpoint: Option<Box<str>>,
    },
}

/// Learns from the facts of the fleet. Called by the backend's reader, in the order of the stream within a
/// piece; must not block.
pub trait Listener: Send + Sync + 'static {
    /// Takes a piece of news. Facts of this process are not told to it.
    fn hear(&self, news: Vec<News>, when: When);

    /// How far back it still wants to be told.
    fn horizon(&self) -> Duration;

    /// True if it knows all requests that count against the ceiling of `provider`, when everything of the last
    /// `known` has been told.
    fn knows_window(&self, provider: &ProviderName, known: Duration) -> bool {
        let _ = (provider, known);
        true
    }
}

/// A listener that learns nothing and wants `horizon` to be read.
#[derive(Clone, Copy, Debug)]
pub struct Deaf(pub Duration);

impl Listener for Deaf {
    fn hear(&self, _news: Vec<News>, _when: When) {}

    fn horizon(&self) -> Duration {
        self.0
    }
}

/// All listeners of a process.
pub(crate) type Listeners = Vec<Arc<dyn Listener>>;

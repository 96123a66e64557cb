//! The nodes of a cluster, and what a connection to one of them needs at this moment.
//!
//! A password is rotated while connections stand: those live on, and the next one needs the new password. So
//! credentials and certificate authority are read before each attempt at a connection and kept nowhere else.
//! Where the nodes are stays as it was at the start: another place is another queue, and that takes a restart.
//!
//! Invariant: an attempt is made whatever can be read; what cannot be read stays as it was read last.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::address::BrokerUrl;

/// What connections to a cluster need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The nodes, with user and password.
    pub urls: Vec<BrokerUrl>,
    /// Certificate authorities that are trusted beside the system's, as PEM.
    pub ca: Option<Arc<str>>,
}

/// Reads what connections need; may block on files. The error says what is missing, and shows no secret.
pub type ReadAccess = Arc<dyn Fn() -> Result<Access, String> + Send + Sync>;

/// The nodes of a cluster. Clones are the same nodes.
#[derive(Clone)]
pub struct Nodes(Arc<Mutex<State>>);

struct State {
    read: ReadAccess,
    last: Access,
    /// Why the last reading failed, while nothing else has happened since.
    problem: Option<String>,
}

impl Nodes {
    /// The nodes that `first` names; their credentials are read by `read` from now on.
    #[must_use]
    pub fn read_by(first: Access, read: ReadAccess) -> Self {
        Self(Arc::new(Mutex::new(State { read, last: first, problem: None })))
    }

    /// Nodes whose credentials stay as they are.
    #[must_use]
    pub fn fixed(urls: Vec<BrokerUrl>) -> Self {
        let access = Access { urls, ca: None };
        let read = access.clone();
        Self::read_by(access, Arc::new(move || Ok(read.clone())))
    }

    /// Reads credentials in another way from the next connection on.
    pub fn read_otherwise(&self, read: ReadAccess) {
        self.state().read = read;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.state().last.urls.len()
    }

    /// One of them, for messages.
    pub(super) fn shown(&self) -> String {
        self.state().last.urls.first().map_or_else(|| "-".into(), ToString::to_string)
    }

    /// What connections need now.
    pub(super) async fn access(&self) -> Access {
        let read = self.state().read.clone();
        let found = tokio::task::spawn_blocking(move || read()).await;
        let mut state = self.state();
        let state = &mut *state;
        match found.unwrap_or_else(|gone| Err(gone.to_string())) {
            Ok(found) => {
                for url in &mut state.last.urls {
                    if let Some(same) = found.urls.iter().find(|other| other.is_same_place(url)) {
                        *url = same.clone();
                    }
                }
                state.last.ca = found.ca;
                state.problem = None;
            }
            Err(problem) if state.problem.as_ref() != Some(&problem) => {
                warn!("the broker's credentials cannot be read: {problem}; the ones read last are used");
                state.problem = Some(problem);
            }
            Err(_) => {}
        }
        state.last.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without credentials.
impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Nodes").field(&self.state().last.urls).finish()
    }
}

/// Nodes whose credentials stay as they are.
impl From<Vec<BrokerUrl>> for Nodes {
    fn from(urls: Vec<BrokerUrl>) -> Self {
        Self::fixed(urls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<BrokerUrl> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    async fn after(found: Result<Access, String>) -> Access {
        let first = Access { urls: urls(&["amqp://u:one@a/v", "amqp://u:one@b/v"]), ca: None };
        Nodes::read_by(first, Arc::new(move || found.clone())).access().await
    }

    #[tokio::test]
    async fn other_credentials_are_used_and_another_place_is_not() {
        let ca = Some("pem".into());
        let found = Access { urls: urls(&["amqp://u:two@b/v", "amqp://w:two@a/v"]), ca: ca.clone() };
        let is = Access { urls: urls(&["amqp://w:two@a/v", "amqp://u:two@b/v"]), ca };
        assert_eq!(after(Ok(found)).await, is);
        for other in ["amqp://u:two@c/v", "amqp://u:two@a/w", "amqps://u:two@a/v", "amqp://u:two@a:1/v"] {
            let found = Access { urls: urls(&[other]), ca: None };
            assert_eq!(after(Ok(found)).await.urls, urls(&["amqp://u:one@a/v", "amqp://u:one@b/v"]));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_stays() {
        let access = after(Err("gone".into())).await;
        assert_eq!(access.urls, urls(&["amqp://u:one@a/v", "amqp://u:one@b/v"]));
    }
}

//! From a provider's name to addresses, in the order in which they are tried.
//!
//! Connecting shares its time-out among the addresses, so one that is dead costs its part of it. The
//! address that answered last comes first, so it costs that once. Where connecting fails all the same (an address
//! may take connections and never speak TLS), the next connection begins with another one. Where names cannot be looked up, the
//! addresses that were found last are used: an outage of the resolver is not one of the provider.
//!
//! Every new connection looks up again, and no connection is older than its line (`lines`): a change of
//! the name is followed within that time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use otpd_core::Mono;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::options::Lookup;

/// The most addresses of a name that are tried.
const MOST: usize = 4;

/// What is known of a provider's addresses; shared by all its connections.
#[derive(Clone)]
pub(crate) struct Hosts(Arc<Shared>);

struct Shared {
    lookup: Lookup,
    /// How long looking up may take.
    within: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    found: Vec<SocketAddr>,
    answered: Option<IpAddr>,
    /// With which of them a connection begins, and since when.
    first: usize,
    first_since: Mono,
}

impl Hosts {
    pub(crate) fn new(lookup: Lookup, within: Duration) -> Self {
        Self(Arc::new(Shared { lookup, within, known: Mutex::default() }))
    }

    /// The provider answered from this address.
    pub(crate) fn answered(&self, from: SocketAddr) {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).answered = Some(from.ip());
    }

    /// Connecting failed, which began at `since`.
    pub(crate) fn failed(&self, since: Mono, now: Mono) {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).failed(since, now);
    }
}

impl Resolve for Hosts {
    fn resolve(&self, name: Name) -> Resolving {
        let shared = self.0.clone();
        Box::pin(async move {
            let looked_up = tokio::time::timeout(shared.within, find(&shared.lookup, name.as_str())).await;
            let in_time = looked_up.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let mut known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses = known.after(in_time)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

async fn find(lookup: &Lookup, name: &str) -> io::Result<Vec<SocketAddr>> {
    match lookup {
        Lookup::System => Ok(tokio::net::lookup_host((name, 0)).await?.collect()),
        Lookup::Table(find) => find(name),
    }
}

impl Known {
    /// The addresses to try after this look-up.
    fn after(&mut self, looked_up: io::Result<Vec<SocketAddr>>) -> io::Result<Vec<SocketAddr>> {
        match looked_up {
            Ok(found) if !found.is_empty() => self.found = found,
            Ok(_) if self.found.is_empty() => return Err(io::ErrorKind::NotFound.into()),
            Err(error) if self.found.is_empty() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let mut addresses = self.found.clone();
        addresses.rotate_left(self.first % self.found.len().max(1));
        // Stable: the others stay in the order of the look-up.
        addresses.sort_by_key(|address| Some(address.ip()) != self.answered);
        addresses.truncate(MOST);
        Ok(addresses)
    }

    /// Begins with another one, once for all that began with the same.
    fn failed(&mut self, since: Mono, now: Mono) {
        if since >= self.first_since {
            (self.first, self.first_since) = (self.first.wrapping_add(1), now);
            self.answered = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(last: &[u8]) -> Vec<SocketAddr> {
        last.iter().map(|last| SocketAddr::from(([127, 0, 0, *last], 0))).collect()
    }

    #[test]
    fn the_one_that_answered_comes_first() {
        let mut known = Known::default();
        assert_eq!(known.after(Ok(all(&[1, 2, 3]))).unwrap(), all(&[1, 2, 3]));
        known.answered = Some([127, 0, 0, 3].into());
        assert_eq!(known.after(Ok(all(&[1, 2, 3]))).unwrap(), all(&[3, 1, 2]));
        assert_eq!(known.after(Ok(all(&[1, 2]))).unwrap(), all(&[1, 2]), "it has left the name");
        assert_eq!(known.after(Ok(all(&[9, 8, 7, 6, 5, 3]))).unwrap(), all(&[3, 9, 8, 7]));
    }

    #[test]
    fn where_connecting_fails_another_one_is_tried_first() {
        let mut known = Known { answered: Some([127, 0, 0, 1].into()), ..Known::default() };
        assert_eq!(known.after(Ok(all(&[1, 2, 3]))).unwrap(), all(&[1, 2, 3]));
        known.failed(Mono(5), Mono(10));
        assert_eq!(known.after(Ok(all(&[1, 2, 3]))).unwrap(), all(&[2, 3, 1]));
        known.failed(Mono(6), Mono(11));
        assert_eq!(known.after(Ok(all(&[1, 2, 3]))).unwrap(), all(&[2, 3, 1]), "it began before the change");
        known.failed(Mono(11), Mono(12));
        known.failed(Mono(12), Mono(13));
        assert_eq!(known.after(Ok(all(&[1, 2, 3]))).unwrap(), all(&[1, 2, 3]));
    }

    #[test]
    fn an_outage_of_the_resolver_changes_nothing() {
        let mut known = Known::default();
        let outage = || Err(io::ErrorKind::TimedOut.into());
        assert_eq!(known.after(outage()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(known.after(Ok(Vec::new())).unwrap_err().kind(), io::ErrorKind::NotFound);
        known.after(Ok(all(&[1, 2]))).unwrap();
        assert_eq!(known.after(outage()).unwrap(), all(&[1, 2]));
        assert_eq!(known.after(Ok(Vec::new())).unwrap(), all(&[1, 2]));
    }
}

//! A listener that keeps every fact it is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use otpd_core::{Fact, recent};
use otpd_queue::{Listener, News, When};

/// The facts told so far. Clones hear the same.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<Vec<Fact>>>);

impl Heard {
    /// The facts told so far, in the order in which they were told.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same as a listener.
    #[must_use]
    pub fn listener(&self) -> Arc<dyn Listener> {
        Arc::new(self.clone())
    }
}

impl Listener for Heard {
    fn hear(&self, news: Vec<News>, _when: When) {
        let facts = news.into_iter().filter_map(|news| match news {
            News::Fact(fact) => Some(fact),
            News::Opened { .. } => None,
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(facts);
    }

    fn horizon(&self) -> Duration {
        recent::WINDOW
    }
}

//! The on-premises token: fetched by one attempt while the others wait, dropped when it is refused.
//!
//! A refused token is not replaced within the same attempt. The refused request was a request, and
//! the permit that paid for it is used; the message goes out again with the next attempt, which logs
//! in and has a permit of its own. Only a token that once worked earns that retry: one that is
//! refused at its first use is a matter for an operator.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;
use tokio::sync::Mutex;

use otpd_core::{Answered, Mono};

/// A token in use.
pub(crate) struct Token {
    /// `Authorization: Bearer ...`
    pub(crate) bearer: HeaderValue,
    worked: AtomicBool,
}

impl Token {
    /// The provider took it.
    pub(crate) fn has_worked(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }

    /// Whether the provider ever took it.
    pub(crate) fn ever_worked(&self) -> bool {
        self.worked.load(Ordering::Relaxed)
    }
}

/// The token of one provider account, shared by all attempts.
#[derive(Default)]
pub(crate) struct Session {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// The last login that failed, and when it ended.
    refused: Option<(Mono, Answered)>,
}

impl Session {
    /// The token; `login` fetches one if there is none. Attempts that waited while another's login
    /// failed share its failure, so that a broken login is asked once and not once per message.
    pub(crate) async fn token<F>(
        &self,
        mono: impl Fn() -> Mono,
        login: impl FnOnce() -> F,
    ) -> Result<Arc<Token>, Answered>
    where
        F: Future<Output = Result<HeaderValue, Answered>>,
    {
        let since = mono();
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token {
            return Ok(token.clone());
        }
        if let Some((at, answered)) = &state.refused
            && *at > since
        {
            return Err(answered.clone());
        }
        match login().await {
            Ok(bearer) => {
                let token = Arc::new(Token { bearer, worked: AtomicBool::new(false) });
                state.token = Some(token.clone());
                Ok(token)
            }
            Err(answered) => {
                state.refused = Some((mono(), answered.clone()));
                Err(answered)
            }
        }
    }

    /// The provider refused `token`: the next attempt logs in, unless another has by now.
    pub(crate) async fn refused(&self, token: &Arc<Token>) {
        let mut state = self.state.lock().await;
        if state.token.as_ref().is_some_and(|current| Arc::ptr_eq(current, token)) {
            state.token = None;
        }
    }
}

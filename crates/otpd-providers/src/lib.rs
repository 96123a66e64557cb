//! The providers: what is sent to each, how its answers and callbacks are read, and the one HTTP transport.
//!
//! A provider is one file (`verihubs.rs`, `msgai.rs`, ...) of three pure functions: a job becomes the
//! body of a request, an answer becomes an [`otpd_core::Outcome`], a callback becomes [`Update`]s. What they
//! share is said once: `whatsapp` (Meta's template), `meta_codes` (Meta's error numbers, which three of them
//! pass on), `meta_status` (its status of a message), `generic` (HTTP statuses that nothing better is known
//! about), `retry_after`, `scrub`. Betatel alone can be asked what became of a send that nobody could tell of:
//! `lookup`; Betatel and 1MSG can be asked what became of a message: `poll`.
//!
//! [`Adapter`] is those functions chosen by [`ProviderSettings`], [`CallbackReader`] the ones for callbacks;
//! neither waits or reads a clock. [`Transport`] is the thin edge: it sends what the adapter built, knows whether the request
//! left, bounds what it reads, and hands the answer back to the adapter.
//!
//! Invariants:
//! - Reading an answer or a callback is total: no status, header or body can make it panic, or show a code, a
//!   number or a credential in what it returns.
//! - An HTTP status of 500 and above is never `ambiguous`: it is `transient`, possibly sent unless the
//!   provider documents that nothing was.
//! - One call of [`Transport::send`] puts at most one request for a message on the wire, because one
//!   permit of the ceiling pays for one.

mod adapter;
mod advice;
mod answer;
mod betatel;
mod body;
mod callback;
mod clock;
mod echo;
mod endpoint;
mod failure;
mod generic;
mod kind;
mod login;
mod lookup;
mod meta_cloud;
mod meta_codes;
mod meta_onprem;
mod meta_status;
mod meta_usage;
mod msgai;
mod onemsg;
mod onprem_codes;
mod options;
mod pairs;
mod poll;
mod provider_time;
mod retry_after;
mod right;
mod scrub;
mod secret;
mod session;
mod settings;
mod signature;
mod trace;
mod transport;
mod update;
mod verihubs;
mod whatsapp;

pub use adapter::Adapter;
pub use advice::{Advice, Keys, advice, keys};
pub use answer::Answer;
pub use callback::{CallbackKeys, CallbackReader, DEFAULT_SIGNATURE_HEADER};
pub use clock::Clock;
pub use endpoint::{Request, SetupError};
pub use kind::Kind;
pub use options::{Authorities, HttpLimits, HttpOptions, HttpVersion, Lookup};
pub use poll::{Poll, Polled};
pub use retry_after::LONGEST_WAIT;
pub use secret::Secret;
pub use settings::{DEFAULT_API_VERSION, DEFAULT_LANGUAGE, DEFAULT_TEXT, ProviderSettings};
pub use trace::TRACE_TARGET;
pub use transport::{MAX_ANSWER, Transport};
pub use update::{Callback, CallbackMethod, CallbackRead, MAX_STATUSES, Told, Update};

//! The outside world of otpd, made small enough to run in a test: providers that answer by their
//! documented contract ([`mock`]), jobs to feed them ([`jobs`]), when those arrive ([`arrivals`]), and the
//! account that must balance at the end ([`ledger`]).
//!
//! Nothing here knows otpd's own provider adapters. The mock is a second, independent statement of
//! each provider's contract: were it built from the first, both sides would share one misreading.

pub mod arrivals;
pub mod chance;
pub mod jobs;
pub mod ledger;
pub mod mock;

pub use arrivals::{Arrivals, Segment, Spacing};
pub use jobs::{Job, Jobs};
pub use ledger::{Ledger, Summary, Unbalanced};
pub use mock::{Balance, Certificate, Control, FaultPlan, Kind, Latency, Mock, MockConfig, Stats};

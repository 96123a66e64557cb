//! The decisions of otpd, and the words it decides in.
//!
//! Everything here is pure: no async, no I/O, no clock, no randomness. Time and chance are
//! arguments ([`UnixMs`], [`Mono`], a jitter in `0.0..1.0`), so every rule can be tested as a table.
//!
//! Read in this order: [`job`] (what is asked), [`outcome`] (what a provider answered),
//! [`decide()`] (what follows), [`admission`] (what is not worth a permit), [`ceiling`] (when the
//! next request may start), [`fact`] (what the outside is told), [`recent`] (what is remembered).

pub mod admission;
pub mod arrival;
pub mod breaker;
pub mod ceiling;
pub mod checkpoint;
pub mod clock;
pub mod code;
mod counts;
pub mod decide;
pub mod delivery;
pub mod fact;
pub mod fact_json;
pub mod hand_over;
pub mod job;
mod learned;
pub mod life;
mod limit;
pub mod memory;
pub mod metadata;
pub mod names;
pub mod newest;
pub mod outcome;
pub mod pace;
pub mod phone;
pub mod rate;
mod read_at;
pub mod reason;
pub mod recent;
pub mod recipient;
pub mod recipients;
mod reserve;
pub mod retry;
pub mod route;
pub mod served;
pub mod singled;
mod stamp;
pub mod text;
pub mod unlisted;
pub mod verdict;

pub use admission::{Admission, admit};
pub use breaker::{Breaker, Change, Gate, Pass, Refusals};
pub use ceiling::{Ceiling, ReadyAt, Stamp};
pub use checkpoint::{Checkpoint, LearnedFrom, LearnedLimit, Pause};
pub use clock::{Mono, UnixMs};
pub use code::OtpCode;
pub use decide::{Attempted, Disposition, OnAmbiguous, decide};
pub use delivery::{DeliveryStatus, JobState, Progress};
pub use fact::{Fact, FactKind};
pub use hand_over::{HandOver, ReadAt, TakenOver};
pub use job::{Malformed, SendJob, SupersedeKey, TemplateChoice};
pub use life::{Life, Stage};
pub use memory::{Author, Memory};
pub use metadata::Metadata;
pub use names::{InvalidName, JobId, ProviderName, Purpose, RouteName};
pub use newest::Newest;
pub use outcome::{Answered, Class, MessageId, Outcome, Scope};
pub use pace::Pace;
pub use phone::Phone;
pub use rate::Rate;
pub use reason::Reason;
pub use recent::{Known, Recent};
pub use recipient::{JobKeys, PurposeKey, RecipientHasher, RecipientKey};
pub use recipients::Recipients;
pub use retry::RetryPolicy;
pub use route::{Route, RouteTable, TrafficClass};
pub use served::Served;
pub use singled::{Singled, Whose};
pub use unlisted::Unlisted;
pub use verdict::Verdict;

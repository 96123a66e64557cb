//! The worker: one lane for each provider account, each a single task that owns its state.
//!
//! Read [`dispatch`] first: it is the loop. Around it, in the order in which a job meets them:
//! [`arrive`] (receive, admit), [`waiting_room`] (who is next), [`gates`] (pause, breaker, recipient, the flow of
//! bulk), `spill` (who would wait too long), `later` (who waits elsewhere), [`attempt`] (permit, request, answer),
//! [`settle`] (facts, moves, burials, acknowledgements), `awaiting` (accepted, and not known to have arrived), `written` (what an owner says of its requests for the
//! next one). [`worker`] opens all lanes and drains them; [`reconfigure`] changes what they go by; [`memory`] is
//! what all lanes know together, `forgotten` what it could not keep; [`metrics`] counts and [`trace`] makes spans.

pub mod arrive;
pub mod attempt;
mod awaiting;
pub mod board;
pub mod burial;
pub mod clock;
pub mod dispatch;
pub mod endpoint;
mod forgotten;
pub mod gates;
pub mod held;
mod later;
pub mod lease;
pub mod memory;
pub mod metrics;
pub mod reconfigure;
pub mod settings;
pub mod settle;
mod spill;
pub mod trace;
pub mod waiting_room;
pub mod worker;
mod written;

pub use board::Board;
pub use clock::Clock;
pub use dispatch::Lane;
pub use endpoint::Endpoint;
pub use memory::Memory;
pub use metrics::Metrics;
pub use reconfigure::{Orders, Steering};
pub use settings::{LaneSettings, RecipientKeys, Shared};
pub use worker::{LaneState, Worker, WorkerError};

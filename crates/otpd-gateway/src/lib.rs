//! HTTP in: jobs, their states, what providers say in callbacks, and the Supabase hook.
//!
//! The gateway owns nothing that matters. What it takes is in the queue before it says so, what it is told is on
//! the events stream before it says so, and what it shows is read from that stream: so any number of gateways
//! run side by side, and each may be killed at any moment. What only one process knows is named where it is
//! kept: requests counted against a key ([`keys`]), contents of recent ids ([`recent_ids`]), callbacks that came
//! before the message they speak of ([`early`]).
//!
//! Read in this order: [`gateway`] (what it consists of, and which call goes where), `jobs` and `submission`
//! (jobs in), `supabase` and `webhook` (the hook), [`index`] and `follower` (states), `states` and `watch` (states
//! out), `callbacks` and `deliveries` (what providers say), `feedback` (what producers say), `serve` (connections, limits, drain).

mod callbacks;
mod clock;
mod deliveries;
mod early;
mod feedback;
mod follower;
mod gateway;
mod index;
mod jobs;
mod keys;
mod limits;
mod metrics;
mod openapi;
mod problem;
mod recent_ids;
mod record;
mod serve;
mod settings;
mod states;
mod submission;
mod supabase;
mod view;
mod watch;
mod webhook;

pub use clock::Clock;
pub use gateway::Gateway;
pub use index::Index;
pub use metrics::GatewayMetrics;
pub use openapi::openapi;
pub use serve::{Serving, serve};
pub use settings::{ApiKey, CallbackSource, HookSignature, Settings, SupabaseHook};

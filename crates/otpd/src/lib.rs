//! otpd, but for its `main`: configuration, command line, output, and the wiring of the other crates.
//! Nothing about sending is decided here.

pub mod admin;
pub mod cli;
pub mod commands;
pub mod config;
pub mod failure;
mod memory_metrics;
pub mod open;
pub mod output;
mod queue_metrics;
pub mod reload;
pub mod schema;
pub mod signals;
pub mod telemetry;
mod traces;
pub mod version;
mod wiring;

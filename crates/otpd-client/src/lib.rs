//! Send one-time passwords through otpd from a Rust program.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use otpd_client::{Client, Job};
//!
//! let client = Client::connect("amqp://guest:guest@127.0.0.1:5672/%2f").await?;
//! let job = Job::new("+628123456890", "482910").purpose("login").valid_for(std::time::Duration::from_secs(120));
//! client.send("login", &job).await?; // the broker has it: confirmed, persistent, on a queue
//! println!("follow it as {}", job.id());
//! # Ok(())
//! # }
//! ```
//!
//! `send` returns when the broker has confirmed the job, within 5 s. Where it says that nobody knows
//! ([`SendError::TimedOut`]), send the same [`Job`] again: its id keeps it from being sent twice.
//!
//! One thing to set up: lapin, beneath, logs every message that comes back from an unknown route,
//! body and code included, at level WARN. Silence it with the filter directive
//! `lapin::returned_messages=off`.

mod client;
mod config;
mod dial;
mod error;
mod job;
mod pool;

pub use client::Client;
pub use config::{ClientConfig, InvalidUrl};
pub use error::{ConnectError, SendError};
pub use job::Job;
pub use otpd_core::{JobId, RouteName};

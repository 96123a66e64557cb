//! What the end-to-end tests stand on: a private RabbitMQ, a network that misbehaves, the binary.
//!
//! Nothing is skipped: where something is missing, the test fails and says how to get it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test fixtures fail loudly")]

pub mod binary;
pub mod broker;
pub mod cluster;
pub mod eventually;
pub mod gateway;
pub mod heard;
pub mod hung;
pub mod logs;
pub mod marks;
pub mod node;
pub mod one_lane;
pub mod otlp;
pub mod past;
pub mod ports;
pub mod proxy;
pub mod rabbit;
pub mod scene;
pub mod tools;
pub mod windows;
pub mod worker;

pub use binary::otpd_bin;
pub use broker::Broker;
pub use cluster::Cluster;
pub use eventually::eventually;
pub use gateway::GatewayProcess;
pub use heard::Heard;
pub use node::Node;
pub use otlp::Collector;
pub use ports::claim_port;
pub use proxy::Proxy;
pub use scene::Scene;
pub use windows::most_within;
pub use worker::WorkerProcess;

//! Where otpd's jobs and facts live: a RabbitMQ cluster, or one SQLite file on a laptop.
//!
//! [`seam`] is the contract between a lane and either backend; [`Queue`] is the choice between the
//! two. lapin is known only inside [`rabbitmq`], SQLite only inside [`embedded`]. Both pass the same
//! conformance suite.

pub mod alive;
pub mod dead;
pub mod embedded;
pub mod error;
mod hidden;
pub mod listen;
pub mod plan;
pub mod queue;
pub mod rabbitmq;
pub mod retire;
pub mod seam;
mod settler;

pub use alive::Alive;
pub use dead::{DeadFilter, DeadLetter};
pub use error::QueueError;
pub use listen::{Deaf, Following, Listener, News, When};
pub use plan::{Applied, Difference, LanePlan, Owners, Plan, Standing};
pub use queue::Queue;
pub use retire::{Leftovers, Retired, Trial};
pub use seam::{
    Burial, Carried, Checkpoint, Delivery, Inbound, LaneQueue, LaneSpec, LaneStop, Move, Prefetch,
    QueueNames, Section, Settlement, Settler, Tag, Then, Ticket, TraceContext,
};

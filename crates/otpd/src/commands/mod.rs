//! One file a command. A command reads its arguments and the config, asks the other crates, and prints
//! through [`crate::output`]; it decides nothing about sending.

pub mod config;
pub mod dead;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod gateway;
pub mod health;
pub mod load;
pub mod mock;
pub mod send;
pub mod top;
pub mod topology;
pub mod worker;

//! Calling back: what becomes of messages after they were taken, and how an account tells.
//!
//! `settings` is what can be set, `shares` a part of its text form, `journey` what becomes of one message,
//! `report` what every kind makes a request of (in its own file of [`super::kinds`]), `caller` when requests
//! leave, `post` how.

pub(crate) mod caller;
pub(crate) mod journey;
pub(crate) mod post;
pub(crate) mod report;
pub(crate) mod settings;
pub(crate) mod shares;

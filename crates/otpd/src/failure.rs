//! How a command fails: in which words, and with which exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use otpd_queue::QueueError;

use crate::config::Issues;

/// Why a command did not do what it was asked. `Display` is for the operator: what, where, what to do.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for what cannot be.
    Usage(String),
    /// The config is wrong.
    Config(Issues),
    /// It was tried and did not work.
    Failed(String),
    /// The reader of the output hung up: nothing is wrong, and nobody listens.
    HungUp,
}

impl Failure {
    /// 1 failed, 2 wrong use or wrong config.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::HungUp => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::from(1),
            Self::Usage(_) | Self::Config(_) => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => write!(f, "otpd: {text}"),
            Self::Config(issues) => issues.fmt(f),
            Self::HungUp => Ok(()),
        }
    }
}

impl From<Issues> for Failure {
    fn from(issues: Issues) -> Self {
        Self::Config(issues)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::HungUp
        } else {
            Self::Failed(format!("standard output cannot be written to: {error}"))
        }
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let todo = match &error {
            QueueError::Away { .. } => "; start the broker, or correct broker.url",
            QueueError::Refused { .. } => {
                "; correct user, password or virtual host in broker.url, or grant the rights"
            }
            QueueError::Topology(_) => {
                "; put the config right, or delete what differs once it is empty (the runbook says how: Change the topology)"
            }
            QueueError::File { .. } => "; correct the path in broker.url, or its rights",
            // These say it themselves.
            QueueError::Unroutable { .. } | QueueError::Owned { .. } | QueueError::InUse { .. } => "",
        };
        Self::Failed(format!("{}{todo}", error.to_string().trim_end_matches('.')))
    }
}

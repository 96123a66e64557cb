//! What is wrong with a config, said so that it can be put right: where, which key, what to write.
//!
//! One issue is one line. No issue repeats a value: a value may be a secret in the wrong place.

use std::fmt;

use super::path::KeyPath;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing starts with this.
    Error,
    /// It works, but probably not as meant.
    Warning,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the config file, counted from 1; 0 for the file as a whole.
    File {
        /// The file, as it was named.
        file: String,
        /// Which line.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A `--set` on the command line.
    Flag,
    /// Nowhere: there is no file, and nothing was overridden.
    Defaults,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line: 0 } => f.write_str(file),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag => f.write_str("--set"),
            Self::Defaults => f.write_str("built-in defaults"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// Which key; empty for the document as a whole.
    pub path: KeyPath,
    /// What, and what to write instead.
    pub problem: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.path.is_root() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

/// All that is wrong, in the order of its places. An error whenever it is returned as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues(pub Vec<Issue>);

impl Issues {
    /// Whether anything keeps otpd from starting.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|issue| issue.severity == Severity::Error)
    }

    /// The issues of this severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Issue> {
        self.0.iter().filter(move |issue| issue.severity == severity)
    }

    pub(super) fn sorted(mut self) -> Self {
        self.0.sort_by(|a, b| a.place.cmp(&b.place));
        self.0.dedup();
        self
    }
}

/// The errors, a line each.
impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.of(Severity::Error).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{issue}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

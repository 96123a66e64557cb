//! What the checks of all sections share: noting what is wrong, and not twice.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::issue::{Issue, Place, Severity};
use super::layers::Origins;
use super::path::KeyPath;
use super::value::Time;

/// The checks' common state.
pub(super) struct Check {
    pub(super) origins: Origins,
    /// Keys that could not be read and were complained about.
    pub(super) removed: Vec<KeyPath>,
    pub(super) issues: Vec<Issue>,
}

impl Check {
    pub(super) fn error(&mut self, path: &KeyPath, problem: impl Into<String>) {
        self.issue(Severity::Error, path, problem.into());
    }

    pub(super) fn warning(&mut self, path: &KeyPath, problem: impl Into<String>) {
        self.issue(Severity::Warning, path, problem.into());
    }

    fn issue(&mut self, severity: Severity, path: &KeyPath, problem: String) {
        let place = self.origins.place(path);
        self.issues.push(Issue { severity, place, path: path.clone(), problem });
    }

    /// Where `path` was written.
    pub(super) fn place(&self, path: &KeyPath) -> Place {
        self.origins.place(path)
    }

    /// Whether `path`, or something around it, was unreadable: its absence is no second error.
    pub(super) fn was_removed(&self, path: &KeyPath) -> bool {
        self.removed.iter().any(|removed| path.is_within(removed))
    }

    /// Whether something was unreadable in or around `path`: what it says is not all that was meant.
    pub(super) fn is_incomplete(&self, path: &KeyPath) -> bool {
        self.was_removed(path) || self.removed.iter().any(|removed| removed.is_within(path))
    }

    /// Holds a time against its range; gives it back.
    pub(super) fn time(
        &mut self,
        path: &KeyPath,
        time: Time,
        range: RangeInclusive<Duration>,
        example: &str,
    ) -> Duration {
        if !range.contains(&time.0) {
            let (least, most) = (Time(*range.start()), Time(*range.end()));
            let key = path.last();
            self.error(path, format!("must be {least} to {most}; write for example {key} = \"{example}\""));
        }
        time.0
    }
}

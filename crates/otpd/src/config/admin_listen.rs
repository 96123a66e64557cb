//! Where the admin port is, read from a config that may be wrong elsewhere.
//!
//! A running worker keeps its config when the file is edited badly, and stays healthy; whoever asks for its
//! health must find it all the same. So only what keeps `admin.listen` itself from being read is an error.

use std::net::SocketAddr;

use super::issue::{Issue, Issues, Severity};
use super::{Sources, layers, read};

impl Sources {
    /// `admin.listen`, as a worker with these sources has it.
    ///
    /// # Errors
    /// Where the file cannot be read or is no TOML, or where the key itself is wrong.
    pub fn admin_listen(&self) -> Result<SocketAddr, Issues> {
        let mut layers = layers::Layers::default();
        if let Some((name, text)) = self.text()? {
            layers.file(&name, &text);
        }
        layers.variables(&self.environment);
        for set in &self.sets {
            layers.set(set);
        }
        let (document, _) = read::read(&mut layers);
        let concerns = |issue: &Issue| issue.path.keys().first().is_none_or(|section| section == "admin");
        let mut issues = layers.issues;
        issues.retain(|issue| issue.severity == Severity::Error && concerns(issue));
        if issues.is_empty() { Ok(document.admin.listen.0) } else { Err(Issues(issues).sorted()) }
    }
}

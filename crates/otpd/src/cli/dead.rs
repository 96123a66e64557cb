//! The arguments of `otpd dead`.

use std::time::Duration;

use clap::{Args, Subcommand};
use otpd_core::{JobId, ProviderName, Reason};

use super::{Json, job, provider, time};

/// `otpd dead ...`
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// Lists dead letters, oldest first. Never shows a code.
    List {
        /// Which ones.
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: usize,
        /// The form of the output.
        #[command(flatten)]
        json: Json,
    },
    /// Shows one job's dead letters in full, but for the code.
    Show {
        /// The job's id.
        #[arg(value_name = "JOB", value_parser = job)]
        job: JobId,
        /// The form of the output.
        #[command(flatten)]
        json: Json,
    },
    /// Publishes dead letters to their routes again. Refuses codes that are no longer valid.
    Replay {
        /// Which ones.
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many [default: all].
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
        /// Says what would be done, and does nothing.
        #[arg(long)]
        dry_run: bool,
        /// The form of the output.
        #[command(flatten)]
        json: Json,
    },
    /// Removes dead letters for good.
    Purge {
        /// Which ones.
        #[command(flatten)]
        filter: FilterArgs,
        /// Says what would be done, and does nothing.
        #[arg(long, required_unless_present = "yes")]
        dry_run: bool,
        /// Does it.
        #[arg(long, conflicts_with = "dry_run")]
        yes: bool,
        /// The form of the output.
        #[command(flatten)]
        json: Json,
    },
}

/// Which dead letters; without any of these, all.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only this reason, such as template_missing.
    #[arg(long, value_parser = reason)]
    pub reason: Option<Reason>,
    /// Only this provider.
    #[arg(long, value_name = "NAME", value_parser = provider)]
    pub provider: Option<ProviderName>,
    /// Only those that died at least so long ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub older_than: Option<Duration>,
    /// Only those that died at most so long ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub younger_than: Option<Duration>,
    /// Only this job.
    #[arg(long, value_name = "ID", value_parser = job)]
    pub job: Option<JobId>,
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::parse(text).ok_or_else(|| {
        let all: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("there is no such reason; there are {}", all.join(", "))
    })
}

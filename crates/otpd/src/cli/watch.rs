//! The arguments of the commands that only look: `explain` and `top`.

use std::time::Duration;

use clap::Args;
use otpd_core::JobId;

use super::{Json, job, time};

/// Of `otpd explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The job's id.
    #[arg(value_name = "JOB", value_parser = job)]
    pub job: JobId,
    /// How far back to look; the events stream keeps a day.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time)]
    pub since: Duration,
    /// The form of the output.
    #[command(flatten)]
    pub json: Json,
}

/// Of `otpd top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// How often it looks, 100 ms and more.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = often)]
    pub every: Duration,
    /// Prints one table and ends.
    #[arg(long)]
    pub once: bool,
    /// The form of the output: one object a line.
    #[command(flatten)]
    pub json: Json,
}

fn often(text: &str) -> Result<Duration, String> {
    let every = time(text)?;
    if every < Duration::from_millis(100) { Err("must be 100ms or more".to_owned()) } else { Ok(every) }
}

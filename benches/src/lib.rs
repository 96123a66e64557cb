//! What the benchmarks share: jobs to work on.

use otpd_core::{SendJob, UnixMs};

/// A fixed moment.
pub const NOW: UnixMs = UnixMs(1_800_000_000_000);

/// The body of job number `i`, as a producer would write it.
#[must_use]
pub fn body(i: usize) -> String {
    format!(
        r#"{{"id":"0193b2c4-7f00-7000-8000-{i:012x}","to":"+62811{i:08}","code":"482910","purpose":"login","created_at":"2027-01-15T08:00:00.000Z","metadata":{{"user":"u-{i}"}}}}"#
    )
}

/// Job number `i`, parsed.
///
/// # Panics
/// Never: [`body`] writes valid jobs.
#[must_use]
#[allow(clippy::expect_used, reason = "a benchmark that cannot make its input has nothing to measure")]
pub fn job(i: usize) -> SendJob {
    SendJob::parse(body(i).as_bytes(), NOW).expect("a valid job")
}

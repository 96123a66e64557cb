//! `otpd explain JOB`: what happened to one job, from its first attempt to the verified code, and why.
//!
//! All of it is read from the events stream, so it can be asked anywhere and shows neither code nor number.

use std::process::ExitCode;
use std::time::Duration;

use otpd_core::{Class, DeliveryStatus, Fact, FactKind, JobId, Progress};
use serde_json::{Value, json};

use crate::cli::ExplainArgs;
use crate::config::Config;
use crate::failure::Failure;
use crate::{open, output};

/// Runs the command.
///
/// # Errors
/// Where the queue is away, or nothing is known of the job.
pub async fn run(args: ExplainArgs, config: &Config) -> Result<ExitCode, Failure> {
    let queue = open::queue(config, open::source())?;
    let facts = queue.story(&args.job, args.since).await;
    queue.close().await;
    let facts = facts?;
    let (Some(first), Some(last)) = (facts.first(), facts.last()) else {
        return Err(Failure::Failed(nothing_known(&args.job, args.since)));
    };
    let mut progress = Progress::default();
    for fact in &facts {
        progress.fold(fact);
    }
    if args.json.json {
        output::json(&as_json(&args.job, &progress, &facts))?;
        return Ok(ExitCode::SUCCESS);
    }
    let told = |find: fn(&Fact) -> Option<String>| output::or_dash(facts.iter().rev().find_map(find));
    output::line(&format!(
        "{}  {}  route {}  to {}  {:.3} s from the first step to the last",
        args.job,
        progress.state().as_str(),
        told(|fact| fact.route.as_ref().map(ToString::to_string)),
        told(|fact| fact.to.as_deref().map(str::to_owned)),
        last.at.since(first.at).as_secs_f64(),
    ))?;
    output::table(["at", "after", "step", "provider", "attempt", "why"], rows(&facts))?;
    Ok(ExitCode::SUCCESS)
}

fn nothing_known(job: &JobId, since: Duration) -> String {
    format!(
        "nothing happened to {job} in the last {}: it may still wait for a worker, be older than the events stream \
         keeps, or have another id; --since looks further back, `otpd dead show {job}` among the dead letters",
        humantime::format_duration(since)
    )
}

fn rows(facts: &[Fact]) -> Vec<[String; 6]> {
    let mut before = None;
    let mut life = None;
    let mut rows = Vec::with_capacity(facts.len());
    for fact in facts {
        if life.replace(fact.life).is_some_and(|life| life != fact.life) {
            before = None;
        }
        let after = before.replace(fact.at).map(|before| fact.at.since(before));
        rows.push([
            fact.at.to_string(),
            after.map_or_else(|| "-".to_owned(), |after| format!("+{:.3} s", after.as_secs_f64())),
            step(fact.kind).to_owned(),
            fact.provider.to_string(),
            output::or_dash((fact.attempt > 0).then_some(fact.attempt)),
            why(fact),
        ]);
    }
    rows
}

/// A step in words that tell a job's end from its message's.
const fn step(kind: FactKind) -> &'static str {
    match kind {
        FactKind::Accepted => "accepted",
        FactKind::Retrying => "retrying",
        FactKind::FailedOver => "failed over",
        FactKind::Superseded => "superseded",
        FactKind::Expired => "expired",
        FactKind::Duplicate => "duplicate",
        FactKind::Dead => "dead",
        FactKind::Sending => "sending",
        FactKind::Paused => "provider paused",
        FactKind::Resumed => "provider resumed",
        FactKind::Delivery(status) => match status {
            DeliveryStatus::Sent => "message sent",
            DeliveryStatus::Delivered => "message delivered",
            DeliveryStatus::Read => "message read",
            DeliveryStatus::Verified => "code verified by the provider",
            DeliveryStatus::Failed => "message failed",
            DeliveryStatus::Expired => "message expired",
            DeliveryStatus::Rejected => "message rejected",
            DeliveryStatus::Blocked => "recipient blocked",
        },
        FactKind::Verified => "code verified",
    }
}

/// Why it came to this step: the rule, and what the provider said.
fn why(fact: &Fact) -> String {
    let mut words = Vec::new();
    if let Some(timings) = fact.timings {
        words.push(format!(
            "waited {} ms in the queue and {} ms for a permit; answered in {} ms",
            timings.queued_ms, timings.permit_ms, timings.http_ms
        ));
    }
    if let Some(status) = fact.http_status {
        words.push(format!("HTTP {status}"));
    }
    if let Some(class) = fact.class.filter(|class| *class != Class::Accepted) {
        words.push(rule(class).to_owned());
    }
    if let Some(reason) = fact.reason {
        words.push(format!("{reason}: {}", reason.sentence().trim_end_matches('.')));
    }
    if let Some(due) = fact.next_attempt_at {
        words.push(format!("next attempt in {:.1} s", due.since(fact.at).as_secs_f64()));
    }
    if let Some(next) = &fact.next_provider {
        words.push(format!("goes to {next}"));
    }
    if let Some(id) = &fact.message_id {
        words.push(format!("message {}", id.as_str()));
    }
    if words.is_empty() { "-".to_owned() } else { words.join("; ") }
}

/// What a worker does about an answer of this class.
const fn rule(class: Class) -> &'static str {
    match class {
        Class::Accepted => "accepted",
        Class::RateLimited => "rate limited: waits and keeps the attempt",
        Class::Transient => "transient: retried with exponential backoff",
        Class::Ambiguous => "ambiguous: may have been sent, so it is sent once more at most",
        Class::Permanent => "permanent: another provider where the reason allows it",
        Class::Account => "account: every message would be refused, so the lane probes",
    }
}

fn as_json(job: &JobId, progress: &Progress, facts: &[Fact]) -> Value {
    let events: Vec<Value> = facts
        .iter()
        .map(|fact| {
            let event = otpd_core::fact_json::encode(fact, "otpd/explain");
            json!({
                "event": serde_json::from_slice::<Value>(&event).unwrap_or(Value::Null),
                "step": step(fact.kind),
                "why": why(fact),
            })
        })
        .collect();
    json!({ "id": job.as_str(), "state": progress.state().as_str(), "timeline": events })
}

#[cfg(test)]
mod tests {
    use super::*;
    use otpd_core::fact::Timings;
    use otpd_core::{ProviderName, Reason, UnixMs};

    fn fact(kind: FactKind, at: u64) -> Fact {
        let (job, provider) = (JobId::parse("a").unwrap(), ProviderName::parse("verihubs").unwrap());
        Fact::new(kind, job, provider, UnixMs(1_800_000_000_000 + at))
    }

    #[test]
    fn a_step_says_why_and_how_long_after() {
        let mut retrying = fact(FactKind::Retrying, 0);
        retrying.attempt = 1;
        retrying.class = Some(Class::Transient);
        retrying.reason = Some(Reason::InternalError);
        retrying.http_status = Some(500);
        retrying.next_attempt_at = Some(UnixMs(1_800_000_000_500));
        let mut accepted = fact(FactKind::Accepted, 620);
        accepted.timings = Some(Timings { queued_ms: 3, permit_ms: 4, http_ms: 80 });
        let expired = fact(FactKind::Delivery(DeliveryStatus::Expired), 2_000);
        let rows: Vec<String> =
            rows(&[retrying, accepted, expired]).iter().map(|row| row.join(" | ")).collect();
        assert_eq!(
            rows,
            [
                "2027-01-15T08:00:00.000Z | - | retrying | verihubs | 1 | HTTP 500; transient: retried with exponential \
                 backoff; internal_error: The provider had an internal error; next attempt in 0.5 s",
                "2027-01-15T08:00:00.620Z | +0.620 s | accepted | verihubs | - | waited 3 ms in the queue and 4 ms for a \
                 permit; answered in 80 ms",
                "2027-01-15T08:00:02.000Z | +1.380 s | message expired | verihubs | - | -",
            ]
        );
    }
}

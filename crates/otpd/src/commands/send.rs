//! `otpd send`: one job into the queue, and with `--wait` its story until it is over.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use otpd_core::job::MAX_BODY;
use otpd_core::{Fact, FactKind, JobId, SendJob, UnixMs};
use otpd_queue::Queue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::cli::SendArgs;
use crate::config::Config;
use crate::failure::Failure;
use crate::schema::job::{SendJobBody, TemplateBody};
use crate::{open, output, traces};

/// How far back to follow from: clocks of machines differ.
const BACK: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// Where the job is none, the route is unknown, the queue is away, or (with `--wait`) time is up.
pub async fn run(args: SendArgs, config: &Config) -> Result<ExitCode, Failure> {
    let now = open::now();
    let (job, body) = job(&args, now)?;
    if config.routes.get(args.route.as_str()).is_none() {
        output::note(&format!("warning: this config knows no route {}; the queue may", args.route));
    }
    let queue = open::queue(config, open::source())?;
    let done = send(&queue, &args, &job, body, now).await;
    queue.close().await;
    done
}

async fn send(
    queue: &Queue,
    args: &SendArgs,
    job: &JobId,
    body: Bytes,
    now: UnixMs,
) -> Result<ExitCode, Failure> {
    // Before the job is queued, or its first facts could be missed.
    let facts = if args.wait { Some(queue.follow(BACK).await?) } else { None };
    let span = traces::sending(&queue.names(), &args.route, job);
    let context = traces::context(&span);
    let queued = queue.enqueue(&args.route, job, body, &context).await;
    if queued.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    drop(span);
    queued?;
    if args.json.json {
        output::json_line(
            &json!({ "id": job.as_str(), "route": args.route.as_str(), "queued_at": now.to_string(), "traceparent": context.parent }),
        )?;
    } else {
        output::line(&format!("{job}  queued for {}", args.route))?;
    }
    match facts {
        None => Ok(ExitCode::SUCCESS),
        Some(facts) => {
            let story = Story { job, begun: now, args };
            match tokio::time::timeout(args.timeout, story.follow(facts)).await {
                Ok(end) => end,
                Err(_) => Err(Failure::Failed(format!(
                    "{job} was not over within {}; it stays queued: is a worker running? --timeout waits longer",
                    humantime::format_duration(args.timeout),
                ))),
            }
        }
    }
}

/// The job as the arguments describe it, checked as a worker would.
fn job(args: &SendArgs, now: UnixMs) -> Result<(JobId, Bytes), Failure> {
    let id = match &args.id {
        Some(id) => id.clone(),
        None => JobId::parse(&uuid::Uuid::now_v7().to_string()).map_err(|e| Failure::Usage(e.to_string()))?,
    };
    let template = TemplateBody {
        name: args.template.clone(),
        language: args.language.clone(),
        namespace: args.namespace.clone(),
    };
    let named = template.name.is_some() || template.language.is_some() || template.namespace.is_some();
    let body = SendJobBody {
        id: id.to_string(),
        to: args.to.clone(),
        code: code(&args.code)?,
        purpose: args.purpose.clone(),
        template: named.then_some(template),
        created_at: Some(now.to_string()),
        expires_at: args.ttl.map(|ttl| now.plus(ttl).to_string()),
        metadata: (!args.metadata.is_empty()).then(|| args.metadata.iter().cloned().collect()),
    };
    let body =
        serde_json::to_vec(&body).map_err(|_| Failure::Usage("the job cannot be written as JSON".into()))?;
    SendJob::parse(&body, now).map_err(|malformed| Failure::Usage(in_flags(&malformed.detail)))?;
    Ok((id, body.into()))
}

/// What is wrong with a field of the job, in the words of the flag that it comes from.
fn in_flags(detail: &str) -> String {
    let flags = [
        ("`template.name`", "--template"),
        ("`template.language`", "--language"),
        ("`template.namespace`", "--namespace"),
        ("`expires_at`", "--ttl"),
        ("`to`", "--to"),
        ("`code`", "--code"),
        ("`purpose`", "--purpose"),
        ("`metadata`", "--metadata"),
    ];
    flags.into_iter().fold(detail.to_owned(), |text, (field, flag)| text.replace(field, flag))
}

fn code(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        output::note(
            "warning: a code on the command line is visible in process lists; `--code -` reads it from standard input",
        );
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    let most = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    std::io::stdin()
        .take(most)
        .read_to_string(&mut text)
        .map_err(|e| Failure::Usage(format!("the code cannot be read from standard input: {e}")))?;
    Ok(text.trim().to_owned())
}

/// One job's story as it is told.
struct Story<'a> {
    job: &'a JobId,
    begun: UnixMs,
    args: &'a SendArgs,
}

impl Story<'_> {
    async fn follow(&self, mut facts: mpsc::Receiver<Fact>) -> Result<ExitCode, Failure> {
        while let Some(fact) = facts.recv().await {
            // The id may have been used before: what is older than this job is not about it.
            if fact.job != *self.job || fact.at.plus(BACK) < self.begun || fact.kind == FactKind::Sending {
                continue;
            }
            self.tell(&fact)?;
            match fact.kind {
                FactKind::Accepted | FactKind::Superseded | FactKind::Duplicate => {
                    return Ok(ExitCode::SUCCESS);
                }
                FactKind::Dead | FactKind::Expired => return Ok(ExitCode::from(1)),
                FactKind::Retrying
                | FactKind::FailedOver
                | FactKind::Sending
                | FactKind::Paused
                | FactKind::Resumed
                | FactKind::Delivery(_)
                | FactKind::Verified => {}
            }
        }
        Err(Failure::Failed("the queue stopped telling what happens; the job stays queued".into()))
    }

    fn tell(&self, fact: &Fact) -> Result<(), Failure> {
        if self.args.json.json {
            output::json_line(&as_json(fact))?;
        } else {
            output::line(&as_text(fact, self.begun))?;
        }
        Ok(())
    }
}

fn as_text(fact: &Fact, begun: UnixMs) -> String {
    let after = fact.at.since(begun).as_secs_f64();
    let mut line = format!("{after:>+9.3} s  {:<11} {}", fact.kind.as_str(), fact.provider);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line.push_str(&format!("  {name} {value}"));
        }
    };
    add("attempt", (fact.attempt > 0).then(|| fact.attempt.to_string()));
    add("to", fact.to.as_deref().map(str::to_owned));
    add("reason", fact.reason.map(|reason| reason.to_string()));
    add("http", fact.http_status.map(|status| status.to_string()));
    add(
        "next attempt in",
        fact.next_attempt_at.map(|at| format!("{:.1} s", at.since(fact.at).as_secs_f64())),
    );
    add("next provider", fact.next_provider.as_ref().map(ToString::to_string));
    add("message", fact.message_id.as_ref().map(|id| id.as_str().to_owned()));
    if let Some(t) = fact.timings {
        line.push_str(&format!(
            "  (queued {} ms, permit {} ms, http {} ms)",
            t.queued_ms, t.permit_ms, t.http_ms
        ));
    }
    line
}

fn as_json(fact: &Fact) -> Value {
    let event = otpd_core::fact_json::encode(fact, "otpd/send");
    serde_json::from_slice(&event).unwrap_or(Value::Null)
}

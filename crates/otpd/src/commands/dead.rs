//! `otpd dead list|show|replay|purge`. No way of it shows a code: what is printed of a job's body is
//! picked field by field.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use otpd_core::route::DEFAULT_TTL;
use otpd_core::{Class, ProviderName, Reason, RouteName, RouteTable, SendJob, UnixMs};
use otpd_queue::{DeadFilter, DeadLetter, Queue};
use serde_json::{Value, json};

use crate::cli::{DeadCommand, FilterArgs, Json};
use crate::config::Config;
use crate::failure::Failure;
use crate::open;
use crate::output::{self, or_dash};

/// More letters than a queue can hold.
const ALL: usize = usize::MAX;

/// Runs the command.
///
/// # Errors
/// Where the queue is away, refuses, or cannot be read.
pub async fn run(command: DeadCommand, config: &Config) -> Result<ExitCode, Failure> {
    let queue = open::queue(config, open::source())?;
    let now = open::now();
    let done = match command {
        DeadCommand::List { filter, limit, json } => list(&queue, &wanted(filter), limit, json, now).await,
        DeadCommand::Show { job, json } => {
            show(&queue, &DeadFilter { job: Some(job), ..DeadFilter::default() }, json, now).await
        }
        DeadCommand::Replay { filter, limit, dry_run, json } => {
            let replay = Replay { routes: &config.routes, now, limit: limit.unwrap_or(ALL) };
            replay.run(&queue, &wanted(filter), dry_run, json).await
        }
        DeadCommand::Purge { filter, dry_run, yes: _, json } => {
            purge(&queue, &wanted(filter), dry_run, json, now).await
        }
    };
    queue.close().await;
    done
}

fn wanted(args: FilterArgs) -> DeadFilter {
    let FilterArgs { reason, provider, older_than, younger_than, job } = args;
    DeadFilter { job, reason, provider, older_than, younger_than }
}

async fn list(
    queue: &Queue,
    filter: &DeadFilter,
    limit: usize,
    json: Json,
    now: UnixMs,
) -> Result<ExitCode, Failure> {
    let letters = queue.dead_letters(filter, now, limit).await?;
    if json.json {
        output::json(&letters.iter().map(as_json).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if letters.is_empty() {
        output::note("otpd: no dead letters match");
        return Ok(ExitCode::SUCCESS);
    }
    let columns = ["age", "job", "reason", "provider", "route", "http", "attempts", "detail"];
    output::table(
        columns,
        letters.iter().map(|letter| {
            [
                or_dash(letter.died_at.map(|at| age(now.since(at)))),
                letter.job.to_string(),
                or_dash(letter.reason),
                or_dash(letter.provider.as_ref()),
                or_dash(letter.route.as_ref()),
                or_dash(letter.http_status),
                letter.attempts.to_string(),
                or_dash(letter.detail.as_deref()),
            ]
        }),
    )?;
    if letters.len() == limit {
        output::note(&format!("otpd: the first {limit}; --limit shows more"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(queue: &Queue, filter: &DeadFilter, json: Json, now: UnixMs) -> Result<ExitCode, Failure> {
    let letters = queue.dead_letters(filter, now, ALL).await?;
    if letters.is_empty() {
        return Err(Failure::Failed(
            "this job has no dead letter; `otpd dead list` shows which there are".into(),
        ));
    }
    if json.json {
        output::json(&letters.iter().map(in_full).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    for letter in &letters {
        let Value::Object(fields) = in_full(letter) else { continue };
        let rows = fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            [name, value]
        });
        output::table(["field", "value"], rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn purge(
    queue: &Queue,
    filter: &DeadFilter,
    dry_run: bool,
    json: Json,
    now: UnixMs,
) -> Result<ExitCode, Failure> {
    let count = if dry_run {
        queue.dead_letters(filter, now, ALL).await?.len()
    } else {
        queue.purge_dead(filter, now).await?
    };
    if json.json {
        output::json(&json!({ "dry_run": dry_run, "purged": count }))?;
    } else {
        let verb = if dry_run { "would purge" } else { "purged" };
        output::line(&format!("{verb} {count} dead letters"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What may be replayed.
struct Replay<'a> {
    routes: &'a RouteTable,
    now: UnixMs,
    limit: usize,
}

/// What is to be done with a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Replay,
    /// Its code is of no use any more.
    Expired,
    /// Its body is no job, or has no code (`dead.keep_code = false`): it would die again at once.
    NoJob,
    /// Enough were replayed.
    OverLimit,
}

#[derive(Default)]
struct Tally {
    replayed: AtomicUsize,
    expired: AtomicUsize,
    no_job: AtomicUsize,
}

impl Replay<'_> {
    async fn run(
        &self,
        queue: &Queue,
        filter: &DeadFilter,
        dry_run: bool,
        json: Json,
    ) -> Result<ExitCode, Failure> {
        let tally = Tally::default();
        let wanted = |letter: &DeadLetter| self.judge(letter, &tally) == Verdict::Replay;
        let letters: Vec<DeadLetter> = if dry_run {
            queue.dead_letters(filter, self.now, ALL).await?.into_iter().filter(wanted).collect()
        } else {
            queue.replay_dead(filter, self.now, &wanted).await?
        };
        let (expired, no_job) = (tally.expired.into_inner(), tally.no_job.into_inner());
        let again = letters.iter().filter(|letter| may_have_been_sent(letter)).count();
        if json.json {
            let jobs: Vec<&str> = letters.iter().map(|letter| letter.job.as_str()).collect();
            output::json(&json!({
                "dry_run": dry_run,
                "replayed": jobs,
                "possible_duplicates": again,
                "refused": { "expired": expired, "no_job": no_job },
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        let verb = if dry_run { "would replay" } else { "replayed" };
        output::line(&format!("{verb} {} dead letters", letters.len()))?;
        if again > 0 {
            output::line(&format!(
                "{again} of them may have been sent already (nobody could tell): those people may get the same code again"
            ))?;
        }
        if expired > 0 {
            output::line(&format!(
                "refused {expired}: the code has expired, counted from when the job was first taken"
            ))?;
        }
        if no_job > 0 {
            output::line(&format!("refused {no_job}: no code was kept, or the body is no job"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn judge(&self, letter: &DeadLetter, tally: &Tally) -> Verdict {
        let counted = |counter: &AtomicUsize, verdict: Verdict| {
            counter.fetch_add(1, Ordering::Relaxed);
            verdict
        };
        // Of unknown age is as good as expired, unless the body says when the code was made.
        let taken_at = letter.taken_at.unwrap_or_default();
        let Ok(job) = SendJob::parse(&letter.body, taken_at) else {
            return counted(&tally.no_job, Verdict::NoJob);
        };
        if job.expires_at(self.ttl(letter)) <= self.now {
            return counted(&tally.expired, Verdict::Expired);
        }
        if tally.replayed.load(Ordering::Relaxed) >= self.limit {
            return Verdict::OverLimit;
        }
        counted(&tally.replayed, Verdict::Replay)
    }

    fn ttl(&self, letter: &DeadLetter) -> Duration {
        let route = letter.route.as_ref().and_then(|route| self.routes.get(route.as_str()));
        route.map_or(DEFAULT_TTL, |route| route.ttl)
    }
}

/// True if the provider's last answer, or the want of one, leaves open whether the message was sent. Letters of
/// before are judged by their reason alone.
fn may_have_been_sent(letter: &DeadLetter) -> bool {
    let is_error = letter.http_status.is_some_and(|status| status >= 500);
    let is_unclear = letter.reason == Some(Reason::AmbiguousParked) || letter.class == Some(Class::Ambiguous);
    is_unclear || (is_error && letter.class == Some(Class::Transient))
}

fn as_json(letter: &DeadLetter) -> Value {
    json!({
        "job": letter.job.as_str(),
        "reason": letter.reason.map(Reason::as_str),
        "class": letter.class.map(Class::as_str),
        "provider": letter.provider.as_ref().map(ProviderName::as_str),
        "route": letter.route.as_ref().map(RouteName::as_str),
        "http_status": letter.http_status,
        "attempts": letter.attempts,
        "detail": letter.detail.as_deref(),
        "died_at": letter.died_at.map(|at| at.to_string()),
        "taken_at": letter.taken_at.map(|at| at.to_string()),
        "life": letter.life.number(),
        "may_have_been_sent": may_have_been_sent(letter),
    })
}

/// With what may be shown of the job.
fn in_full(letter: &DeadLetter) -> Value {
    let mut value = as_json(letter);
    let taken_at = letter.taken_at.unwrap_or_default();
    let (Ok(job), Some(fields)) = (SendJob::parse(&letter.body, taken_at), value.as_object_mut()) else {
        return value;
    };
    fields.insert("to".into(), job.to.to_string().into());
    fields.insert("purpose".into(), job.purpose.as_str().into());
    fields.insert("created_at".into(), job.created_at.to_string().into());
    fields.insert("expires_at".into(), job.named_expiry.map(|at| at.to_string()).into());
    fields.insert("template".into(), job.template.name.as_deref().into());
    fields.insert("language".into(), job.template.language.as_deref().into());
    let metadata = job.metadata.and_then(|metadata| serde_json::to_value(metadata).ok());
    fields.insert("metadata".into(), metadata.into());
    value
}

/// To the second: how long ago is all that a list needs.
fn age(age: Duration) -> String {
    humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use otpd_core::{JobId, Life, Route};

    use super::*;

    const NOW: UnixMs = UnixMs(1_795_167_000_000);

    fn letter(body: &str, taken: Option<u64>) -> DeadLetter {
        DeadLetter {
            job: JobId::parse("j").unwrap(),
            reason: None,
            class: None,
            provider: ProviderName::parse("p").ok(),
            route: RouteName::parse("login").ok(),
            http_status: None,
            attempts: 1,
            detail: None,
            died_at: Some(NOW),
            taken_at: taken.map(|ago| NOW.minus(Duration::from_secs(ago))),
            life: Life::default(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn replays_only_codes_that_are_of_use() {
        let provider = ProviderName::parse("p").unwrap();
        let login = Route {
            name: RouteName::parse("login").unwrap(),
            ttl: Duration::from_secs(60),
            ..Route::of_provider(&provider)
        };
        let routes = RouteTable::new([provider], [login]);
        let body = |more: &str| format!(r#"{{"id":"j","to":"+628123456890","code":"482910"{more}}}"#);
        let at = |ago: i64| UnixMs(NOW.0.wrapping_add_signed(-ago * 1000)).to_string();
        let created = |ago: i64| body(&format!(r#","created_at":"{}""#, at(ago)));
        let expires = |ago: i64| body(&format!(r#","created_at":"{}","expires_at":"{}""#, at(900), at(ago)));
        for (body, taken, is) in [
            (created(59), Some(10), Verdict::Replay),
            (created(60), Some(10), Verdict::Expired),
            (expires(-1), Some(800), Verdict::Replay),
            (expires(0), Some(10), Verdict::Expired),
            (body(""), Some(59), Verdict::Replay),
            (body(""), Some(61), Verdict::Expired),
            (body(""), None, Verdict::Expired),
            (r#"{"id":"j","to":"+628123456890"}"#.to_owned(), Some(1), Verdict::NoJob),
            ("not a job".to_owned(), Some(1), Verdict::NoJob),
        ] {
            let replay = Replay { routes: &routes, now: NOW, limit: 1 };
            assert_eq!(replay.judge(&letter(&body, taken), &Tally::default()), is, "{body} {taken:?}");
        }
    }

    #[test]
    fn says_who_may_get_a_code_twice() {
        let base = || letter(r#"{"id":"j","to":"+628123456890","code":"482910"}"#, Some(1));
        for (reason, class, http_status, is) in [
            (Reason::AmbiguousParked, Some(Class::Ambiguous), None, true),
            (Reason::AmbiguousParked, None, None, true),
            (Reason::AttemptsExhausted, Some(Class::Ambiguous), Some(200), true),
            (Reason::AttemptsExhausted, Some(Class::Transient), Some(500), true),
            (Reason::AttemptsExhausted, Some(Class::Transient), None, false),
            (Reason::InvalidRecipient, Some(Class::Permanent), Some(400), false),
            (Reason::WaitedTooLong, None, None, false),
        ] {
            let letter = DeadLetter { reason: Some(reason), class, http_status, ..base() };
            assert_eq!(may_have_been_sent(&letter), is, "{reason} {class:?} {http_status:?}");
        }
    }

    #[test]
    fn a_limit_ends_it_but_counts_on() {
        let routes = RouteTable::default();
        let replay = Replay { routes: &routes, now: NOW, limit: 1 };
        let tally = Tally::default();
        let fresh = letter(r#"{"id":"j","to":"+628123456890","code":"482910"}"#, Some(1));
        assert_eq!(replay.judge(&fresh, &tally), Verdict::Replay);
        assert_eq!(replay.judge(&fresh, &tally), Verdict::OverLimit);
        assert_eq!(replay.judge(&letter("", Some(1)), &tally), Verdict::NoJob);
        assert_eq!((tally.replayed.into_inner(), tally.no_job.into_inner()), (1, 1));
    }

    #[test]
    fn never_shows_the_code_or_the_number() {
        let letter =
            letter(r#"{"id":"j","to":"+628123456890","code":"482910","metadata":{"a":"b"}}"#, Some(1));
        let shown = in_full(&letter).to_string();
        assert!(!shown.contains("482910") && !shown.contains("8123456890"), "{shown}");
        assert!(shown.contains("+62*******890"), "{shown}");
    }
}

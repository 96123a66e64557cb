//! `otpd load`: puts a measured load on otpd and says what became of every job.
//!
//! The way of a run: [`args`] (texts) → [`plan`] (valid) → [`target`] (what the load is put on) → [`generate`]
//! (publishes, on its own thread, at times decided in advance) and [`track`] (reads the events, keeps the
//! ledger, the histograms and the time series) → [`report`] (data) → [`table`], JSON and [`html`].
//!
//! Open loop: a job's time never depends on another job's answer, and latency counts from that time. A system
//! that stalls is therefore seen to stall, by every job that would have come meanwhile.

mod args;
mod generate;
mod host;
mod html;
mod objective;
mod parts;
mod plan;
mod progress;
mod provider;
mod rate;
mod report;
mod series;
mod spread;
mod table;
mod tally;
mod target;
mod track;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use otpd_core::{Fact, ProviderName, Rate};
use otpd_queue::Queue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::args::{LoadArgs, ProfileName};
use self::generate::{Generator, Origin};
pub use self::objective::Objective;
use self::plan::Plan;
use self::provider::AtProvider;
use self::report::{Ledger, Report, Run, Scope, SeriesData};
use self::series::Series;
use self::target::Target;
use self::track::{Ids, Tracker};
use self::watch::{Watch, Watched};
use crate::config::{Config, Sources};
use crate::failure::Failure;
use crate::output;

/// Runs the command.
///
/// # Errors
/// Wrong use, a wrong config, a queue that is away, a report that cannot be written. Objectives that are
/// missed and a ledger that does not close are no errors but exit code 1.
pub async fn run(args: LoadArgs, sources: &Sources) -> Result<ExitCode, Failure> {
    let plan = Arc::new(Plan::new(&args)?);
    let mut target = Target::open(&args, &plan, sources).await?;
    let report = measure(&plan, &mut target).await;
    target.close().await;
    let report = report?;
    for file in &plan.reports {
        write(file, &report)?;
    }
    if args.json.json {
        output::json(&report)?;
        let verdict = if report.passed { "passed" } else { "failed" };
        output::note(&format!("{verdict}; {}", report.ledger.sentence()));
    } else {
        table::show(&report)?;
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn measure(plan: &Arc<Plan>, target: &mut Target) -> Result<Report, Failure> {
    let lost = |why| Failure::Failed(format!("the mock's counts cannot be read: {why}"));
    if let Some(gauge) = &mut target.gauge {
        gauge.begin().await.map_err(lost)?;
    }
    // Before the first job is published, or its first facts could be missed.
    let facts = follow(&target.queue).await?;
    let run = uuid::Uuid::new_v4().simple().to_string();
    let ids = Ids::new(run.get(..10).unwrap_or(&run));
    let (said, hears) = mpsc::unbounded_channel();
    let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
    let (origin, cpu) = (Origin::now(), host::cpu_seconds());
    let series = Series::new(plan.duration, plan.drain);
    let tracker = Tracker::new(ids.clone(), origin.wall_us, plan.routes.len(), series);
    let generator = Generator {
        plan: plan.clone(),
        queue: target.queue.clone(),
        ids,
        origin,
        said,
        stop: stop.clone(),
        give_up: give_up.clone(),
    };
    generator.start().map_err(|e| Failure::Failed(format!("no thread for the generator: {e}")))?;
    let watch = Watch { tracker, origin, drain: plan.drain, duration: plan.duration, stop, give_up };
    let watched = watch.until_the_end(hears, facts).await;
    let took = origin.instant.elapsed();
    let cpu = host::cpu_seconds().zip(cpu).map(|(now, before)| host::cores_used(now - before, took));
    let at_provider = match &target.gauge {
        Some(gauge) => gauge.read().await.map_err(lost)?,
        None => Vec::new(),
    };
    let waiting = if watched.tracker.unsettled() > 0 {
        target.queue.depths().await.ok().map(|lanes| lanes.iter().map(|(_, depth)| depth).sum())
    } else {
        None
    };
    Ok(build(plan, target, &watched, &Machine { origin, took, cpu, waiting }, at_provider))
}

/// The facts from now on. Where they cannot be followed the topology may be missing, which sounds like a broker
/// that is away.
async fn follow(queue: &Queue) -> Result<mpsc::Receiver<Fact>, Failure> {
    let error = match queue.follow(Duration::ZERO).await {
        Ok(facts) => return Ok(facts),
        Err(error) => error,
    };
    match queue.check_topology().await {
        Ok(differences) if !differences.is_empty() => Err(Failure::Failed(format!(
            "{} of the exchanges and queues of this config are missing or different; run `otpd topology apply`, or start a worker",
            differences.len()
        ))),
        Ok(_) | Err(_) => Err(error.into()),
    }
}

/// What was measured around the run.
struct Machine {
    origin: Origin,
    took: Duration,
    cpu: Option<f64>,
    waiting: Option<u64>,
}

fn build(
    plan: &Plan,
    target: &Target,
    watched: &Watched,
    machine: &Machine,
    at_provider: Vec<AtProvider>,
) -> Report {
    let tracker = &watched.tracker;
    let published_for = tracker.finished.unwrap_or(machine.took);
    let ledger = Ledger::of(&tracker.all, machine.waiting);
    let too_many = target.gauge.as_ref().map(|_| at_provider.iter().map(|at| at.too_many).sum());
    let judged =
        report::judge(&plan.objectives, tracker, &plan.routes, published_for.as_secs_f64(), too_many);
    let mut failures = report::failures(&judged, &plan.objectives, &ledger, tracker, plan.drain);
    if watched.interrupted {
        failures.push("interrupted".to_owned());
    }
    let (ceilings, ceiling_per_s) = ceilings(&target.config, tracker);
    let named = plan.routes.iter().map(|share| share.name.as_str());
    Report {
        passed: failures.is_empty(),
        failures,
        notes: report::notes(tracker, watched.interrupted, watched.followed),
        run: Run {
            version: env!("CARGO_PKG_VERSION"),
            began: otpd_core::UnixMs(machine.origin.wall_us / 1000).to_string(),
            published_for_s: spread::round(published_for.as_secs_f64(), 3),
            took_s: spread::round(tracker.last_end.max(published_for).as_secs_f64(), 3),
            command: host::command_line(std::env::args()),
            profile: plan.profile.clone(),
            routes: plan.routes.iter().map(|share| (share.name.to_string(), share.weight)).collect(),
            ttl: plan.ttl.map(|ttl| humantime::format_duration(ttl).to_string()),
            seed: plan.seed,
            target: target.words.clone(),
            ceilings,
            ceiling_per_s,
            config: target.shown.clone(),
            cores: host::cores(),
            cores_used: machine.cpu,
            peak_memory_mib: host::peak_memory_mib(),
            self_contained: target.is_inside(),
        },
        ledger,
        objectives: judged,
        all: Scope::of("all", &tracker.all),
        routes: named.zip(&tracker.routes).map(|(name, tally)| Scope::of(name, tally)).collect(),
        providers: tracker.providers.iter().map(|(name, tally)| Scope::of(name.as_str(), tally)).collect(),
        at_provider,
        dead_reasons: tracker.dead_reasons.clone(),
        curves: report::curves(&tracker.all),
        series: SeriesData {
            bucket_s: tracker.series.width().as_secs_f64(),
            buckets: tracker.series.points(),
        },
    }
}

/// The ceilings of the providers that had jobs, in words and as their sum a second.
fn ceilings(config: &Config, tracker: &Tracker) -> (Vec<(String, String)>, Option<f64>) {
    let of = |name: &ProviderName| {
        config.providers.iter().find(|p| p.name == *name).map(|p| p.ceiling.clone()).unwrap_or_default()
    };
    let all: Vec<(&ProviderName, Vec<Rate>)> =
        tracker.providers.keys().map(|name| (name, of(name))).collect();
    let lowest = |rates: &[Rate]| rates.iter().map(|rate| rate.per_second()).reduce(f64::min);
    let sum = all.iter().map(|(_, rates)| lowest(rates)).sum::<Option<f64>>();
    let words = all.iter().filter(|(_, rates)| !rates.is_empty()).map(|(name, rates)| {
        let rates: Vec<String> = rates.iter().map(ToString::to_string).collect();
        (name.to_string(), rates.join(", "))
    });
    (words.collect(), sum.filter(|_| !all.is_empty()).map(|sum| spread::round(sum, 3)))
}

fn write(file: &plan::Target, report: &Report) -> Result<(), Failure> {
    let (path, text) = match file {
        plan::Target::Html(path) => (path, html::page(report)),
        plan::Target::Json(path) => {
            let text = serde_json::to_string_pretty(report)
                .map_err(|e| Failure::Failed(format!("the report is no JSON: {e}")))?;
            (path, text)
        }
    };
    std::fs::write(path, text)
        .map_err(|e| Failure::Failed(format!("--report {}: cannot be written to: {e}", path.display())))?;
    output::note(&format!("report: {}", path.display()));
    Ok(())
}

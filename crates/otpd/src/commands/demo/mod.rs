//! `otpd demo`: the main job with nothing installed. An embedded queue in a temporary folder, six mock
//! providers with true ceilings and faults, some hundred jobs; live progress, then a table, and exit 0
//! only if the ledger closes.
//!
//! Nothing here is a shortcut: the config is a file that is read like any other, the lanes are the
//! worker's, the requests go over HTTP, and the ledger is told only what was published and what the
//! events say.

mod progress;
mod report;
mod scene;

use std::sync::Arc;
use std::time::{Duration, Instant};

use otpd_core::{Fact, fact_json};
use otpd_queue::{Queue, TraceContext};
use otpd_sim::Ledger;
use otpd_worker::{Clock, Metrics, Worker};

use crate::cli::DemoArgs;
use crate::config::Environment;
use crate::failure::Failure;
use crate::{open, wiring};
use progress::Progress;
use report::Report;
use scene::{Published, Scene};

/// The longest the demo may take.
const LIMIT: Duration = Duration::from_secs(55);

/// Runs the demo.
///
/// # Errors
/// Where it cannot be set up, takes longer than a minute, or its ledger does not close.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let DemoArgs { jobs, seed, json } = args;
    let begun = Instant::now();
    let scene = Scene::build(seed).await?;
    let clock = Clock::system();
    let queue = open::queue(&scene.config, "otpd/demo".to_owned())?;
    queue.apply_topology().await?;
    let lanes = wiring::lanes(&scene.config, &Environment::default(), clock)?;
    let metrics = Arc::new(Metrics::new());
    let mut facts = queue.follow(Duration::ZERO).await?;
    let shared = wiring::shared(&scene.config, clock);
    let worker = Worker::start(&queue, lanes, &shared, clock, &metrics, Duration::from_secs(10))
        .map_err(|e| Failure::Failed(e.to_string()))?;

    let mut ledger = Ledger::new();
    let published = scene::jobs(seed, jobs, clock.wall());
    publish(&queue, &published, &mut ledger).await?;
    let seen = tokio::time::timeout(LIMIT, watch(&mut facts, &published, &mut ledger, begun)).await;
    let stats = scene.mock.stats();
    worker.drain().await;
    queue.close().await;
    scene.mock.stop().await;
    let summary = match (seen.is_ok(), ledger.close()) {
        (true, Ok(summary)) => summary,
        (false, Ok(_)) => return Err(Failure::Failed(format!("the demo did not end within {LIMIT:?}"))),
        (_, Err(unbalanced)) => {
            return Err(Failure::Failed(format!("the ledger does not close: {unbalanced}")));
        }
    };
    let seen = seen.unwrap_or_default();
    Report::new(&scene.config, &seen, &stats, &summary, begun.elapsed()).show(json.json)?;
    Ok(())
}

async fn publish(queue: &Queue, jobs: &[Published], ledger: &mut Ledger) -> Result<(), Failure> {
    let trace = TraceContext::default();
    for job in jobs {
        ledger.published(job.id.as_str());
    }
    // Like so many producers: each waits for its own confirm, all at once.
    let sends = jobs.iter().map(|job| queue.enqueue(&job.route, &job.id, job.body.clone(), &trace));
    futures::future::try_join_all(sends).await?;
    Ok(())
}

/// Reads facts until every job has come to its end.
async fn watch(
    facts: &mut tokio::sync::mpsc::Receiver<Fact>,
    jobs: &[Published],
    ledger: &mut Ledger,
    begun: Instant,
) -> Vec<Fact> {
    let progress = Progress::start(jobs, begun);
    let mut seen = Vec::new();
    let mut ended = 0;
    while ended < jobs.len() {
        let Some(fact) = facts.recv().await else { break };
        let told = ledger.event(&fact_json::encode(&fact, "demo"));
        debug_assert!(told.is_ok(), "a fact of ours is an event");
        ended += usize::from(fact.is_end());
        progress.saw(&fact);
        seen.push(fact);
    }
    progress.end();
    seen
}

//! The producers' examples in Python and Node are run as they stand, against a real broker, and what
//! they put into the lane is read back: an example that does not work is worse than none.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use lapin::options::BasicGetOptions;
use otpd_core::{JobId, SendJob, UnixMs};
use otpd_tests::hung::HungNode;
use otpd_tests::rabbit::{PATIENCE, channel, depth, now, plan, provider, rabbit};
use otpd_tests::{Broker, eventually};
use tokio::process::Command;

/// The examples wait 5 s for the broker; the rest is for starting an interpreter on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
const TO: &str = "+628123456890";

/// One producer, and how to see that what it needs is installed.
struct Example {
    program: &'static str,
    script: &'static str,
    probe: [&'static str; 2],
    needs: &'static str,
}

/// Debian's own Python: it is the one that finds Debian's pika.
const PYTHON: Example = Example {
    program: "/usr/bin/python3",
    script: "producer.py",
    probe: ["-c", "import pika"],
    needs: "python3-pika (apt-get install python3-pika)",
};
const NODE: Example = Example {
    program: "node",
    script: "producer.mjs",
    probe: ["--eval", "import('amqplib')"],
    needs: "Node.js 18 or newer and amqplib (apt-get install nodejs npm; npm ci in deploy/examples)",
};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/examples")
}

impl Example {
    async fn execute(&self, arguments: &[&str], url: Option<&str>) -> Option<Output> {
        let mut command = Command::new(self.program);
        command.args(arguments).current_dir(examples()).env_remove("AMQP_URL").kill_on_drop(true);
        if let Some(url) = url {
            command.env("AMQP_URL", url);
        }
        tokio::time::timeout(PATIENCE, command.output()).await.expect("ends within a minute").ok()
    }

    /// Runs the example. Fails where what it needs is not there: it is never skipped.
    async fn run(&self, url: Option<&str>, arguments: &[&str]) -> Ran {
        let installed = self.execute(&self.probe, None).await.is_some_and(|o| o.status.success());
        assert!(
            installed,
            "{} needs {}; run the tests with `cargo xtask test`, which installs it",
            self.script, self.needs
        );
        let output = self.execute(&[&[self.script], arguments].concat(), url).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn sends_a_job_and_notices_an_unknown_route(example: Example) {
    // A virtual host of its own: the examples name otpd's default exchange.
    let url = Broker::shared().vhost();
    let mut plan = plan("otp.", &["verihubs"]);
    // One by one, as below, can be taken only from a lane without a single owner.
    plan.lanes[0].owners = otpd_queue::Owners::Many;
    rabbit(&url, &plan).apply_topology().await.unwrap();
    let lane = plan.lane_queue(&provider("verihubs"));
    let admin = channel(&url).await;

    let before = now();
    let sent = example.run(Some(&url), &["verihubs", TO]).await;
    assert_eq!((sent.code, sent.err.as_str()), (Some(0), ""), "{sent:?}");
    let id = JobId::parse(&sent.out).expect("it prints the job's id and nothing else");

    let got = admin.basic_get(lane.clone().into(), BasicGetOptions { no_ack: true }).await.unwrap();
    let got = got.expect("a confirmed job is in the lane").delivery;
    assert_eq!((got.exchange.as_str(), got.routing_key.as_str()), ("otp.jobs", "verihubs"));
    let properties = &got.properties;
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "otp.send.v1");
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), id.as_str());
    assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
    let seconds = before.0 / 1000..=now().0 / 1000;
    assert!(seconds.contains(&properties.timestamp().unwrap()), "{properties:?}");

    // A job for the worker, whose own `created_at` counts and not when it was taken.
    let job = SendJob::parse(&got.data, UnixMs(0)).unwrap();
    assert_eq!((job.id, job.to.expose_e164().as_str()), (id, TO));
    assert_eq!((job.code.expose().len(), job.purpose.as_str()), (6, "login"));
    assert!((before..=now()).contains(&job.created_at), "{:?}", job.created_at);
    assert_eq!(job.named_expiry.unwrap().since(job.created_at).as_secs(), 300);

    let lost = example.run(Some(&url), &["nowhere", TO]).await;
    assert_eq!((lost.code, lost.out.as_str()), (Some(1), ""), "{lost:?}");
    assert_eq!(lost.err, "not queued: there is no route `nowhere`");
    assert_eq!(depth(&admin, &lane).await, 0);
}

/// Without a broker, and used wrongly.
async fn fails_clearly(example: Example) {
    // Nobody listens on port 1.
    let url = "amqp://guest:s3cret@127.0.0.1:1/%2f".to_owned();
    let away = example.run(Some(&url), &["verihubs", TO]).await;
    assert_eq!((away.code, away.out.as_str()), (Some(1), ""), "{away:?}");
    assert!(away.err.starts_with("not queued: the broker is away ("), "{away:?}");
    assert!(!away.err.contains("s3cret") && away.err.lines().count() == 1, "{away:?}");

    for (url, arguments) in [(Some(url.as_str()), &["verihubs"][..]), (None, &["verihubs", TO][..])] {
        let wrong = example.run(url, arguments).await;
        assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(wrong.err.starts_with("usage: AMQP_URL="), "{wrong:?}");
    }
}

/// A node that takes the connection and says nothing: nothing can be queued.
async fn gives_up_on_a_node_that_says_nothing(example: Example) {
    let node = HungNode::start();
    let (ran, took) = timed(example.run(Some(&node.amqp()), &["verihubs", TO])).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(
        ran.err.starts_with("not queued: the broker is away (") && ran.err.lines().count() == 1,
        "{ran:?}"
    );
    assert!(took < LIMIT, "{took:?}");
}

/// A queue that takes jobs and confirms none, while everything else of the broker answers. Nobody can know:
/// here the job is on the queue after all.
async fn gives_up_when_no_confirm_comes(example: Example) {
    let broker = Broker::shared();
    let url = broker.vhost();
    let plan = plan("otp.", &["verihubs"]);
    rabbit(&url, &plan).apply_topology().await.unwrap();
    let lane = plan.lane_queue(&provider("verihubs"));
    let vhost = url.rsplit('/').next().unwrap();
    broker.node().freeze_queue(vhost, &lane);
    let (ran, took) = timed(example.run(Some(&url), &["verihubs", TO])).await;
    broker.node().thaw_queue(vhost, &lane);
    assert_eq!((ran.code, ran.out.as_str()), (Some(3), ""), "{ran:?}");
    let id = ran.err.strip_prefix("job ").and_then(|e| e.split(' ').next()).unwrap();
    JobId::parse(id).expect("it names the job");
    assert!(ran.err.ends_with("publish it again with the same id"), "{ran:?}");
    assert!(ran.err.contains("may or may not be queued (no answer within 5 s)"), "{ran:?}");
    assert!(took < LIMIT, "{took:?}");
    let admin = channel(&url).await;
    eventually("the queue to go on", PATIENCE, || async { (depth(&admin, &lane).await == 1).then_some(()) })
        .await;
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let done = work.await;
    (done, began.elapsed())
}

#[tokio::test]
async fn the_python_example_sends_a_job_and_notices_an_unknown_route() {
    sends_a_job_and_notices_an_unknown_route(PYTHON).await;
}

#[tokio::test]
async fn the_node_example_sends_a_job_and_notices_an_unknown_route() {
    sends_a_job_and_notices_an_unknown_route(NODE).await;
}

#[tokio::test]
async fn the_python_example_fails_clearly() {
    fails_clearly(PYTHON).await;
}

#[tokio::test]
async fn the_node_example_fails_clearly() {
    fails_clearly(NODE).await;
}

#[tokio::test]
async fn the_python_example_gives_up_on_a_node_that_says_nothing() {
    gives_up_on_a_node_that_says_nothing(PYTHON).await;
}

#[tokio::test]
async fn the_node_example_gives_up_on_a_node_that_says_nothing() {
    gives_up_on_a_node_that_says_nothing(NODE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_example_gives_up_when_no_confirm_comes() {
    gives_up_when_no_confirm_comes(PYTHON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_example_gives_up_when_no_confirm_comes() {
    gives_up_when_no_confirm_comes(NODE).await;
}

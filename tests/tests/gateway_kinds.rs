//! Mock providers of all six kinds call a gateway back, each in its own form: early, shuffled, twice.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::BTreeMap;

use otpd_core::{Fact, FactKind, JobId, JobState, Progress};
use otpd_sim::mock::{CallTo, Callbacks, Kind};
use otpd_sim::{Control, Jobs, MockConfig};
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::{Broker, GatewayProcess, Scene, eventually};

const CONFIG: &str = r#"
[limits]
recipient = "off"
[providers.verihubs]
kind = "verihubs"
app_id = "app"
api_key = "key"
[providers.msgai]
kind = "msgai"
api_key = "sk_live_key"
template = "otp"
signature_secret = "s3cret"
[providers.onemsg]
kind = "onemsg"
channel_id = "channel"
token = "token"
namespace = "ns"
template = "otp"
[providers.meta_cloud]
kind = "meta_cloud"
phone_number_id = "1"
token = "token"
template = "otp"
app_secret = "s3cret"
[providers.meta_onprem]
kind = "meta_onprem"
username = "user"
password = "pass"
namespace = "ns"
template = "otp"
[providers.betatel]
kind = "betatel"
api_key = "key"
account_id = "account"
"#;
const KINDS: [(&str, Kind); 6] = [
    ("verihubs", Kind::Verihubs),
    ("msgai", Kind::Msgai),
    ("onemsg", Kind::OneMsg),
    ("meta_cloud", Kind::MetaCloud),
    ("meta_onprem", Kind::MetaOnprem),
    ("betatel", Kind::Betatel),
];
const JOBS: u64 = 60;

fn progress(facts: &[Fact]) -> BTreeMap<JobId, Progress> {
    let mut told: BTreeMap<JobId, Progress> = BTreeMap::new();
    for fact in facts {
        told.entry(fact.job.clone()).or_default().fold(fact);
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_of_every_kind_find_their_jobs() {
    let broker = Broker::shared();
    let common = "base_url = \"{mock}\"\nmax_in_flight = 16\ncallback_token = \"token\"\nkind = ";
    let config = CONFIG.replace("kind = ", common);
    let names = KINDS.map(|(name, _)| [name]);
    let lanes: Vec<_> = names.iter().map(|name| (name[0], false, &name[..])).collect();
    let mut scene = Scene::set(broker, &broker.url(), &config, &lanes, MockConfig::default()).await;
    let gateway = GatewayProcess::start("gateway", scene.config(), &[]);
    let worker = scene.worker();
    gateway.process.ready().await;
    worker.ready().await;
    for (name, kind) in KINDS {
        let callbacks = Callbacks {
            url: Some(CallTo::Address(gateway.address(&format!("/callbacks/{name}/token")).parse().unwrap())),
            delay: Some("20ms..200ms".parse().unwrap()),
            shares: Some("failed=10%,read=30%,early=5%,shuffled=20%,twice=20%".parse().unwrap()),
            secret: Some("s3cret".into()),
        };
        let control = Control { callbacks: Some(callbacks), ceilings: Some(Vec::new()), ..Control::of(kind) };
        scene.mock.control(&control);
        let seed = 1 + KINDS.iter().position(|(other, _)| *other == name).unwrap() as u64;
        scene.publish(name, Jobs::new(seed, JOBS)).await;
    }
    scene.until_all_ended().await;
    let all = usize::try_from(JOBS).unwrap() * KINDS.len();
    let ended = |progress: &&Progress| progress.state().is_end();
    scene
        .until("a last word about every message", |s| progress(&s.seen).values().filter(ended).count() == all)
        .await;
    let told = progress(&scene.seen);
    let failed = told.values().filter(|progress| progress.state() == JobState::Failed).count();
    assert!((1..all / 3).contains(&failed), "{failed} of {all} failed");
    // No callback was wrong in any way, and what came twice is on the stream once.
    for (name, _) in KINDS {
        for outcome in ["forged", "malformed", "away", "refused", "forgotten"] {
            let sample = format!("otpd_callbacks_total{{provider=\"{name}\",outcome=\"{outcome}\"}}");
            assert_eq!(gateway.process.sample(&sample).await, 0.0, "{sample}");
        }
    }
    let known = eventually("callbacks that came twice", PATIENCE, || async {
        let mut known = 0.0;
        for (name, _) in KINDS {
            let sample = format!("otpd_callbacks_total{{provider=\"{name}\",outcome=\"known\"}}");
            known += gateway.process.sample(&sample).await;
        }
        (known > 0.0).then_some(known)
    })
    .await;
    let mut seen: BTreeMap<(JobId, FactKind), usize> = BTreeMap::new();
    for fact in scene.seen.iter().filter(|fact| matches!(fact.kind, FactKind::Delivery(_))) {
        *seen.entry((fact.job.clone(), fact.kind)).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    println!("{all} jobs, {} facts of deliveries, {failed} failed, {known} callbacks repeated", seen.len());
    assert!(worker.stop().await.success());
}

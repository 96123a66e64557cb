//! Traces as a collector gets them: one trace from the producer to each provider call, through a retry and
//! a failover; and none where nobody asked.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use otpd_sim::mock::Kind;
use otpd_sim::{Control, FaultPlan, MockConfig};
use otpd_tests::otlp::value;
use otpd_tests::rabbit::PATIENCE;
use otpd_tests::{Broker, Collector, Scene, eventually};

const CONFIG: &str = r#"
[retry]
initial = "50ms"
max = "100ms"
[providers.verihubs]
kind = "verihubs"
base_url = "{mock}"
ceiling = "50/s"
app_id = "app"
api_key = "key"
[providers.msgai]
kind = "msgai"
base_url = "{mock}"
template = "login_code"
api_key = "sk_live_0123456789abcdef"
[routes.login]
providers = ["verihubs", "msgai"]
"#;
const SHOWN: [&str; 6] = [
    "messaging.operation.type",
    "otpd.attempt",
    "http.response.status_code",
    "otpd.class",
    "otpd.outcome",
    "error.type",
];

async fn scene(faults: &str) -> Scene {
    let faults = FaultPlan::parse(Kind::Verihubs, faults).unwrap();
    let mock = MockConfig { setup: vec![Control::faults(faults)], ..MockConfig::default() };
    let broker = Broker::shared();
    let lanes = [("verihubs", true, &["verihubs", "login"][..]), ("msgai", false, &["msgai"][..])];
    Scene::set(broker, &broker.url(), CONFIG, &lanes, mock).await
}

fn send(scene: &Scene, collector: &Collector, to: &str, more: &[(&str, String)]) -> String {
    let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())];
    variables.extend_from_slice(more);
    let arguments = ["send", "--route", "login", "--to", to, "--code", "482910", "--wait", "--json"];
    let (code, out, errors) = scene.otpd_with(&arguments, &variables);
    assert_eq!(code, 0, "{out}{errors}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_producer_through_a_retry_to_the_provider() {
    let mut scene = scene("500=first:1").await;
    let collector = Collector::start().await;
    let worker = scene.worker_with(&[("OTPD__TELEMETRY__OTLP_ENDPOINT", format!("\"{}\"", collector.url()))]);
    worker.ready().await;
    let out = send(&scene, &collector, "+999200000001", &[]);
    assert!(worker.stop().await.success());

    let tree = collector.tree(&SHOWN);
    println!("{tree}");
    let prefix = scene.plan.prefix.clone();
    let expected = format!(
        "send {prefix}jobs:login [messaging.operation.type=send]\n\
         \x20 process {prefix}jobs:login:{prefix}lane.verihubs [messaging.operation.type=process otpd.outcome=accepted]\n\
         \x20   * retry scheduled\n\
         \x20   attempt [otpd.attempt=1 otpd.class=transient error.type=internal_error]\n\
         \x20     POST /v2/whatsapp/otp/send [http.response.status_code=500 error.type=500]\n\
         \x20   attempt [otpd.attempt=2 otpd.class=accepted]\n\
         \x20     POST /v2/whatsapp/otp/send [http.response.status_code=201]\n"
    );
    assert_eq!(tree, expected);
    let spans = collector.spans();
    let traces: BTreeSet<&[u8]> = spans.iter().map(|s| s.trace_id.as_slice()).collect();
    assert_eq!(traces.len(), 1, "one trace");
    let hex: String = spans[0].trace_id.iter().map(|b| format!("{b:02x}")).collect();
    assert!(out.contains(&hex), "the producer was told its trace: {out}");
    let posts = spans.iter().filter(|s| s.kind == SpanKind::Client as i32);
    for post in posts {
        assert_eq!(value(&post.attributes, "server.address").as_deref(), Some("127.0.0.1"));
        assert_eq!(value(&post.attributes, "http.request.method").as_deref(), Some("POST"));
    }
    scene.until("its facts", |s| s.ended() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_stays_in_the_callers_trace_and_its_decision_is_followed() {
    let scene = scene("500=to:*9,500=to:*8").await;
    let collector = Collector::start().await;
    let worker = scene.worker_with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTPD__RETRY__MAX_ATTEMPTS", "3".into()),
    ]);
    worker.ready().await;
    // The flags' last bit is the caller's decision: 01 records, 00 does not.
    let not_recorded = "00-11111111111111111111111111111111-2222222222222222-00";
    let recorded = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    send(&scene, &collector, "+999200000008", &[("TRACEPARENT", not_recorded.into())]);
    send(&scene, &collector, "+999200000009", &[("TRACEPARENT", recorded.into())]);
    assert!(worker.stop().await.success());
    println!("{}", collector.tree(&SHOWN));

    let spans = collector.spans();
    assert!(spans.iter().all(|s| s.trace_id[..2] == [0x4b, 0xf9]), "only the recorded trace");
    let processed: Vec<(String, Option<String>)> = spans
        .iter()
        .filter(|s| s.name.starts_with("process"))
        .map(|s| (value(&s.attributes, "otpd.provider").unwrap(), value(&s.attributes, "otpd.outcome")))
        .collect();
    let ended = |provider: &str, how: &str| processed.contains(&(provider.into(), Some(how.into())));
    assert!(ended("verihubs", "failed_over") && ended("msgai", "accepted"), "{processed:?}");
    let producer = spans.iter().find(|s| s.name.starts_with("send")).unwrap();
    let lanes = spans.iter().filter(|s| s.name.starts_with("process"));
    assert!(lanes.clone().all(|s| s.parent_span_id == producer.span_id));
    assert_eq!(lanes.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nothing_up() {
    let mut scene = scene("").await;
    let nobody = format!("http://127.0.0.1:{}", otpd_tests::claim_port());
    let worker = scene.worker_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", nobody)]);
    worker.ready().await;
    scene.publish("login", otpd_sim::Jobs::new(7, 20)).await;
    scene.until_all_ended().await;
    assert_eq!(scene.close().accepted, 20);
    assert!(worker.stop().await.success());
    let log = eventually("the log to tell", PATIENCE, || async { Some(scene.log()) }).await;
    assert!(log.contains("OTLP export"), "it is said: {log}");
}

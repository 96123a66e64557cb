//! `otpd dead`, over a queue in which a lane buried some jobs.

use std::time::Duration;

use otpd_core::{Class, JobId, ProviderName, Reason, RouteName, UnixMs};
use otpd_queue::{Burial, LaneSpec, Settlement, Then, TraceContext};
use serde_json::Value;

use crate::Place;
use crate::lane::{laptop_queue, next_job};

fn now() -> UnixMs {
    otpd::open::now()
}

/// A queue with three dead letters: one whose code is still valid, one whose code is not, and one
/// that has no code.
async fn buried() -> Place {
    let (place, queue) = laptop_queue().await;
    let provider = ProviderName::parse("verihubs").unwrap();
    let mut lane = queue.open_lane(LaneSpec { provider: provider.clone(), prefetch: 10 }).unwrap();
    let route = RouteName::parse("login").unwrap();
    let minutes = |ago: u64| now().minus(Duration::from_secs(ago * 60));
    for (id, reason, created, code) in [
        ("fresh", Reason::TemplateMissing, minutes(1), r#","code":"482910""#),
        ("stale", Reason::InvalidRecipient, minutes(11), r#","code":"482910""#),
        ("empty", Reason::TemplateMissing, minutes(1), ""),
        ("parked", Reason::AmbiguousParked, minutes(1), r#","code":"482910""#),
    ] {
        let body = format!(r#"{{"id":"{id}","to":"+628123456890","created_at":"{created}"{code}}}"#);
        let job = JobId::parse(id).unwrap();
        queue.enqueue(&route, &job, body.clone().into(), &TraceContext::default()).await.unwrap();
        let tag = next_job(&mut lane).await;
        let burial = Burial {
            job,
            body: body.into(),
            reason,
            class: Some(Class::Permanent),
            provider: provider.clone(),
            route: Some(route.clone()),
            http_status: Some(400),
            attempts: 1,
            detail: Some("refused".into()),
            died_at: now(),
            taken_at: created,
            life: otpd_core::Life::default(),
            trace: TraceContext::default(),
        };
        lane.settler.settle(Settlement { fact: None, then: Then::Bury(tag, Box::new(burial)) });
    }
    lane.settler.flush().await;
    lane.stop.close().await;
    queue.close().await;
    place
}

fn listed(place: &Place, args: &[&str]) -> Vec<String> {
    let ran = place.run(&[&["dead", "list", "--json"], args].concat());
    let json: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e} {ran:?}"));
    json.as_array().unwrap().iter().map(|letter| letter["job"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn listed_by_filter_and_shown_without_codes() {
    let place = buried().await;
    assert_eq!(listed(&place, &[]), ["fresh", "stale", "empty", "parked"]);
    assert_eq!(listed(&place, &["--reason", "template_missing"]), ["fresh", "empty"]);
    assert_eq!(listed(&place, &["--job", "stale"]), ["stale"]);
    assert_eq!(listed(&place, &["--provider", "msgai"]), [""; 0]);
    assert_eq!(listed(&place, &["--older-than", "1h"]), [""; 0]);
    assert_eq!(listed(&place, &["--younger-than", "1h", "--limit", "1"]), ["fresh"]);

    let table = place.run(&["dead", "list"]);
    assert_eq!(table.code, 0);
    let heads: Vec<&str> = table.out.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["AGE", "JOB", "REASON", "PROVIDER", "ROUTE", "HTTP", "ATTEMPTS", "DETAIL"]);
    assert!(table.out.contains("template_missing   verihubs  login  400   1"), "{}", table.out);

    let shown = place.run(&["dead", "show", "fresh"]);
    assert!(shown.code == 0 && shown.out.contains("+62*******890"), "{shown:?}");
    for ran in [&table, &shown, &place.run(&["dead", "show", "fresh", "--json"])] {
        assert!(!ran.out.contains("482910") && !ran.out.contains("8123456890"), "{ran:?}");
    }
    let gone = place.run(&["dead", "show", "gone"]);
    assert_eq!(
        (gone.code, gone.err.as_str()),
        (1, "otpd: this job has no dead letter; `otpd dead list` shows which there are\n")
    );
    let unknown = place.run(&["dead", "list", "--reason", "boredom"]);
    assert!(unknown.code == 2 && unknown.err.contains("there is no such reason; there are"), "{unknown:?}");
}

#[tokio::test]
async fn replay_refuses_expired_codes_and_letters_without_one() {
    let place = buried().await;
    let refused = "refused 1: the code has expired, counted from when the job was first taken\nrefused 1: no code was kept, or the body is no job\n";
    let again = "1 of them may have been sent already (nobody could tell): those people may get the same code again\n";
    let dry = place.run(&["dead", "replay", "--dry-run"]);
    assert_eq!((dry.code, dry.out), (0, format!("would replay 2 dead letters\n{again}{refused}")));
    assert_eq!(listed(&place, &[]).len(), 4);
    let ran = place.run(&["dead", "replay"]);
    assert_eq!((ran.code, ran.out), (0, format!("replayed 2 dead letters\n{again}{refused}")));
    assert_eq!(listed(&place, &[]), ["stale", "empty"]);
    let json: Value = serde_json::from_str(&place.run(&["dead", "replay", "--json"]).out).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "dry_run": false,
            "replayed": [],
            "possible_duplicates": 0,
            "refused": { "expired": 1, "no_job": 1 },
        })
    );
}

#[tokio::test]
async fn purge_removes_what_is_meant() {
    let place = buried().await;
    let dry = place.run(&["dead", "purge", "--dry-run", "--reason", "template_missing"]);
    assert_eq!((dry.code, dry.out.as_str()), (0, "would purge 2 dead letters\n"));
    let ran = place.run(&["dead", "purge", "--yes", "--reason", "template_missing"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "purged 2 dead letters\n"));
    assert_eq!(listed(&place, &[]), ["stale", "parked"]);
}

//! `otpd send`.

use otpd_core::fact::Timings;
use otpd_core::{Class, Fact, FactKind, JobId, Phone, ProviderName, Reason};
use otpd_queue::{LaneSpec, Settlement, Then};
use serde_json::Value;

use crate::lane::{laptop_queue, next_job};
use crate::{LAPTOP, Place, Ran};

const TO: [&str; 2] = ["--to", "+628123456890"];

fn applied() -> Place {
    let place = Place::new(LAPTOP);
    assert_eq!(place.run(&["topology", "apply"]).code, 0);
    place
}

#[test]
fn queues_and_prints_the_id_but_not_the_code() {
    let place = applied();
    let args = ["send", "--route", "login", TO[0], TO[1], "--code", "482910", "--id", "a-1"];
    let ran = place.run(&args);
    assert_eq!((ran.code, ran.out.as_str()), (0, "a-1  queued for login\n"), "{ran:?}");
    assert!(ran.err.contains("visible in process lists") && !ran.err.contains("482910"), "{ran:?}");
    let ran =
        place.run_with(&["send", "--route", "verihubs", TO[0], TO[1], "--code", "-", "--json"], "482910\n");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((json["route"].as_str(), json["id"].as_str().unwrap().len()), (Some("verihubs"), 36));
}

#[test]
fn wrong_jobs_exit_with_2() {
    let place = applied();
    for (more, says) in [
        (["--to", "call me", "--code", "482910"], "otpd: --to must be E.164"),
        (["--to", TO[1], "--code", "48-29"], "otpd: --code must be 4 to 15"),
    ] {
        let args = [&["send", "--route", "login"][..], &more].concat();
        let ran = place.run(&args);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
        assert!(!ran.err.contains("48-29"), "{ran:?}");
    }
}

#[test]
fn an_unknown_route_fails() {
    let ran = applied().run_with(&["send", "--route", "gone", TO[0], TO[1], "--code", "-"], "482910");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("nothing is bound to the key `gone`"), "{ran:?}");
}

#[test]
fn waiting_ends_when_time_is_up() {
    let place = applied();
    let args = [
        "send",
        "--route",
        "login",
        TO[0],
        TO[1],
        "--code",
        "-",
        "--wait",
        "--timeout",
        "200ms",
        "--id",
        "a-2",
    ];
    let ran = place.run_with(&args, "482910");
    assert_eq!((ran.code, ran.out.as_str()), (1, "a-2  queued for login\n"), "{ran:?}");
    assert!(ran.err.contains("a-2 was not over within 200ms; it stays queued"), "{ran:?}");
}

/// Runs `send --wait` while a lane tells these facts about the job.
async fn waited(kinds: &'static [FactKind], more: &'static [&'static str]) -> Ran {
    let (place, queue) = laptop_queue().await;
    let provider = ProviderName::parse("verihubs").unwrap();
    let mut lane = queue.open_lane(LaneSpec { provider: provider.clone(), prefetch: 1 }).unwrap();
    let sending = tokio::task::spawn_blocking(move || {
        let args = ["send", "--route", "login", TO[0], TO[1], "--code", "-", "--wait", "--id", "a-3"];
        place.run_with(&[&args[..], more].concat(), "482910")
    });
    let tag = next_job(&mut lane).await;
    for (i, kind) in kinds.iter().enumerate() {
        let mut fact = Fact::new(*kind, JobId::parse("a-3").unwrap(), provider.clone(), otpd::open::now());
        fact = fact.about(Phone::parse(TO[1]).unwrap());
        fact.attempt = u32::try_from(i).unwrap() + 1;
        if *kind == FactKind::Accepted {
            fact.timings = Some(Timings { queued_ms: 1, permit_ms: 2, http_ms: 3 });
        } else {
            (fact.class, fact.reason, fact.http_status) =
                (Some(Class::Transient), Some(Reason::InternalError), Some(500));
        }
        let then = if kind.is_final() { Then::Acknowledge(tag) } else { Then::Keep };
        lane.settler.settle(Settlement { fact: Some(fact), then });
    }
    lane.settler.flush().await;
    let ran = sending.await.unwrap();
    lane.stop.close().await;
    queue.close().await;
    ran
}

#[tokio::test]
async fn waiting_tells_the_story_to_its_end() {
    let ran = waited(&[FactKind::Retrying, FactKind::Accepted], &[]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "a-3  queued for login"), "{ran:?}");
    assert!(
        lines[1].contains(
            " s  retrying    verihubs  attempt 1  to +62*******890  reason internal_error  http 500"
        ),
        "{ran:?}"
    );
    assert!(
        lines[2].contains(
            " s  accepted    verihubs  attempt 2  to +62*******890  (queued 1 ms, permit 2 ms, http 3 ms)"
        ),
        "{ran:?}"
    );
    for (kinds, code) in [(&[FactKind::Dead][..], 1), (&[FactKind::Expired], 1), (&[FactKind::Superseded], 0)]
    {
        assert_eq!(waited(kinds, &[]).await.code, code, "{kinds:?}");
    }
}

#[tokio::test]
async fn waiting_as_json_prints_an_event_a_line() {
    let ran = waited(&[FactKind::Dead], &["--json"]).await;
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((ran.code, lines.len()), (1, 2), "{ran:?}");
    assert_eq!((lines[0]["id"].as_str(), lines[1]["type"].as_str()), (Some("a-3"), Some("otp.job.dead")));
    assert!(!ran.out.contains("482910") && !ran.out.contains("8123456890"), "{ran:?}");
}

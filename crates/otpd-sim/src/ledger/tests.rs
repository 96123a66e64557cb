//! What balances, what does not, and that every published job is in exactly one place.

use otpd_core::{Fact, JobId, ProviderName, UnixMs, fact_json};
use proptest::prelude::*;

use super::*;

fn event(kind: FactKind, id: &str, attempt: u32) -> Vec<u8> {
    let (job, provider) = (JobId::parse(id).unwrap(), ProviderName::parse("verihubs").unwrap());
    fact_json::encode(&Fact { attempt, ..Fact::new(kind, job, provider, UnixMs(5)) }, "otpd/test")
}

fn ledger(published: &[&str], events: &[(FactKind, &str, u32)], queued: &[&str]) -> Ledger {
    let mut ledger = Ledger::new();
    // Events first: the order must not matter.
    for (kind, id, attempt) in events {
        ledger.event(&event(*kind, id, *attempt)).unwrap();
    }
    published.iter().for_each(|id| ledger.published(id));
    queued.iter().for_each(|id| ledger.queued(id));
    ledger
}

use FactKind::{Accepted, Dead, Duplicate, Expired, FailedOver, Retrying, Superseded};

#[test]
fn balances() {
    let ledger = ledger(
        &["a", "b", "c", "d", "e", "a"],
        &[
            (Retrying, "a", 1),
            (FailedOver, "a", 2),
            (Accepted, "a", 3),
            (Accepted, "a", 3),
            (Duplicate, "a", 0),
            (Dead, "b", 1),
            (Expired, "c", 0),
            (Superseded, "d", 0),
        ],
        &["e"],
    );
    let summary = ledger.close().unwrap();
    let one_each = Summary {
        published: 5,
        accepted: 1,
        dead: 1,
        expired: 1,
        superseded: 1,
        queued: 1,
        duplicates: 1,
        retries: 1,
        failed_over: 1,
        extra_sends: 0,
        repeated: 1,
    };
    assert_eq!(summary, one_each);
    assert_eq!(ledger.settled(), 4);
    assert_eq!(
        summary.to_string(),
        "5 published = 1 accepted + 1 dead + 1 expired + 1 superseded + 1 queued"
    );
}

#[test]
fn says_what_does_not_fit() {
    let ledger = ledger(
        &["lost", "retried", "twice", "both", "ok"],
        &[
            (Retrying, "retried", 1),
            (Accepted, "twice", 1),
            (Accepted, "twice", 2),
            (Dead, "both", 1),
            (Accepted, "ghost", 1),
            (Accepted, "ok", 1),
        ],
        &["both", "phantom"],
    );
    let found = ledger.close().unwrap_err();
    assert_eq!(found.missing, ["lost", "retried"]);
    assert_eq!(found.settled_twice, [("twice".to_owned(), vec![Accepted, Accepted])]);
    assert_eq!(found.settled_and_queued, ["both"]);
    assert_eq!(found.unknown, ["ghost", "phantom"]);
    assert_eq!(
        found.to_string(),
        "the ledger does not balance: 5 published = 1 accepted + 0 dead + 0 expired + 0 superseded + 0 queued; \
         2 missing: lost, retried; 1 settled twice: twice (accepted and accepted); \
         1 settled and still queued: both; 2 never published: ghost, phantom"
    );
}

#[test]
fn the_same_attempt_accepted_by_two_workers_is_twice() {
    let mut ledger = ledger(&["a"], &[(Accepted, "a", 1)], &[]);
    let other = String::from_utf8(event(Accepted, "a", 1)).unwrap().replace("otpd/test", "otpd/other");
    ledger.event(other.as_bytes()).unwrap();
    assert_eq!(ledger.close().unwrap_err().settled_twice.len(), 1);
}

#[test]
fn an_extra_send_is_no_second_end_and_there_is_one_at_most() {
    let extra = |kind, attempt| {
        let (job, provider) = (JobId::parse("a").unwrap(), ProviderName::parse("msgai").unwrap());
        let fact = Fact { attempt, extra: true, ..Fact::new(kind, job, provider, UnixMs(5)) };
        fact_json::encode(&fact, "otpd/test")
    };
    for kind in [Accepted, Dead, Expired, Superseded] {
        let mut once = ledger(&["a"], &[(Accepted, "a", 1)], &[]);
        once.event(&extra(kind, 2)).unwrap();
        let summary = once.close().unwrap();
        assert_eq!((summary.accepted, summary.dead, summary.extra_sends), (1, 0, 1), "{kind:?}");
        // Another one, and one without the first.
        once.event(&extra(Accepted, 3)).unwrap();
        assert_eq!(once.close().unwrap_err().settled_twice.len(), 1, "{kind:?}");
        let mut alone = ledger(&["a"], &[], &[]);
        alone.event(&extra(kind, 2)).unwrap();
        assert!(alone.close().is_err(), "{kind:?}");
    }
}

#[test]
fn reads_only_events_of_the_contract() {
    let mut ledger = Ledger::new();
    for other in [
        r#"{"type":"otp.delivery.read","subject":"a","data":{}}"#,
        r#"{"type":"otp.provider.paused","data":{}}"#,
    ] {
        assert_eq!(ledger.event(other.as_bytes()), Ok(()));
    }
    assert_eq!(ledger.close().unwrap(), Summary::default());
    for (bad, error) in [
        ("", InvalidEvent::Unreadable),
        ("{}", InvalidEvent::Unreadable),
        (r#"{"type":"otp.job.dead"}"#, InvalidEvent::Unreadable),
        (
            r#"{"type":"otp.job.vanished","subject":"a"}"#,
            InvalidEvent::UnknownType("otp.job.vanished".into()),
        ),
    ] {
        assert_eq!(ledger.event(bad.as_bytes()), Err(error));
    }
}

proptest! {
    #[test]
    fn every_published_job_is_in_exactly_one_place(
        jobs in proptest::collection::vec((0u8..4, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let mut ledger = Ledger::new();
        let finals = [Accepted, Dead, Expired, Superseded];
        let (mut fits, mut missing, mut both) = (0, 0, 0);
        for (i, (how, settled, queued)) in jobs.iter().enumerate() {
            let id = format!("job-{i}");
            ledger.published(&id);
            if *settled {
                ledger.event(&event(finals[usize::from(*how)], &id, 1)).unwrap();
            }
            if *queued {
                ledger.queued(&id);
            }
            match (settled, queued) {
                (false, false) => missing += 1,
                (true, true) => both += 1,
                (true, false) | (false, true) => fits += 1,
            }
        }
        let (summary, found) = match ledger.close() {
            Ok(summary) => (summary, Unbalanced::default()),
            Err(found) => (found.summary.clone(), *found),
        };
        prop_assert_eq!((found.missing.len(), found.settled_and_queued.len()), (missing, both));
        let Summary { published, accepted, dead, expired, superseded, queued, .. } = summary;
        prop_assert_eq!(published, jobs.len() as u64);
        prop_assert_eq!(accepted + dead + expired + superseded + queued, fits);
    }
}

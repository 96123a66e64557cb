//! The mock calls back: the form of every kind, what becomes of messages, and what goes wrong on the way.

use std::time::Duration;

use otpd_sim::mock::{CallTo, CallbackStats, Callbacks};
use otpd_sim::{Control, Kind, MockConfig};
use reqwest::Method;
use ring::hmac;
use serde_json::{Value, json};

use super::ceilings::valid;
use super::receiver::{Received, Receiver};
use super::{Ask, Bench, PATIENCE, betatel, meta_cloud, msgai, onemsg, verihubs};

/// The account of a kind's valid request.
const fn account(kind: Kind) -> &'static str {
    match kind {
        Kind::OneMsg => "CH12",
        Kind::MetaCloud => "106540352242922",
        Kind::MetaOnprem => "otpd",
        Kind::Verihubs => "app-1",
        Kind::Betatel => "acc-1",
        Kind::Msgai => "sk_live_***6789",
    }
}

/// A valid request; Verihubs' names no address of its own.
async fn ask(bench: &Bench, kind: Kind) -> Ask {
    if kind == Kind::Verihubs { verihubs::valid().cut("/callback_url") } else { valid(bench, kind).await }
}

/// The provider's id of the message.
async fn send(bench: &Bench, kind: Kind) -> String {
    let answer = bench.ask(ask(bench, kind).await).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    let json = answer.json();
    let id = ["/id", "/messages/0/id", "/session_id", "/uuid"].iter().find_map(|at| json.pointer(at));
    id.unwrap().as_str().unwrap().to_owned()
}

async fn bench(receiver: &Receiver, delay: &str, shares: &str) -> Bench {
    let controls = Kind::ALL.map(|kind| receiver.control(kind, delay, shares));
    Bench::start(controls.into_iter().fold(MockConfig::default(), MockConfig::with)).await
}

/// Waits until the callbacks of an account are as they should be, and gives them.
async fn until(bench: &Bench, kind: Kind, is: impl Fn(&CallbackStats) -> bool) -> CallbackStats {
    let settled = async {
        loop {
            let callbacks = bench.account(kind, account(kind)).callbacks;
            if is(&callbacks) {
                return callbacks;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let settled = tokio::time::timeout(PATIENCE, settled).await;
    settled.unwrap_or_else(|_| panic!("{kind}: {:?}", bench.account(kind, account(kind)).callbacks))
}

/// Every report of these requests as `(id, status)`, in the words of the kind.
fn reports(kind: Kind, received: &[Received]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |value: &Value| (text(&value["id"]), text(&value["status"]));
    let list = |value: &Value| value.as_array().unwrap().iter().map(of).collect::<Vec<_>>();
    let reports = received.iter().flat_map(|request| match kind {
        Kind::OneMsg => list(&request.json()["ack"]),
        Kind::MetaCloud => list(&request.json()["entry"][0]["changes"][0]["value"]["statuses"]),
        Kind::MetaOnprem => list(&request.json()["statuses"]),
        Kind::Verihubs => {
            let query = request.path.split_once("session_id=").unwrap().1;
            let (id, status) = query.split_once("&status=").unwrap();
            vec![(id.to_owned(), status.to_owned())]
        }
        Kind::Betatel => vec![(text(&request.json()["uuid"]), text(&request.json()["status"]))],
        Kind::Msgai => vec![(text(&request.json()["data"]["message_id"]), text(&request.json()["event"]))],
    });
    reports.collect()
}

/// A kind's words for sent, delivered, read and failed.
const fn words(kind: Kind) -> [&'static str; 4] {
    match kind {
        Kind::OneMsg => ["sent", "delivered", "viewed", "failed"],
        Kind::MetaCloud | Kind::MetaOnprem => ["sent", "delivered", "read", "failed"],
        Kind::Verihubs => ["1", "2", "3", "6"],
        Kind::Betatel => ["SENT", "DELIVERED", "READ", "FAILED"],
        Kind::Msgai => ["message.sent", "message.delivered", "message.read", "message.failed"],
    }
}

#[tokio::test]
async fn every_kind_tells_every_step() {
    for (shares, steps) in [
        ("", &[0, 1][..]),
        ("read=100%", &[0, 1, 2]),
        ("failed=100%", &[0, 3]),
        ("undelivered=100%", &[0]),
        ("silent=100%", &[]),
        ("twice=100%", &[0, 0, 1, 1]),
    ] {
        for kind in Kind::ALL {
            let receiver = Receiver::start().await;
            let bench = bench(&receiver, "0s", shares).await;
            let id = send(&bench, kind).await;
            let count = steps.len() as u64;
            let callbacks = until(&bench, kind, |c| c.reports == count && c.waiting == 0).await;
            assert_eq!((callbacks.taken, callbacks.dropped), (callbacks.sent, 0), "{kind} {shares}");
            let mut told = reports(kind, &receiver.received());
            told.sort_unstable();
            let mut expected: Vec<(String, String)> =
                steps.iter().map(|step| (id.clone(), words(kind)[*step].to_owned())).collect();
            expected.sort_unstable();
            assert_eq!(told, expected, "{kind} {shares}");
        }
    }
}

#[tokio::test]
async fn the_form_of_each() {
    let receiver = Receiver::start().await;
    let bench = bench(&receiver, "0s", "failed=100%").await;
    let mut came = 0;
    for kind in Kind::ALL {
        let id = send(&bench, kind).await;
        until(&bench, kind, |c| c.reports == 2 && c.waiting == 0).await;
        let received = receiver.received();
        let of_kind = &received[came..];
        came = received.len();
        let last = of_kind.iter().find(|request| {
            reports(kind, std::slice::from_ref(request)).iter().any(|(_, word)| *word == words(kind)[3])
        });
        let request = last.unwrap();
        let method = if kind == Kind::Verihubs { Method::GET } else { Method::POST };
        assert_eq!((&request.method, request.header("user-agent")), (&method, None), "{kind}");
        assert_eq!(request.path.split('?').next(), Some("/cb/t"), "{kind}");
        check_form(kind, &id, request);
    }
}

fn check_form(kind: Kind, id: &str, request: &Received) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
    let tag = hmac::sign(&key, &request.body);
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let failed = |list: &Value| list.as_array().unwrap().last().unwrap().clone();
    match kind {
        Kind::OneMsg => {
            let ack = json!({ "id": id, "chatId": "628123456890@c.us", "status": "failed" });
            assert_eq!(
                (failed(&request.json()["ack"]), &request.json()["instanceId"]),
                (ack, &json!("CH12"))
            );
        }
        Kind::MetaCloud => {
            let body = request.json();
            let value = &body["entry"][0]["changes"][0]["value"];
            let status = failed(&value["statuses"]);
            assert_eq!(
                (&body["object"], &body["entry"][0]["changes"][0]["field"]),
                (&json!("whatsapp_business_account"), &json!("messages"))
            );
            assert_eq!(value["metadata"]["phone_number_id"], "106540352242922");
            assert_eq!(
                (&status["errors"][0]["code"], &status["recipient_id"]),
                (&json!(131_026), &json!("628123456890"))
            );
            assert_eq!(status["biz_opaque_callback_data"], "job-1");
            assert!(status["timestamp"].as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000);
            assert_eq!(request.header("x-hub-signature-256"), Some(format!("sha256={hex}").as_str()));
        }
        Kind::MetaOnprem => {
            let status = failed(&request.json()["statuses"]);
            assert_eq!(
                (&status["errors"][0]["code"], &status["recipient_id"]),
                (&json!(1013), &json!("628123456890"))
            );
        }
        Kind::Verihubs => {
            assert_eq!(request.path, format!("/cb/t?session_id={id}&status=6"));
            assert!(request.body.is_empty());
        }
        Kind::Betatel => {
            let body = request.json();
            assert_eq!(
                (&body["to"], &body["text"]),
                (&json!("38761444555"), &json!("482910")),
                "as in a record"
            );
        }
        Kind::Msgai => {
            let body = request.json();
            assert_eq!(
                body["data"],
                json!({ "message_id": id, "channel": "whatsapp", "callbackData": "job-1" })
            );
            assert_eq!(request.header("x-webhook-event"), Some("message.failed"));
            assert_eq!(request.header("x-webhook-source"), Some("splashifypro"));
            assert_eq!(request.header("x-webhook-signature"), Some(hex.as_str()));
        }
    }
    let is_signed = request.headers.keys().any(|name| name.as_str().contains("signature"));
    assert_eq!(is_signed, matches!(kind, Kind::MetaCloud | Kind::Msgai), "{kind}");
}

#[tokio::test]
async fn a_request_names_its_own_address() {
    let receiver = Receiver::start().await;
    let bench = bench(&receiver, "0s", "").await;
    bench.ask(verihubs::valid().set("/callback_url", json!(receiver.url("/own/job-1")))).await;
    let received = receiver.wait_for(2).await;
    assert!(
        received.iter().all(|request| request.path.starts_with("/own/job-1?session_id=")),
        "{received:?}"
    );
    // One that cannot be called is not called.
    bench.ask(verihubs::valid()).await;
    let callbacks = until(&bench, Kind::Verihubs, |c| c.dropped > 0).await;
    assert_eq!((callbacks.sent, callbacks.dropped, callbacks.waiting), (2, 2, 0));
}

#[tokio::test]
async fn without_an_address_nobody_is_called() {
    let receiver = Receiver::start().await;
    let bench = Bench::start(MockConfig::default()).await;
    bench.ask(verihubs::valid().set("/callback_url", json!(receiver.url("/own")))).await;
    assert_eq!(bench.account(Kind::Verihubs, "app-1").callbacks, CallbackStats::default());
    // One that is taken away is not called any more.
    bench.mock.control(&receiver.control(Kind::Verihubs, "0s", ""));
    send(&bench, Kind::Verihubs).await;
    until(&bench, Kind::Verihubs, |c| c.taken == 2).await;
    let nowhere = Callbacks { url: Some(CallTo::Nowhere), ..Callbacks::default() };
    bench.mock.control(&Control { callbacks: Some(nowhere), ..Control::of(Kind::Verihubs) });
    send(&bench, Kind::Verihubs).await;
    assert_eq!(until(&bench, Kind::Verihubs, |c| c.waiting == 0).await.sent, 2);
}

#[tokio::test]
async fn the_first_may_come_before_the_answer() {
    let receiver = Receiver::start().await;
    let bench = bench(&receiver, "50s", "early=100%").await;
    for (count, kind) in Kind::ALL.into_iter().enumerate() {
        let id = send(&bench, kind).await;
        let received = receiver.received();
        assert_eq!(received.len(), count + 1, "{kind}: it came before the answer, and the others did not");
        assert_eq!(reports(kind, &received[count..]), [(id, words(kind)[0].to_owned())]);
    }
    // An answer does not wait for long.
    receiver.hold(true);
    send(&bench, Kind::Msgai).await;
    receiver.hold(false);
}

#[tokio::test]
async fn the_order_may_be_another() {
    for (shares, order) in [("", [0, 1]), ("shuffled=100%", [1, 0])] {
        let receiver = Receiver::start().await;
        let bench = bench(&receiver, "2s", shares).await;
        let id = send(&bench, Kind::Verihubs).await;
        let told = reports(Kind::Verihubs, &receiver.wait_for(2).await);
        assert_eq!(told, order.map(|step| (id.clone(), words(Kind::Verihubs)[step].to_owned())), "{shares}");
    }
}

#[tokio::test]
async fn what_is_not_taken_comes_again_where_that_is_documented() {
    for kind in Kind::ALL {
        let receiver = Receiver::start().await;
        let bench = bench(&receiver, "0s", "undelivered=100%").await;
        receiver.answer(503);
        send(&bench, kind).await;
        if matches!(kind, Kind::MetaCloud | Kind::MetaOnprem) {
            receiver.wait_for(2).await;
            receiver.answer(200);
            let callbacks = until(&bench, kind, |c| c.taken == 1 && c.waiting == 0).await;
            assert_eq!(callbacks.repeated, callbacks.sent - 1, "{kind}");
            assert_eq!(callbacks.refused, callbacks.sent - 1, "{kind}");
            let bodies: Vec<Vec<u8>> = receiver.received().into_iter().map(|request| request.body).collect();
            assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{kind}");
        } else {
            let callbacks = until(&bench, kind, |c| c.refused == 1 && c.waiting == 0).await;
            assert_eq!((callbacks.sent, callbacks.repeated), (1, 0), "{kind}");
        }
    }
}

#[tokio::test]
async fn nobody_there_harms_nobody() {
    let gone = Receiver::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = bench(&gone, "0s", "early=100%").await;
    let callbacks = Callbacks {
        url: Some(CallTo::Address(format!("http://{closed}/t").parse().unwrap())),
        ..Callbacks::default()
    };
    bench.mock.control(&Control { callbacks: Some(callbacks), ..Control::of(Kind::Msgai) });
    send(&bench, Kind::Msgai).await;
    let callbacks = until(&bench, Kind::Msgai, |c| c.unanswered == 2 && c.waiting == 0).await;
    assert_eq!((callbacks.sent, callbacks.taken), (2, 0));
}

#[tokio::test]
async fn only_so_many_are_under_way() {
    let receiver = Receiver::start().await;
    let bench = bench(&receiver, "0s", "undelivered=100%").await;
    receiver.hold(true);
    for _ in 0..100 {
        send(&bench, Kind::Msgai).await;
    }
    receiver.wait_for(64).await;
    receiver.hold(false);
    let callbacks = until(&bench, Kind::Msgai, |c| c.taken == 100).await;
    assert_eq!((callbacks.waiting, callbacks.sent, receiver.most_open()), (0, 100, 64));
}

#[tokio::test]
async fn many_statuses_come_in_one_request() {
    let receiver = Receiver::start().await;
    let bench = bench(&receiver, "0s", "undelivered=100%").await;
    receiver.hold(true);
    for _ in 0..200 {
        send(&bench, Kind::MetaCloud).await;
    }
    until(&bench, Kind::MetaCloud, |c| c.waiting == 200).await;
    receiver.hold(false);
    let callbacks = until(&bench, Kind::MetaCloud, |c| c.reports == 200).await;
    assert!(callbacks.sent < 200 && callbacks.taken == callbacks.sent, "{callbacks:?}");
    let size = |request: &Received| reports(Kind::MetaCloud, std::slice::from_ref(request)).len();
    assert_eq!(receiver.received().iter().map(size).max(), Some(20));
}

#[tokio::test]
async fn who_asks_is_told_the_state() {
    let record = |id: &str| {
        let headers = [("x-account-id", "acc-1"), ("x-api-key", "key-1")];
        Ask::post(&format!("/api/v1/connect-hub/whatsapp/{id}/wdr"), &headers, &Value::Null)
            .method(Method::GET)
    };
    let info = |id: &str| {
        let path = format!("/CH12/hookInfo?messageId={id}");
        Ask::post(&path, &[("authorization", "Bearer jwt-1")], &Value::Null).method(Method::GET)
    };
    let statuses = |json: &Value| -> Vec<String> {
        json["hooks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hook| hook["status"].as_str().unwrap().to_owned())
            .collect()
    };
    for (delay, shares, status, hooks) in [
        ("50s", "", "PENDING", &[][..]),
        ("0s", "undelivered=100%", "SENT", &["sent"]),
        ("0s", "", "DELIVERED", &["sent", "delivered"]),
        ("0s", "read=100%,silent=100%", "READ", &["sent", "delivered", "read"]),
        ("0s", "failed=100%", "FAILED", &["sent", "failed"]),
    ] {
        let states = || Callbacks {
            delay: Some(delay.parse().unwrap()),
            shares: Some(shares.parse().unwrap()),
            ..Callbacks::default()
        };
        let control = |kind| Control { callbacks: Some(states()), ..Control::of(kind) };
        let config = MockConfig::default().with(control(Kind::Betatel)).with(control(Kind::OneMsg));
        let bench = Bench::start(config).await;
        let told = bench.ask(record(&send(&bench, Kind::Betatel).await)).await.json();
        assert_eq!(told["status"], status, "{delay} {shares}");
        assert_eq!(told["delivery_timestamp"].is_string(), matches!(status, "DELIVERED" | "READ"), "{told}");
        let id = send(&bench, Kind::OneMsg).await;
        let told = bench.ask(info(&id)).await.json();
        assert_eq!(statuses(&told), hooks, "{delay} {shares}");
        assert!(told["hooks"].as_array().unwrap().iter().all(|hook| hook["id"] == *id));
    }
    let bench = Bench::start(
        MockConfig::default().with(Control { secret: Some("jwt-1".into()), ..Control::of(Kind::OneMsg) }),
    )
    .await;
    let id = send(&bench, Kind::OneMsg).await;
    assert_eq!(statuses(&bench.ask(info("wamid.HBgLnobody")).await.json()), [""; 0]);
    assert_eq!(statuses(&bench.ask(info(&id)).await.json()), ["sent"]);
    assert_eq!(bench.ask(info(&id).header("authorization", "Bearer other")).await.status, 401);
    assert_eq!(bench.ask(info(&id).without("authorization")).await.status, 401);
    assert_eq!(bench.ask(info(&id).method(Method::POST)).await.status, 405);
    assert_eq!(bench.account(Kind::OneMsg, "CH12").lookups, 2);
}

#[tokio::test]
async fn what_waits_does_not_hold_the_mock_up() {
    let receiver = Receiver::start().await;
    let bench = bench(&receiver, "50s", "").await;
    for ask in [betatel::valid(), meta_cloud::valid(), msgai::valid(), onemsg::valid()] {
        bench.ask(ask).await;
    }
    let stopped = tokio::time::timeout(Duration::from_secs(4), bench.mock.stop()).await.unwrap();
    let waiting: u64 = stopped.accounts.iter().map(|account| account.callbacks.waiting).sum();
    assert_eq!((waiting, receiver.received().len()), (8, 0));
}

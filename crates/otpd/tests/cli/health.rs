//! `otpd health`, against a worker and against servers that misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{LAPTOP, Place};

/// A server that answers one request with `answer` and gives back what it was asked.
fn server(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = vec![0; 1024];
        let read = stream.read(&mut asked).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&asked[..read]).into_owned()
    });
    (at, serving)
}

#[test]
fn a_worker_is_asked_where_its_config_says() {
    let port = otpd_tests::claim_port();
    // The rest of the file may be wrong by now: the worker that runs does not care.
    let config = format!("{LAPTOP}[admin]\nlisten = \"0.0.0.0:{port}\"\n");
    let place = Place::new(&config);
    assert_eq!(place.run(&["health"]).code, 1, "nobody is there yet");

    let mut worker = place.command(&["worker"]).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let ready = loop {
        let ran = place.run(&["health", "--ready"]);
        if ran.code == 0 || Instant::now() > until {
            break ran;
        }
    };
    std::fs::write(place.0.join("otpd.toml"), format!("{config}[retry]\nmax_attempts = \"six\"\n")).unwrap();
    let alive = place.run(&["health"]);
    let json = place.run(&["health", "--ready", "--json"]);
    let checked = place.run(&["config", "check"]);

    assert!(Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap().success());
    assert_eq!(worker.wait().unwrap().code(), Some(0));
    assert_eq!((ready.code, ready.out.as_str()), (0, "verihubs: consuming\n"), "{ready:?}");
    assert_eq!((alive.code, alive.out.as_str(), alive.err.as_str()), (0, "ok\n", ""), "{alive:?}");
    assert_eq!(checked.code, 2, "{checked:?}");
    let answer: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(answer["url"], format!("http://127.0.0.1:{port}/readyz"));
    assert_eq!((&answer["healthy"], &answer["status"]), (&true.into(), &200.into()), "{answer}");
    assert_eq!(answer["answer"], "verihubs: consuming");
    assert_eq!(place.run(&["health"]).code, 1, "it is gone");
}

#[test]
fn anything_but_a_2xx_is_no_health() {
    let place = Place::new("");
    let (at, serving) = server("HTTP/1.0 503 Service Unavailable\r\n\r\nwaiting for the broker\n");
    let ran = place.run(&["health", "--ready", "--url", &format!("http://{at}")]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "waiting for the broker\n"), "{ran:?}");
    assert_eq!(ran.err, format!("otpd: http://{at}/readyz answered 503\n"));
    assert_eq!(serving.join().unwrap(), format!("GET /readyz HTTP/1.0\r\nHost: {at}\r\n\r\n"));

    let (at, serving) = server("HTTP/1.1 204 No Content\r\n\r\n");
    let ran = place.run(&["health", "--url", &format!("http://{at}/stats?all=1")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(serving.join().unwrap().starts_with("GET /stats?all=1 HTTP/1.0\r\n"));

    let (at, serving) = server("SSH-2.0-OpenSSH_9.2\r\n");
    let ran = place.run(&["health", "--json", "--url", &format!("http://{at}")]);
    serving.join().unwrap();
    let answer: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &answer["problem"]), (1, &"the answer is not HTTP".into()), "{ran:?}");
}

#[test]
fn a_server_that_says_nothing_is_left_after_two_seconds() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let asked = Instant::now();
    let ran = Place::new("").run(&["health", "--url", &url]);
    let took = asked.elapsed();
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
    assert_eq!(ran.err, format!("otpd: {url}/healthz: no answer within 2 s\n"));
    assert!((Duration::from_secs(2)..Duration::from_secs(30)).contains(&took), "{took:?}");
}

#[test]
fn wrong_use_exits_with_2() {
    let fine = Place::new("");
    let url = fine.run(&["health", "--url", "https://127.0.0.1:9090"]);
    assert_eq!((url.code, url.err.contains("--url must be http://HOST:PORT")), (2, true), "{url:?}");
    let port = fine.run(&["health", "--set", "admin.listen=127.0.0.1:0"]);
    assert_eq!((port.code, port.err.contains("say which with --url")), (2, true), "{port:?}");

    let wrong = Place::new("[admin]\nlisten = 9090\n").run(&["health"]);
    assert_eq!(
        (wrong.code, wrong.err.contains("otpd.toml:2: admin.listen: must be")),
        (2, true),
        "{wrong:?}"
    );
    let unreadable = fine.run(&["health", "--config", "nowhere.toml"]);
    assert_eq!((unreadable.code, unreadable.err.contains("nowhere.toml")), (2, true), "{unreadable:?}");
}

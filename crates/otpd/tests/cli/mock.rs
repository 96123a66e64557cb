//! `otpd mock`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::Place;

const BODY: &str = r#"{"to":"628123456890","text":"482910"}"#;

#[test]
fn serves_until_it_is_told_to_end_and_then_counts() {
    let place = Place::new("");
    let args = [
        "mock",
        "--listen",
        "127.0.0.1:0",
        "--ceiling",
        "betatel=1/min",
        "--latency",
        "betatel=1ms",
        "--json",
    ];
    let mut child = place.command(&args).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    let url = first["base_url"]["betatel"].as_str().unwrap();
    assert_eq!(first["listening"], url);

    let statuses: Vec<String> = (0..2).map(|_| send(url.strip_prefix("http://").unwrap())).collect();
    assert_eq!(statuses.iter().map(String::as_str).collect::<Vec<_>>(), ["200", "429"]);

    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let mut last = String::new();
    out.read_to_string(&mut last).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let stats: Value = serde_json::from_str(&last).unwrap();
    let account = &stats["accounts"][0];
    assert_eq!(
        (account["kind"].as_str(), account["attempts"].as_u64(), account["accepted"].as_u64()),
        (Some("betatel"), Some(2), Some(1)),
        "{stats}"
    );
}

#[test]
fn calls_back_as_told() {
    let place = Place::new("");
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let callback = format!("betatel=http://{}/cb/t", receiver.local_addr().unwrap());
    let args = [
        "mock",
        "--listen",
        "127.0.0.1:0",
        "--callback",
        &callback,
        "--callback-delay",
        "betatel=1ms",
        "--callback-share",
        "betatel:undelivered=100%",
        "--callback-secret",
        "msgai=s3cret",
        "--json",
    ];
    let mut child = place.command(&args).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    let url = first["listening"].as_str().unwrap();
    assert_eq!(send(url.strip_prefix("http://").unwrap()), "200");
    let mut lines = BufReader::new(receiver.accept().unwrap().0).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("POST /cb/t HTTP/1.1"));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// With `--tls-ca` the address is HTTPS, and the authority is there before the address is told.
#[test]
fn speaks_https_with_an_authority_that_it_tells() {
    let place = Place::new("");
    let ca = place.0.join("ca.pem");
    let args = ["mock", "--listen", "127.0.0.1:0", "--tls-ca", ca.to_str().unwrap(), "--json"];
    let mut child = place.command(&args).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert!(first["listening"].as_str().unwrap().starts_with("https://127.0.0.1:"), "{first}");
    assert_eq!(first["ca"].as_str(), ca.to_str());
    let pem = std::fs::read_to_string(&ca).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_certificate_needs_an_authority_to_be_told() {
    let place = Place::new("");
    let out = place.command(&["mock", "--tls-certificate", "expired"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("--tls-ca"), "{said}");
}

/// One request; gives the status.
fn send(host: &str) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "POST /api/v1/connect-hub/whatsapp/otp HTTP/1.1\r\nhost: {host}\r\nx-api-key: k\r\nx-account-id: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn wrong_arguments_exit_with_2_and_say_which() {
    let place = Place::new("");
    for (args, says) in [
        (["--ceiling", "verihubs"], r#"otpd: --ceiling "verihubs": must be KIND=VALUE"#),
        (["--ceiling", "twilio=50/s"], r#"otpd: --ceiling "twilio=50/s": no such kind"#),
        (["--ceiling", "verihubs=fast"], r#"otpd: --ceiling "verihubs=fast": must be COUNT/TIME"#),
        (["--latency", "verihubs=soon"], r#"otpd: --latency "verihubs=soon": must be a time"#),
        (["--fault", "verihubs:teapot=5%"], r#"otpd: --fault "verihubs:teapot=5%": fault `teapot=5%`"#),
        (["--callback", "msgai=https://a/t"], r#"otpd: --callback "msgai=https://a/t": must be http://"#),
        (["--callback-delay", "msgai=soon"], r#"otpd: --callback-delay "msgai=soon": must be a time"#),
        (
            ["--callback-share", "msgai:lost=5%"],
            r#"otpd: --callback-share "msgai:lost=5%": `lost=5%`: there are"#,
        ),
        (["--callback-secret", "twilio=s3cret"], "otpd: --callback-secret: must be KIND=SECRET"),
    ] {
        let ran = place.run(&[&["mock", "--listen", "127.0.0.1:0"], &args[..]].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.starts_with(says) && !ran.err.contains("s3cret"), "{ran:?}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = place.run(&["mock", "--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("choose another address with --listen"), "{ran:?}");
}

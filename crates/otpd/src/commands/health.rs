//! `otpd health`: asks the admin port, for container health checks in an image without shell or curl.
//!
//! The request is HTTP/1.0 by hand over one TCP connection: then the answer is never chunked and ends with
//! the connection, and nothing is needed beside the runtime. Time and size of the answer are bounded.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::HealthArgs;
use crate::config::Sources;
use crate::failure::Failure;
use crate::output;

/// From the first packet to the last byte of the answer.
const LIMIT: Duration = Duration::from_secs(2);
/// More of an answer than these bytes is not read.
const MOST: u64 = 64 * 1024;

/// Asks once. Exit code 0 where the answer is a 2xx, else 1.
///
/// # Errors
/// Where it is unclear whom to ask.
pub async fn run(args: HealthArgs, sources: &Sources) -> Result<ExitCode, Failure> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let target = match &args.url {
        Some(url) => Target::of(url, path).map_err(|rule| Failure::Usage(format!("--url {rule}")))?,
        None => Target::at(sources.admin_listen()?, path)?,
    };
    let asked = Instant::now();
    let answer = match tokio::time::timeout(LIMIT, ask(&target)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    };
    let took = asked.elapsed();
    let is_healthy = matches!(&answer, Ok(Answer { status: 200..=299, .. }));
    if args.json.json {
        let url = target.to_string();
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        output::json(&match &answer {
            Ok(Answer { status, body }) => {
                json!({ "url": url, "healthy": is_healthy, "status": status, "answer": body.trim_end(), "took_ms": ms })
            }
            Err(problem) => json!({ "url": url, "healthy": false, "problem": problem, "took_ms": ms }),
        })?;
    } else {
        match &answer {
            Ok(answer) if is_healthy => output::text(&answer.body)?,
            Ok(Answer { status, body }) => {
                output::text(body)?;
                output::note(&format!("otpd: {target} answered {status}"));
            }
            Err(problem) => output::note(&format!("otpd: {target}: {problem}")),
        }
    }
    Ok(if is_healthy { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Whom to ask for what.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// Path and query.
    path: String,
}

impl Target {
    /// The port of this config. One that listens everywhere is asked at the loopback.
    fn at(listen: SocketAddr, path: &str) -> Result<Self, Failure> {
        if listen.port() == 0 {
            return Err(Failure::Usage(
                "admin.listen has port 0, so any port may have been taken; say which with --url http://HOST:PORT"
                    .into(),
            ));
        }
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        Ok(Self { host: ip.to_string(), port: listen.port(), path: path.to_owned() })
    }

    /// An URL's. A path in it is asked as it stands, else `path`.
    fn of(url: &str, path: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be http://HOST:PORT, optionally with a path";
        let uri: Uri = url.parse().map_err(|_| RULE)?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or(RULE)?;
        if authority.as_str().contains('@') {
            return Err("must not name a user: the admin port knows none");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let asked = uri.path_and_query().map(PathAndQuery::as_str).filter(|asked| *asked != "/");
        Ok(Self { host, port: authority.port_u16().unwrap_or(80), path: asked.unwrap_or(path).to_owned() })
    }

    fn host_and_port(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host_and_port(), self.path)
    }
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// At most [`MOST`] bytes, without control characters but for the ends of lines.
    body: String,
}

/// One request, or a sentence about why there is no answer.
async fn ask(target: &Target) -> Result<Answer, String> {
    let address = (target.host.as_str(), target.port);
    let mut stream = TcpStream::connect(address).await.map_err(|e| format!("cannot be reached: {e}"))?;
    let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", target.path, target.host_and_port());
    let broken = |e: std::io::Error| format!("the connection broke: {e}");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut bytes = Vec::new();
    stream.take(MOST).read_to_end(&mut bytes).await.map_err(broken)?;
    parse(&bytes).ok_or_else(|| "the answer is not HTTP".to_owned())
}

/// Status and body; `None` where it is no HTTP.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next().filter(|digits| digits.len() == 3)?.parse().ok()?;
    let body = body.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    Some(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(listen: &str) -> String {
        Target::at(listen.parse().unwrap(), "/healthz").unwrap().to_string()
    }

    #[test]
    fn a_port_that_listens_everywhere_is_asked_at_the_loopback() {
        assert_eq!(at("0.0.0.0:9090"), "http://127.0.0.1:9090/healthz");
        assert_eq!(at("[::]:9090"), "http://[::1]:9090/healthz");
        assert_eq!(at("10.0.0.7:9090"), "http://10.0.0.7:9090/healthz");
        assert!(Target::at("127.0.0.1:0".parse().unwrap(), "/healthz").is_err());
    }

    #[test]
    fn an_url_says_whom_to_ask_and_may_say_for_what() {
        let of = |url: &str| Target::of(url, "/readyz").map(|target| target.to_string());
        assert_eq!(of("http://worker:9090").unwrap(), "http://worker:9090/readyz");
        assert_eq!(of("http://[::1]:9090/").unwrap(), "http://[::1]:9090/readyz");
        assert_eq!(of("http://mock:8090/stats?a=b").unwrap(), "http://mock:8090/stats?a=b");
        assert_eq!(of("http://mock").unwrap(), "http://mock:80/readyz");
        for wrong in
            ["worker:9090", "https://worker:9090", "/healthz", "http://", "", "http://u:p@h:1", "a b"]
        {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_http_is_an_answer() {
        let answer = |status, body: &str| Some(Answer { status, body: body.to_owned() });
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nok\n"), answer(200, "ok\n"));
        assert_eq!(parse(b"HTTP/1.1 503 \r\n\r\n"), answer(503, ""));
        assert_eq!(parse(b"HTTP/1.1 500 x\r\n\r\na\x1b[31m\xffb"), answer(500, "a[31m\u{fffd}b"));
        let not_http = [
            "",
            "ok",
            "AMQP\0\0\x09\x01",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.0 2000 \r\n\r\n",
            "HTTP/2 200\r\n\r\n",
        ];
        for bytes in not_http {
            assert_eq!(parse(bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}

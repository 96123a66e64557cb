//! What the provider counted, where it is a mock: requests, 429s, and the fullest sliding windows against its
//! limits. It is the only witness that sees a ceiling from the other side.
//!
//! A mock of another process is asked over HTTP/1.0, which needs no client library: one request a connection,
//! and the answer ends where the connection does.

use std::collections::BTreeMap;
use std::time::Duration;

use otpd_core::Rate;
use otpd_sim::mock::{AccountStats, Stats};
use otpd_sim::{Kind, Mock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::spread::round;
use crate::failure::Failure;

/// How long the mock may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most bytes of an answer: two million arrivals.
const MOST: u64 = 64 * 1024 * 1024;
/// The status of a refused request.
const TOO_MANY: u16 = 429;

/// Reads a mock's counts, of this run only.
pub(super) struct Gauge {
    mock: Source,
    before: Option<Stats>,
}

enum Source {
    Inside(Mock),
    /// `host:port`.
    At(String),
}

/// What an account counted during the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct AtProvider {
    pub(super) kind: Kind,
    pub(super) account: String,
    /// Requests that arrived to send something.
    pub(super) requests: u64,
    /// Messages sent.
    pub(super) accepted: u64,
    /// Of those, how many repeated a code to the same phone.
    pub(super) duplicates: u64,
    /// Requests answered with 429.
    pub(super) too_many: u64,
    /// One for each limit of the account; without limits, one of a second.
    pub(super) windows: Vec<Window>,
}

/// The fullest sliding window of one length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Window {
    /// The limit, such as `50/s`.
    pub(super) limit: Option<String>,
    pub(super) seconds: f64,
    /// The most requests in any window of that length.
    pub(super) most: u64,
    /// Requests in percent of what the limit allowed, from the first to the last.
    pub(super) used_percent: Option<f64>,
}

impl Gauge {
    /// Of a mock in this process.
    pub(super) fn inside(mock: Mock) -> Self {
        Self { mock: Source::Inside(mock), before: None }
    }

    /// Of a mock at this URL, which must answer.
    ///
    /// # Errors
    /// Where the URL is none, or no mock is there.
    pub(super) async fn at(url: &str) -> Result<Self, Failure> {
        let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let host = host.filter(|host| {
            let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            port.is_some() && !host.contains(['/', '@', '?', ' ', '\r', '\n'])
        });
        let host = host.ok_or_else(|| {
            Failure::Usage("--mock must be http://HOST:PORT, as `otpd mock` prints it".to_owned())
        })?;
        let gauge = Self { mock: Source::At(host.to_owned()), before: None };
        gauge.stats().await.map_err(|why| {
            Failure::Failed(format!("--mock http://{host}: {why}; is `otpd mock` running there?"))
        })?;
        Ok(gauge)
    }

    /// The run begins: what was counted before is not its own.
    ///
    /// # Errors
    /// Where the mock does not answer.
    pub(super) async fn begin(&mut self) -> Result<(), String> {
        self.before = Some(self.stats().await?);
        Ok(())
    }

    /// What was counted since.
    ///
    /// # Errors
    /// Where the mock does not answer.
    pub(super) async fn read(&self) -> Result<Vec<AtProvider>, String> {
        let stats = self.stats().await?;
        let mut all = Vec::new();
        for account in &stats.accounts {
            let before = self.before.as_ref().and_then(|stats| stats.account(account.kind, &account.account));
            let requests = account.attempts.saturating_sub(before.map_or(0, |b| b.attempts));
            if requests == 0 {
                continue;
            }
            let arrivals = self.arrivals(account, requests).await?;
            all.push(at_provider(account, before, requests, &arrivals));
        }
        Ok(all)
    }

    /// Ends a mock of this process.
    pub(super) async fn close(self) {
        match self.mock {
            Source::Inside(mock) => drop(mock.stop().await),
            Source::At(_) => {}
        }
    }

    async fn stats(&self) -> Result<Stats, String> {
        match &self.mock {
            Source::Inside(mock) => Ok(mock.stats()),
            Source::At(host) => get(host, "/stats").await,
        }
    }

    /// The last `count` arrivals in microseconds, in order.
    async fn arrivals(&self, account: &AccountStats, count: u64) -> Result<Vec<u64>, String> {
        let (kind, name) = (account.kind, &account.account);
        match &self.mock {
            Source::Inside(mock) => {
                let all = mock.arrivals(kind, name);
                let from = all.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
                Ok(all.get(from..).unwrap_or_default().to_vec())
            }
            Source::At(host) => {
                let name = escaped(name);
                get(host, &format!("/stats/arrivals?kind={kind}&account={name}&limit={count}")).await
            }
        }
    }
}

fn at_provider(
    account: &AccountStats,
    before: Option<&AccountStats>,
    requests: u64,
    arrivals: &[u64],
) -> AtProvider {
    let answered = |stats: &BTreeMap<u16, u64>| stats.get(&TOO_MANY).copied().unwrap_or(0);
    let limited = account.windows.iter().filter_map(|w| Some((w.window_us, w.limit?)));
    let mut windows: Vec<Window> =
        limited.map(|(width, limit)| window(arrivals, width, Some(limit))).collect();
    if windows.is_empty() {
        windows.push(window(arrivals, 1_000_000, None));
    }
    AtProvider {
        kind: account.kind,
        account: account.account.clone(),
        requests,
        accepted: account.accepted.saturating_sub(before.map_or(0, |b| b.accepted)),
        duplicates: account.duplicates.saturating_sub(before.map_or(0, |b| b.duplicates)),
        too_many: answered(&account.answers).saturating_sub(before.map_or(0, |b| answered(&b.answers))),
        windows,
    }
}

fn window(arrivals: &[u64], width: u64, limit: Option<u32>) -> Window {
    let rate = limit.and_then(|count| Rate::new(count, Duration::from_micros(width)).ok());
    let span = arrivals.last().zip(arrivals.first()).map_or(0, |(last, first)| last - first).max(width);
    let allowed = rate.map(|rate| rate.per_second() * span as f64 / 1e6);
    Window {
        limit: rate.map(|rate| rate.to_string()),
        seconds: width as f64 / 1e6,
        most: fullest(arrivals, width),
        used_percent: allowed.map(|allowed| round(arrivals.len() as f64 / allowed * 100.0, 1)),
    }
}

/// The most of these times, which are in order, in any half-open window of this width.
fn fullest(times: &[u64], width: u64) -> u64 {
    let mut oldest = times.iter().peekable();
    let (mut inside, mut most) = (0, 0);
    for at in times {
        inside += 1;
        while oldest.next_if(|old| at.saturating_sub(**old) >= width).is_some() {
            inside -= 1;
        }
        most = most.max(inside);
    }
    most
}

/// A text as part of a query.
fn escaped(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

async fn get<T: DeserializeOwned>(host: &str, path: &str) -> Result<T, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(host).await?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: {host}\r\naccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MOST).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|e| e.to_string())?;
    body(&answer)
        .and_then(|body| serde_json::from_slice(body).ok())
        .ok_or("not the answer of a mock".to_owned())
}

/// The body of an answer with status 200.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let status = answer.strip_prefix(b"HTTP/1.")?.get(1..5)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    answer.get(end + 4..).filter(|_| status == b" 200")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_is_read() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"), Some(&b"{}"[..]));
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\n"), Some(&b""[..]));
        for bad in
            [&b""[..], b"HTTP/1.0 404 Not Found\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n", b"nonsense\r\n\r\n{}"]
        {
            assert_eq!(body(bad), None);
        }
    }

    #[test]
    fn a_query_is_escaped() {
        assert_eq!(escaped("app-1_x.y"), "app-1_x.y");
        assert_eq!(escaped("a b&c=\u{e9}"), "a%20b%26c%3D%C3%A9");
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_wrong_use() {
        for url in [
            "",
            "127.0.0.1:8090",
            "https://h:1",
            "http://h",
            "http://u:p@h:1",
            "http://h:1/x",
            "http://h:99999",
        ] {
            assert!(matches!(Gauge::at(url).await, Err(Failure::Usage(_))), "{url}");
        }
    }

    #[test]
    fn a_window_against_its_limit() {
        // 50 a second, evenly, for 4 seconds.
        let arrivals: Vec<u64> = (0..=200).map(|n| n * 20_000).collect();
        let window = window(&arrivals, 1_000_000, Some(50));
        assert_eq!((window.limit.as_deref(), window.most), (Some("50/s"), 50));
        assert!((window.used_percent.unwrap() - 100.5).abs() < 0.1, "{window:?}");
    }

    proptest! {
        #[test]
        fn the_fullest_window_is_the_fullest(mut times in proptest::collection::vec(0u64..3_000, 0..80), width in 1u64..700) {
            times.sort_unstable();
            let by_hand = times.iter().map(|end| times.iter().filter(|t| *t <= end && end - **t < width).count());
            prop_assert_eq!(fullest(&times, width), by_hand.max().unwrap_or(0) as u64);
        }
    }
}

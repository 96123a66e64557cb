//! The mock over real sockets. One file for each provider's contract, as a table: a valid request that
//! is taken, and every way of spoiling it with the answer that is documented for that. Then what the
//! mock does beyond contracts: ceilings, faults, and its book.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test helpers")]

mod betatel;
mod callbacks;
mod ceilings;
mod faults;
mod meta_cloud;
mod meta_onprem;
mod msgai;
mod onemsg;
mod receiver;
mod stats;
mod verihubs;

use std::time::Duration;

use otpd_sim::mock::AccountStats;
use otpd_sim::{Kind, Mock, MockConfig};
use reqwest::header::HeaderMap;
use reqwest::{Client, ClientBuilder, Method};
use serde_json::Value;

/// Longer than anything here takes, except a stall.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request that can be spoilt.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &Value) -> Self {
        let mut ask = Self {
            method: Method::POST,
            path: path.into(),
            headers: Vec::new(),
            body: body.to_string().into(),
        };
        for (name, value) in [("content-type", "application/json")].iter().chain(headers) {
            ask = ask.header(name, value);
        }
        ask
    }

    /// With this header instead of the one it had.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self
    }

    pub(crate) fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    pub(crate) fn path(self, path: &str) -> Self {
        Self { path: path.into(), ..self }
    }

    pub(crate) fn raw(self, body: &str) -> Self {
        Self { body: body.into(), ..self }
    }

    /// With the value at this JSON pointer replaced, or added to its object.
    pub(crate) fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut body: Value = serde_json::from_slice(&self.body).unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(index) if parent.is_array() => parent[index] = value,
            Ok(_) | Err(_) => parent[key] = value,
        }
        self.body = body.to_string().into();
        self
    }

    /// Without the value at this JSON pointer.
    pub(crate) fn cut(mut self, pointer: &str) -> Self {
        let mut body: Value = serde_json::from_slice(&self.body).unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap();
        if let Some(list) = parent.as_array_mut() {
            list.remove(key.parse().unwrap());
        } else {
            parent.as_object_mut().unwrap().remove(key).unwrap();
        }
        self.body = body.to_string().into();
        self
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A client that goes straight to the mock. It never speaks TLS, but cannot be built without any.
pub(crate) fn client() -> ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy()
}

/// A mock and a client for it.
pub(crate) struct Bench {
    pub(crate) mock: Mock,
    client: Client,
}

impl Bench {
    pub(crate) async fn start(config: MockConfig) -> Self {
        let mock = Mock::start(config, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self { mock, client: client().build().unwrap() }
    }

    pub(crate) async fn ask(&self, ask: Ask) -> Answer {
        self.try_ask(ask).await.unwrap()
    }

    pub(crate) async fn try_ask(&self, ask: Ask) -> Result<Answer, reqwest::Error> {
        let mut request =
            self.client.request(ask.method, format!("{}{}", self.mock.url(), ask.path)).body(ask.body);
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let response = request.timeout(PATIENCE).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Ask::post(path, &[], &Value::Null).method(Method::GET)).await
    }

    /// Sends a request and goes away once the account has got so far.
    pub(crate) async fn leave(
        &self,
        ask: Ask,
        kind: Kind,
        name: &str,
        so_far: impl Fn(&AccountStats) -> bool,
    ) {
        let arrived = async {
            while !self.mock.stats().account(kind, name).is_some_and(&so_far) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            answer = self.try_ask(ask) => panic!("it was answered: {answer:?}"),
            arrived = tokio::time::timeout(PATIENCE, arrived) => arrived.unwrap(),
        }
    }

    pub(crate) fn account(&self, kind: Kind, name: &str) -> AccountStats {
        self.mock.stats().account(kind, name).unwrap().clone()
    }

    /// Asks each spoilt request, and checks status and a part of the text.
    pub(crate) async fn refuses(&self, table: Vec<(&str, Ask, u16, &str)>) {
        let sent_before = self.mock.stats().accepted();
        for (what, ask, status, says) in table {
            let answer = self.ask(ask).await;
            assert_eq!(answer.status, status, "{what}: {answer:?}");
            assert!(answer.text.contains(says), "{what}: {answer:?}");
        }
        assert_eq!(self.mock.stats().accepted(), sent_before, "a refused message is not sent");
    }
}

//! What a client is made with.

use std::time::Duration;

use lapin::uri::AMQPUri;

/// How to reach otpd. From a URL alone, everything else has its default.
#[derive(Clone)]
pub struct ClientConfig {
    /// The broker's nodes, `amqp://user:password@host:port/vhost` or `amqps://...`.
    pub urls: Vec<String>,
    /// What otpd's names begin with; `otp.` unless its config says otherwise.
    pub prefix: String,
    /// How many jobs may be on their way at once, 1 to 1,000; each takes a channel.
    pub channels: usize,
    /// How long `send` may take in all, reconnecting and sending again included.
    pub patience: Duration,
}

/// A URL that cannot be used. Does not repeat it: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("URL {number} is not of the form amqp://user:password@host:port/vhost")]
pub struct InvalidUrl {
    /// Which one, from 1.
    pub number: usize,
}

impl ClientConfig {
    /// A config with defaults: 32 channels, 5 s.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            prefix: "otp.".into(),
            channels: 32,
            patience: Duration::from_secs(5),
        }
    }

    /// The URLs in lapin's form, with a heartbeat.
    pub(crate) fn nodes(&self) -> Result<Vec<AMQPUri>, InvalidUrl> {
        let node = |(index, url): (usize, &String)| {
            let mut node: AMQPUri = url.parse().map_err(|_| InvalidUrl { number: index + 1 })?;
            node.query.heartbeat.get_or_insert(10);
            Ok(node)
        };
        self.urls.iter().enumerate().map(node).collect()
    }
}

impl From<&str> for ClientConfig {
    fn from(url: &str) -> Self {
        Self::new([url])
    }
}

impl From<String> for ClientConfig {
    fn from(url: String) -> Self {
        Self::new([url])
    }
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig")
            .field("urls", &format_args!("{} of them", self.urls.len()))
            .field("prefix", &self.prefix)
            .field("channels", &self.channels)
            .field("patience", &self.patience)
            .finish()
    }
}

/// Where a node is, without credentials.
pub(crate) fn place(node: &AMQPUri) -> String {
    format!("{}:{}", node.authority.host, node.authority.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        let config = ClientConfig::new(["amqp://u:s3cret@h:5673/v", "nonsense s3cret"]);
        assert!(!format!("{config:?}").contains("s3cret"));
        let refusal = config.nodes().unwrap_err();
        assert_eq!(refusal, InvalidUrl { number: 2 });
        assert!(!refusal.to_string().contains("s3cret"));
        let good = ClientConfig::from("amqp://u:s3cret@h:5673/v").nodes().unwrap();
        assert_eq!((place(&good[0]), good[0].query.heartbeat), ("h:5673".into(), Some(10)));
    }
}

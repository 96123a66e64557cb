//! Where a broker is: an AMQP URL, checked once. Nothing that shows it shows its credentials.

use std::fmt;
use std::str::FromStr;

use lapin::uri::{AMQPScheme, AMQPUri, AMQPUserInfo};

/// Heartbeat in seconds where the URL names none: a dead peer is noticed within two of them.
const HEARTBEAT: u16 = 10;

/// The URL of one broker node, `amqp://user:password@host:port/vhost` or `amqps://...`.
/// `Display` and `Debug` leave out user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl(AMQPUri);

/// A text that is not the URL of a broker. Does not repeat the text: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the URL of a broker: {why}; {write}")]
pub struct InvalidUrl {
    why: &'static str,
    write: &'static str,
}

impl InvalidUrl {
    fn because(why: &'static str) -> Self {
        Self { why, write: "write amqp://user:password@host:5672/vhost" }
    }
}

impl FromStr for BrokerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let rest = text.strip_prefix("amqp://").or_else(|| text.strip_prefix("amqps://"));
        let rest = rest.ok_or_else(|| InvalidUrl::because("it must begin with amqp:// or amqps://"))?;
        let host = rest.split(['/', '?']).next().unwrap_or_default().rsplit('@').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') {
            return Err(InvalidUrl::because("it names no host"));
        }
        let mut uri: AMQPUri = text
            .parse()
            .map_err(|_| InvalidUrl::because("the port, an escape or a parameter cannot be read"))?;
        // 255 bytes is what the protocol's short strings hold.
        if uri.vhost.len() > 255 {
            return Err(InvalidUrl::because("the virtual host has more than 255 bytes"));
        }
        if *uri.query.heartbeat.get_or_insert(HEARTBEAT) == 0 {
            let why = "heartbeat=0 turns heartbeats off, by which a dead connection is noticed before its lane has \
                       another owner";
            return Err(InvalidUrl { why, write: "leave it out (10 s), or write heartbeat=10" });
        }
        Ok(Self(uri))
    }
}

impl BrokerUrl {
    /// The same broker, spoken to in frames of at most 16 KiB, unless the URL itself says otherwise.
    /// lapin keeps two buffers of 32 frames for each connection, all of them in use by turns: 8 MiB at
    /// the broker's 128 KiB. Only for connections that consume nothing: headers cannot be split over
    /// frames, and ours are small, but a producer's may not be.
    pub(super) fn in_small_frames(&self) -> Self {
        let mut uri = self.0.clone();
        uri.query.frame_max.get_or_insert(16 * 1024);
        Self(uri)
    }

    /// The host, where it is spoken to in clear text.
    #[must_use]
    pub fn clear_text_host(&self) -> Option<&str> {
        match self.0.scheme {
            AMQPScheme::AMQP => Some(&self.0.authority.host),
            AMQPScheme::AMQPS => None,
        }
    }

    /// Whether both are the same place, spoken to in the same way, whoever it is that speaks.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place = |url: &Self| {
            let mut uri = url.expose();
            uri.authority.userinfo = AMQPUserInfo::default();
            uri
        };
        place(self) == place(other)
    }

    /// The URL in lapin's form, credentials and all.
    pub(super) fn expose(&self) -> AMQPUri {
        self.0.clone()
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.0.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let (host, port) = (&self.0.authority.host, self.0.authority.port);
        let vhost = if self.0.vhost == "/" { "%2f" } else { &self.0.vhost };
        write!(f, "{scheme}://{host}:{port}/{vhost}")
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_place_and_not_the_credentials() {
        for (text, shown) in [
            ("amqp://guest:s3cret@127.0.0.1:5672/%2f", "amqp://127.0.0.1:5672/%2f"),
            ("amqp://guest:s3%40cret@rabbit/otp", "amqp://rabbit:5672/otp"),
            ("amqps://rabbit.example:5671", "amqps://rabbit.example:5671/%2f"),
            ("amqp://u:s3cret@h:1/v?heartbeat=5", "amqp://h:1/v"),
        ] {
            let url: BrokerUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("BrokerUrl({shown})"));
        }
    }

    #[test]
    fn refusals_do_not_repeat_the_text() {
        for text in [
            "",
            "s3cret",
            "http://u:s3cret@h/",
            "amqp://",
            "amqp://u:s3cret@/v",
            "amqp://u:s3cret@:5672/v",
            "amqp://u:s3cret@h:notaport/",
            "amqp://u:s3cret@h:99999/",
            "amqp://u:s3cret@h/%ff",
            "amqp://u:s3cret@h/?heartbeat=often",
        ] {
            let refusal = text.parse::<BrokerUrl>().unwrap_err().to_string();
            assert!(!refusal.contains("s3cret"), "{refusal}");
        }
    }

    #[test]
    fn a_heartbeat_is_always_set() {
        let beat = |text: &str| text.parse::<BrokerUrl>().unwrap().expose().query.heartbeat;
        assert_eq!(beat("amqp://h"), Some(10));
        assert_eq!(beat("amqp://h/?heartbeat=4"), Some(4));
        let refusal = "amqp://h/?heartbeat=0".parse::<BrokerUrl>().unwrap_err().to_string();
        assert!(refusal.contains("heartbeat=0") && refusal.ends_with("or write heartbeat=10"), "{refusal}");
    }
}

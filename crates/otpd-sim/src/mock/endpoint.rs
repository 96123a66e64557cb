//! Which endpoint a request is for, from method and path alone: every provider at its real path, on
//! one port. A path that begins like a provider's but is none of its endpoints gets that provider's
//! own "not found".

use http::Method;

use super::contract::Wrong;
use super::kind::Kind;

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'p> {
    /// To send a message; `sender` is the part of the path that names the account, else empty.
    Send { kind: Kind, sender: &'p str },
    /// Meta on-premises: to log in.
    Login,
    /// Betatel: one record.
    Record { uuid: &'p str },
    /// Betatel: a list of records.
    Records,
    /// 1MSG: what there is to tell of a message of this channel.
    HookInfo { sender: &'p str },
    /// A provider, but nothing it has.
    Missed { kind: Kind, wrong: Wrong },
    /// The mock itself.
    Own(Own),
    /// Nothing at all.
    Nothing,
}

/// The mock's own endpoints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Stats,
    Messages,
    Arrivals,
    Reset,
    Control,
}

impl<'p> Endpoint<'p> {
    pub(crate) fn of(method: &Method, path: &'p str) -> Self {
        let mut parts = [""; 8];
        let mut count = 0;
        for part in path.trim_start_matches('/').split('/') {
            // One more than any endpoint has is enough to know that it is none.
            if let Some(slot) = parts.get_mut(count) {
                *slot = part;
                count += 1;
            }
        }
        let (get, post) = (method == Method::GET, method == Method::POST);
        let only = |fits: bool, kind: Kind, endpoint: Self| {
            if fits { endpoint } else { Self::Missed { kind, wrong: Wrong::Method } }
        };
        let own = |fits: bool, own: Own| if fits { Self::Own(own) } else { Self::Nothing };
        let missed = |kind: Kind| Self::Missed { kind, wrong: Wrong::Path };
        let send = |kind: Kind, sender: &'p str| only(post, kind, Self::Send { kind, sender });
        match parts.get(..count).unwrap_or_default() {
            ["stats"] => own(get, Own::Stats),
            ["stats", "messages"] => own(get, Own::Messages),
            ["stats", "arrivals"] => own(get, Own::Arrivals),
            ["stats", "reset"] => own(post, Own::Reset),
            ["control"] => own(post, Own::Control),

            ["v2", "whatsapp", "otp", "send"] => send(Kind::Verihubs, ""),
            ["v1" | "v2", "whatsapp", ..] => missed(Kind::Verihubs),

            ["v1", "messages"] => send(Kind::MetaOnprem, ""),
            ["v1", "users", "login"] => only(post, Kind::MetaOnprem, Self::Login),
            ["v1", ..] => missed(Kind::MetaOnprem),

            ["api", "v1", "connect-hub", "whatsapp", "otp"] => send(Kind::Betatel, ""),
            ["api", "v1", "connect-hub", "whatsapp", "wdr"] => only(post, Kind::Betatel, Self::Records),
            ["api", "v1", "connect-hub", "whatsapp", uuid, "wdr"] => {
                only(get, Kind::Betatel, Self::Record { uuid })
            }
            ["api", "v1", "connect-hub", ..] => missed(Kind::Betatel),

            ["api", "v1", "public", "message"] => send(Kind::Msgai, ""),
            ["api", ..] => missed(Kind::Msgai),

            [version, sender, "messages"] if is_graph_version(version) && is_number(sender) => {
                send(Kind::MetaCloud, sender)
            }
            [version, ..] if is_graph_version(version) => missed(Kind::MetaCloud),

            [sender, "sendTemplate"] if !sender.is_empty() => send(Kind::OneMsg, sender),
            [sender, "hookInfo"] if !sender.is_empty() => only(get, Kind::OneMsg, Self::HookInfo { sender }),
            _ => Self::Nothing,
        }
    }
}

/// `v23.0`.
fn is_graph_version(part: &str) -> bool {
    part.strip_prefix('v')
        .and_then(|v| v.split_once('.'))
        .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_at_its_path() {
        let send = |kind, sender| Endpoint::Send { kind, sender };
        let missed = |kind, wrong| Endpoint::Missed { kind, wrong };
        for (method, path, endpoint) in [
            (Method::POST, "/AB12/sendTemplate", send(Kind::OneMsg, "AB12")),
            (Method::GET, "/AB12/sendTemplate", missed(Kind::OneMsg, Wrong::Method)),
            (Method::GET, "/AB12/hookInfo", Endpoint::HookInfo { sender: "AB12" }),
            (Method::POST, "/AB12/hookInfo", missed(Kind::OneMsg, Wrong::Method)),
            (Method::POST, "//sendTemplate", Endpoint::Nothing),
            (Method::POST, "/v23.0/1065/messages", send(Kind::MetaCloud, "1065")),
            (Method::GET, "/v23.0/1065/messages", missed(Kind::MetaCloud, Wrong::Method)),
            (Method::POST, "/v23.0/messages", missed(Kind::MetaCloud, Wrong::Path)),
            (Method::POST, "/v23.0/abc/messages", missed(Kind::MetaCloud, Wrong::Path)),
            (Method::POST, "/v1/messages", send(Kind::MetaOnprem, "")),
            (Method::POST, "/v1/users/login", Endpoint::Login),
            (Method::PUT, "/v1/users/login", missed(Kind::MetaOnprem, Wrong::Method)),
            (Method::POST, "/v1/users", missed(Kind::MetaOnprem, Wrong::Path)),
            (Method::POST, "/v2/whatsapp/otp/send", send(Kind::Verihubs, "")),
            (Method::POST, "/v1/whatsapp/otp/send", missed(Kind::Verihubs, Wrong::Path)),
            (Method::POST, "/v2/whatsapp/otp/send/", missed(Kind::Verihubs, Wrong::Path)),
            (Method::POST, "/api/v1/connect-hub/whatsapp/otp", send(Kind::Betatel, "")),
            (Method::GET, "/api/v1/connect-hub/whatsapp/01J/wdr", Endpoint::Record { uuid: "01J" }),
            (Method::POST, "/api/v1/connect-hub/whatsapp/wdr", Endpoint::Records),
            (Method::POST, "/api/v1/connect-hub/sms", missed(Kind::Betatel, Wrong::Path)),
            (Method::POST, "/api/v1/public/message", send(Kind::Msgai, "")),
            (Method::POST, "/api/v1/public/message/1/2/3/4/5/6", missed(Kind::Msgai, Wrong::Path)),
            (Method::GET, "/stats", Endpoint::Own(Own::Stats)),
            (Method::POST, "/stats", Endpoint::Nothing),
            (Method::POST, "/stats/reset", Endpoint::Own(Own::Reset)),
            (Method::POST, "/control", Endpoint::Own(Own::Control)),
            (Method::GET, "/", Endpoint::Nothing),
        ] {
            assert_eq!(Endpoint::of(&method, path), endpoint, "{method} {path}");
        }
    }
}

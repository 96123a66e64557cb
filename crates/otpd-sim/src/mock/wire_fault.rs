//! Faults of the wire: what goes wrong with an answer that is right, or with the connection that it
//! should have come by. What providers mean by an answer is no matter here.

use std::time::Duration;

use super::fault::Fares;

/// Something that goes wrong on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireFault {
    /// The right answer whose end is missing: no last chunk, and no `close_notify` where there is TLS.
    Cut,
    /// The right answer whose end does not come until the client gives up.
    OpenEnd,
    /// The right answer, a byte a second.
    Drip,
    /// The right answer, so much later.
    Late(Duration),
    /// The right answer, compressed.
    Gzip,
    /// The right answer after one that is only informational (103).
    Hints,
    /// The right answer with half a megabyte of headers.
    HugeHead,
    /// The connection reads and writes nothing from now on, and stays open.
    Silence,
    /// HTTP/2: GOAWAY; this request and those after it on its connection are not processed.
    GoAway,
    /// HTTP/2: the stream is refused, and the request not processed.
    Refused,
}

impl WireFault {
    /// Their names, for what is said of a name that is none.
    pub(crate) const NAMES: &'static str =
        "cut, open_end, drip, late(TIME), gzip, hints, huge_head, silence, goaway, refused";

    /// The fault of this name; `late` needs its time.
    pub(crate) fn parse(name: &str, wait: Option<Duration>) -> Option<Result<Self, String>> {
        let plain = |fault| match wait {
            None => Ok(fault),
            Some(_) => Err("only a 429, a 5xx or late can name a time".to_owned()),
        };
        Some(match name {
            "cut" => plain(Self::Cut),
            "open_end" => plain(Self::OpenEnd),
            "drip" => plain(Self::Drip),
            "late" => wait.map(Self::Late).ok_or_else(|| "late needs its time, such as late(12s)".to_owned()),
            "gzip" => plain(Self::Gzip),
            "hints" => plain(Self::Hints),
            "huge_head" => plain(Self::HugeHead),
            "silence" => plain(Self::Silence),
            "goaway" => plain(Self::GoAway),
            "refused" => plain(Self::Refused),
            _ => return None,
        })
    }

    /// What becomes of the message, where the fault leaves no choice.
    pub(crate) const fn decides(self) -> Option<Fares> {
        match self {
            Self::Cut
            | Self::OpenEnd
            | Self::Drip
            | Self::Late(_)
            | Self::Gzip
            | Self::Hints
            | Self::HugeHead => Some(Fares::Sent),
            Self::GoAway | Self::Refused => Some(Fares::NotSent),
            Self::Silence => None,
        }
    }
}

//! The six kinds of provider, and one of something for each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of provider, spelled as in otpd's config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 1MSG.
    #[serde(rename = "onemsg")]
    OneMsg,
    /// Meta's WhatsApp Cloud API.
    MetaCloud,
    /// Meta's WhatsApp on-premises API (sunset in 2025; a self-hosted gateway may still speak it).
    MetaOnprem,
    /// Verihubs WhatsApp OTP V2.
    Verihubs,
    /// Betatel WhatsApp OTP.
    Betatel,
    /// Msgai.
    Msgai,
}

/// A text that names no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such kind; there are onemsg, meta_cloud, meta_onprem, verihubs, betatel, msgai")]
pub struct UnknownKind;

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::OneMsg, Self::MetaCloud, Self::MetaOnprem, Self::Verihubs, Self::Betatel, Self::Msgai];

    /// The kind as configs spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneMsg => "onemsg",
            Self::MetaCloud => "meta_cloud",
            Self::MetaOnprem => "meta_onprem",
            Self::Verihubs => "verihubs",
            Self::Betatel => "betatel",
            Self::Msgai => "msgai",
        }
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One `T` for every kind, so that looking one up cannot fail.
#[derive(Debug, Default)]
pub(crate) struct PerKind<T> {
    onemsg: T,
    meta_cloud: T,
    meta_onprem: T,
    verihubs: T,
    betatel: T,
    msgai: T,
}

impl<T> PerKind<T> {
    pub(crate) fn new(mut make: impl FnMut(Kind) -> T) -> Self {
        Self {
            onemsg: make(Kind::OneMsg),
            meta_cloud: make(Kind::MetaCloud),
            meta_onprem: make(Kind::MetaOnprem),
            verihubs: make(Kind::Verihubs),
            betatel: make(Kind::Betatel),
            msgai: make(Kind::Msgai),
        }
    }

    pub(crate) const fn of(&self, kind: Kind) -> &T {
        match kind {
            Kind::OneMsg => &self.onemsg,
            Kind::MetaCloud => &self.meta_cloud,
            Kind::MetaOnprem => &self.meta_onprem,
            Kind::Verihubs => &self.verihubs,
            Kind::Betatel => &self.betatel,
            Kind::Msgai => &self.msgai,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_alike_everywhere() {
        let each = PerKind::new(|kind| kind);
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
            assert_eq!(*each.of(kind), kind);
        }
        assert_eq!("1msg".parse::<Kind>(), Err(UnknownKind));
    }
}

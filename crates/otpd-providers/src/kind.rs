//! Which provider: the closed list that everything else matches on.

use std::fmt;

/// A kind of provider, as the config's `kind` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Verihubs WhatsApp OTP V2.
    Verihubs,
    /// Msgai (a label of Splashify Pro).
    Msgai,
    /// 1MSG.
    OneMsg,
    /// Meta's WhatsApp Cloud API.
    MetaCloud,
    /// Meta's self-hosted on-premises API: ended by Meta in October 2025, kept for conformance.
    MetaOnPrem,
    /// Betatel WhatsApp OTP.
    Betatel,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Verihubs, Self::Msgai, Self::OneMsg, Self::MetaCloud, Self::MetaOnPrem, Self::Betatel];

    /// The kind as the config spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verihubs => "verihubs",
            Self::Msgai => "msgai",
            Self::OneMsg => "onemsg",
            Self::MetaCloud => "meta_cloud",
            Self::MetaOnPrem => "meta_onprem",
            Self::Betatel => "betatel",
        }
    }

    /// The kind spelled `text`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Where the provider's API is, unless the config says otherwise; `None` for the kind that every
    /// operator hosts for themselves.
    #[must_use]
    pub const fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::Verihubs => Some("https://api.verihubs.com"),
            Self::Msgai => Some("https://api.msgai.in"),
            Self::OneMsg => Some("https://api.1msg.io"),
            Self::MetaCloud => Some("https://graph.facebook.com"),
            Self::MetaOnPrem => None,
            Self::Betatel => Some("https://api.betatel.com"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("Verihubs"), None);
        assert_eq!(Kind::parse("1msg"), None);
    }
}

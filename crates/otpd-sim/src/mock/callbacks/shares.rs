//! What becomes of which share of an account's messages, and of the callbacks about them:
//!
//! ```text
//! undelivered=5%,failed=2%,read=50%,silent=1%,early=5%,shuffled=10%,twice=10%
//! ```

use std::fmt;
use std::str::FromStr;

/// Shares between 0 and 1; none at first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Messages that are sent, and of which nothing is heard any more.
    pub undelivered: f64,
    /// Messages that are reported as failed.
    pub failed: f64,
    /// Messages that are read, among those that are delivered.
    pub read: f64,
    /// Messages that no callback is about, whatever becomes of them.
    pub silent: f64,
    /// Messages whose first callback comes before the answer to their request.
    pub early: f64,
    /// Messages whose callbacks come in another order.
    pub shuffled: f64,
    /// Callbacks that come twice.
    pub twice: f64,
}

/// A text that does not name shares: which part, and what would fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}`: {problem}")]
pub struct InvalidShares {
    part: String,
    problem: &'static str,
}

impl Shares {
    const NAMES: [&'static str; 7] =
        ["undelivered", "failed", "read", "silent", "early", "shuffled", "twice"];

    const fn values(&self) -> [f64; 7] {
        [self.undelivered, self.failed, self.read, self.silent, self.early, self.shuffled, self.twice]
    }

    fn named(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "undelivered" => &mut self.undelivered,
            "failed" => &mut self.failed,
            "read" => &mut self.read,
            "silent" => &mut self.silent,
            "early" => &mut self.early,
            "shuffled" => &mut self.shuffled,
            "twice" => &mut self.twice,
            _ => return None,
        })
    }
}

impl FromStr for Shares {
    type Err = InvalidShares;

    fn from_str(text: &str) -> Result<Self, InvalidShares> {
        let mut shares = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let invalid = |problem| InvalidShares { part: part.to_owned(), problem };
            let (name, share) = part.split_once('=').ok_or_else(|| invalid("must be WHAT=SHARE%"))?;
            let percent = share.trim().strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok());
            let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
            let percent = percent.ok_or_else(|| invalid("a share is 0% to 100%"))?;
            let named = shares.named(name.trim());
            *named.ok_or_else(|| {
                invalid("there are undelivered, failed, read, silent, early, shuffled and twice")
            })? = percent / 100.0;
        }
        if shares.undelivered + shares.failed > 1.000_001 {
            let problem = "undelivered and failed are more than 100 % together";
            return Err(InvalidShares { part: text.to_owned(), problem });
        }
        Ok(shares)
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sign = "";
        for (name, share) in Self::NAMES.into_iter().zip(self.values()).filter(|(_, share)| *share > 0.0) {
            // Two decimals are more than anybody sets.
            write!(f, "{sign}{name}={}%", (share * 10_000.0).round() / 100.0)?;
            sign = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        for text in [
            "",
            "twice=10%",
            "undelivered=5%,failed=0.25%,read=100%,silent=1%,early=5%,shuffled=7%,twice=29%",
        ] {
            assert_eq!(text.parse::<Shares>().unwrap().to_string(), text);
        }
        for (bad, says) in [
            ("twice", "WHAT=SHARE%"),
            ("twice=10", "0% to 100%"),
            ("twice=101%", "0% to 100%"),
            ("twice=-1%", "0% to 100%"),
            ("twice=NaN%", "0% to 100%"),
            ("lost=1%", "there are"),
            ("failed=60%,undelivered=60%", "more than 100 %"),
        ] {
            assert!(bad.parse::<Shares>().unwrap_err().to_string().contains(says), "{bad}");
        }
    }
}

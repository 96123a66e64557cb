//! A recipient's number: E.164, held as an integer, printed only masked.

use std::fmt;

/// An E.164 number of 8 to 15 digits. `Debug` and `Display` mask it (`+62*******890`);
/// [`Phone::expose_digits`] is for the body of a provider's request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phone(u64);

impl Phone {
    /// Accepts `+` and digits, or digits alone. `None` for anything else; country codes never
    /// begin with 0 (ITU-T E.164).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let fits = (8..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0');
        if fits { digits.parse().ok().map(Self) } else { None }
    }

    /// The number in clear, digits without `+`.
    #[must_use]
    pub fn expose_digits(self) -> String {
        self.0.to_string()
    }

    /// The number in clear with its `+`.
    #[must_use]
    pub fn expose_e164(self) -> String {
        format!("+{}", self.0)
    }
}

/// The first two digits, stars, the last three: enough to recognise, too little to call.
impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.ilog10() + 1;
        let head = self.0 / 10u64.pow(digits - 2);
        let tail = self.0 % 1000;
        write!(f, "+{head}")?;
        for _ in 0..digits - 5 {
            f.write_str("*")?;
        }
        write!(f, "{tail:03}")
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e164_with_or_without_plus() {
        for (text, digits) in
            [("+628123456890", "628123456890"), ("628123456890", "628123456890"), ("+12025550", "12025550")]
        {
            assert_eq!(Phone::parse(text).unwrap().expose_digits(), digits);
        }
        for bad in [
            "",
            "+",
            "1234567",
            "+1234567890123456",
            "0812345678",
            "+62 812 345",
            "++62812345",
            "abc",
            "+６２８１２３４５",
        ] {
            assert_eq!(Phone::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn is_masked() {
        for (text, masked) in [
            ("+628123456890", "+62*******890"),
            ("+12025550", "+12***550"),
            ("999999999999007", "+99**********007"),
        ] {
            assert_eq!(format!("{}", Phone::parse(text).unwrap()), masked);
            assert_eq!(format!("{:?}", Phone::parse(text).unwrap()), masked);
        }
    }
}

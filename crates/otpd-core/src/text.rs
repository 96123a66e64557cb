//! Words from outside, made fit to be kept: no codes, no numbers, no control characters, no length.

/// The most characters of a provider's message that are kept.
pub const MAX_DETAIL: usize = 200;

/// A provider's message with everything that could be a code or a phone number starred out: words with
/// three or more digits, words of four or more characters that
/// have any digit (keys, codes), words over 40 characters. Control characters become spaces; at most 200 characters.
#[must_use]
pub fn redacted(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len().min(MAX_DETAIL));
    let cleaned = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut word = String::new();
    let mut kept = 0;
    for c in cleaned.chain(std::iter::once(' ')) {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        kept += push_word(&mut out, &word);
        word.clear();
        out.push(c);
        kept += 1;
        if kept > MAX_DETAIL {
            break;
        }
    }
    out.truncate(out.trim_end().len());
    out.chars().take(MAX_DETAIL).collect::<String>().into_boxed_str()
}

/// Appends `word`, starred when it could be a secret; says how many characters it added.
fn push_word(out: &mut String, word: &str) -> usize {
    let digits = word.chars().filter(|c| c.is_numeric()).count();
    let secret = digits >= 3 || (digits > 0 && word.len() >= 4) || word.len() > 40;
    if secret {
        out.push_str("***");
        3
    } else {
        out.push_str(word);
        word.chars().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_what_could_be_secret() {
        for (text, clean) in [
            ("Invalid API key.", "Invalid API key."),
            ("no such number +628123456890", "no such number +***"),
            ("code 482910 refused", "code *** refused"),
            ("code aB3dE6 refused", "code *** refused"),
            ("Wrong token \"eyJhbGciOi9\" for", "Wrong token \"***\" for"),
            ("a\nb\tc", "a b c"),
            ("retry in 5 s", "retry in 5 s"),
        ] {
            assert_eq!(&*redacted(text), clean);
        }
    }

    proptest! {
        #[test]
        fn never_long_and_never_a_run_of_digits(text in ".{0,600}") {
            let clean = redacted(&text);
            prop_assert!(clean.chars().count() <= MAX_DETAIL);
            prop_assert!(!clean.as_bytes().windows(3).any(|w| w.iter().all(u8::is_ascii_digit)));
        }
    }
}

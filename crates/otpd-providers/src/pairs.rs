//! A query or form as pairs, bounded.

/// The most pairs that are looked at.
const MAX_PAIRS: usize = 64;

/// The value of the first pair called `name`, decoded.
pub(crate) fn value(pairs: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(pairs)
        .take(MAX_PAIRS)
        .find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoded_and_bounded() {
        for (pairs, is) in [
            ("a=1&b=2", Some("2")),
            ("b=%31+%C3%A9&b=3", Some("1 é")),
            ("b", Some("")),
            ("b=%zz%ff", Some("%zz\u{fffd}")),
            ("", None),
            ("&&=&a", None),
        ] {
            assert_eq!(value(pairs.as_bytes(), "b").as_deref(), is, "{pairs}");
        }
        let late = "a=1&".repeat(MAX_PAIRS) + "b=2";
        assert_eq!(value(late.as_bytes(), "b"), None);
    }
}

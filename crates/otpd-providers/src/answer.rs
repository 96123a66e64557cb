//! A provider's answer, and the cautious reading of it.
//!
//! Answers are read as loose JSON, not into types: their shapes are half documented, a field may be a
//! text one day and a number the next, and a field that is odd must not hide the one beside it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use serde_json::Value;

/// What came back over HTTP.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or as much of it as was read. May hold the code in clear (Verihubs repeats it).
    pub body: Bytes,
    /// Whether the body ended before its end: too long, or the connection was lost. It may be whole all
    /// the same, where nothing but the end is missing.
    pub truncated: bool,
}

impl Answer {
    /// What is odd about an answer that nobody could read, in words for an operator.
    pub(crate) fn oddity(&self) -> Option<&'static str> {
        let says = |name: HeaderName, words: &[&str]| {
            let value = self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            words.iter().any(|word| value.trim().to_ascii_lowercase().starts_with(word))
        };
        if says(CONTENT_ENCODING, &["gzip", "x-gzip", "deflate", "br", "zstd", "compress"]) {
            Some(
                "the answer is compressed in a way that is not read, though only plain ones are asked for: is a proxy in between?",
            )
        } else if says(CONTENT_TYPE, &["text/html"]) || self.body.trim_ascii_start().starts_with(b"<") {
            Some("the answer is a page and not the provider's: is a proxy in between, or base_url wrong?")
        } else if self.truncated {
            Some("the answer was cut before its end")
        } else {
            None
        }
    }
}

/// Shows the status and how long the body is.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.truncated { ", cut" } else { "" };
        write!(f, "HTTP {} ({} bytes{cut})", self.status, self.body.len())
    }
}

/// The most characters of a message that are looked at.
const MAX_MESSAGE: usize = 2048;

/// Where providers put their messages: the sentence, and what explains it.
const MESSAGES: [(&str, &str); 6] = [
    ("/message", ""),
    ("/error", ""),
    ("/error/message", "/error/error_data/details"),
    ("/errors/0/title", "/errors/0/details"),
    ("/error/title", "/error/details"),
    ("/description", ""),
];

/// An answer, opened.
pub(crate) struct Reading<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    /// The wait that `Retry-After` asks for.
    pub(crate) wait: Option<Duration>,
    /// The body, where it is a whole JSON object.
    json: Option<Value>,
    body: &'a [u8],
}

impl<'a> Reading<'a> {
    pub(crate) fn new(answer: &'a Answer, wait: Option<Duration>) -> Self {
        // Whether its end was seen does not matter: a part of an object is none.
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        Self {
            status: answer.status,
            headers: &answer.headers,
            wait,
            json: json.filter(Value::is_object),
            body: &answer.body,
        }
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// The value at a JSON pointer.
    pub(crate) fn at(&self, pointer: &str) -> Option<&Value> {
        self.json.as_ref().and_then(|json| json.pointer(pointer))
    }

    /// The text there; a number counts as its digits.
    pub(crate) fn text(&self, pointer: &str) -> Option<Cow<'_, str>> {
        text_of(self.at(pointer)?)
    }

    /// The whole number there; digits in a text count.
    pub(crate) fn integer(&self, pointer: &str) -> Option<i64> {
        self.text(pointer)?.trim().parse().ok()
    }

    /// `true` or `false` there, also as a text: a refusal that is not read as one would be sent again.
    pub(crate) fn flag(&self, pointer: &str) -> Option<bool> {
        match self.at(pointer)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// What the provider says in words. Raw: may hold codes and numbers.
    pub(crate) fn message(&self) -> Option<String> {
        if self.is_json() { self.json_message() } else { self.plain_message() }
    }

    fn json_message(&self) -> Option<String> {
        let (sentence, more) = MESSAGES.iter().find_map(|(sentence, more)| {
            let text = self.text(sentence).filter(|text| !text.trim().is_empty())?;
            Some((text, self.text(more)))
        })?;
        let mut message: String = sentence.chars().take(MAX_MESSAGE).collect();
        if let Some(more) =
            more.filter(|more| !matches!(more.trim(), "" | "-") && !sentence.contains(&**more))
        {
            message.push_str(": ");
            message.extend(more.chars().take(MAX_MESSAGE));
        }
        Some(message)
    }

    /// A body that is no JSON: words, unless it is a page or the beginning of something else.
    fn plain_message(&self) -> Option<String> {
        let text = String::from_utf8_lossy(self.body.get(..MAX_MESSAGE).unwrap_or(self.body));
        let text = text.trim();
        let is_words = !text.is_empty() && !text.starts_with(['<', '{', '[']);
        is_words.then(|| text.to_owned())
    }
}

/// A value as text; a number counts as its digits.
pub(crate) fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &'static str) -> Answer {
        Answer {
            status: 400,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            truncated: false,
        }
    }

    #[test]
    fn finds_the_message() {
        for (body, message) in [
            (r#"{"message":"no"}"#, Some("no")),
            (r#"{"message":null,"error":"no"}"#, Some("no")),
            (r#"{"error":{"message":"no","error_data":{"details":"because"}}}"#, Some("no: because")),
            (r#"{"error":{"message":"no because","error_data":{"details":"because"}}}"#, Some("no because")),
            (r#"{"errors":[{"title":"no","details":"-"}]}"#, Some("no")),
            (r#"{"error":{"title":"no","details":"because"}}"#, Some("no: because")),
            ("subscriptionBlocked", Some("subscriptionBlocked")),
            ("<html>no</html>", None),
            (r#"{"message":"#, None),
            ("[1]", None),
            ("{}", None),
            ("", None),
        ] {
            let answer = answer(body);
            assert_eq!(Reading::new(&answer, None).message().as_deref(), message, "{body}");
        }
    }

    #[test]
    fn odd_types_are_absent_or_read() {
        let answer = answer(r#"{"a":{"b":[7,"8",true,1.5,null,"False","yes"]}}"#);
        let reading = Reading::new(&answer, None);
        assert_eq!(reading.integer("/a/b/0"), Some(7));
        assert_eq!(reading.integer("/a/b/1"), Some(8));
        assert_eq!(reading.integer("/a/b/3"), None);
        assert_eq!(reading.text("/a/b/4"), None);
        assert_eq!(reading.flag("/a/b/2"), Some(true));
        assert_eq!(reading.flag("/a/b/0"), None);
        assert_eq!((reading.flag("/a/b/5"), reading.flag("/a/b/6")), (Some(false), None));
        assert_eq!(reading.text("/a/b/9"), None);
    }
}

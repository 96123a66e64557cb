//! Reading an answer, however it ends.
//!
//! What is lost of the end of an answer is not lost of what came before: its status, and its body where
//! that is whole. So an answer whose length or JSON is complete waits for its end no longer than
//! [`END_WITHIN`], and what ended badly is handed on as it is, marked as cut.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::header::CONTENT_ENCODING;
use reqwest::Response;
use serde::de::IgnoredAny;

use super::inflate::inflate;
use crate::answer::Answer;

/// The most bytes of an answer that are read; what is longer is cut.
pub const MAX_ANSWER: usize = 64 * 1024;
/// How long the end of an answer may take that is otherwise complete. Long enough for an end that
/// comes in another packet: without it the connection is of no further use.
const END_WITHIN: Duration = Duration::from_millis(250);

/// Reads an answer, at most [`MAX_ANSWER`] of it.
pub(crate) async fn read(mut response: Response) -> Answer {
    let status = response.status().as_u16();
    let length = response.content_length();
    let mut headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    let truncated = loop {
        let chunk = {
            let mut chunk = pin!(response.chunk());
            // Usually it is there; only who has to wait asks what for.
            match poll_fn(|cx| Poll::Ready(chunk.as_mut().poll(cx))).await {
                Poll::Ready(chunk) => chunk,
                Poll::Pending if is_complete(&body, length) => {
                    match tokio::time::timeout(END_WITHIN, chunk).await {
                        Ok(chunk) => chunk,
                        Err(_) => break true,
                    }
                }
                Poll::Pending => chunk.await,
            }
        };
        match chunk {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
            Ok(Some(chunk)) => {
                let room = MAX_ANSWER - body.len();
                body.extend(chunk.iter().take(room));
                break true;
            }
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    match inflate(&headers, &body, MAX_ANSWER) {
        Some((plain, is_cut)) => {
            headers.remove(CONTENT_ENCODING);
            Answer { status, headers, body: plain, truncated: truncated || is_cut }
        }
        None => Answer { status, headers, body: body.into(), truncated },
    }
}

/// Whether nothing is missing but the end: by the length that was announced, or else because it is a
/// JSON object.
fn is_complete(body: &[u8], length: Option<u64>) -> bool {
    match length {
        Some(length) => body.len() as u64 >= length,
        None => {
            let ends = body.trim_ascii_end().ends_with(b"}");
            ends && serde_json::from_slice::<IgnoredAny>(body).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_by_length_or_as_json() {
        for (body, length, is) in [
            ("", None, false),
            ("", Some(0), true),
            (r#"{"a":1}"#, None, true),
            ("{\"a\":1}\r\n", None, true),
            (r#"{"a":1"#, None, false),
            (r#"{"a":{}"#, None, false),
            (r#"{"a":1}{"#, None, false),
            ("[1]", None, false),
            (r#"{"a":1}"#, Some(8), false),
            (r#"{"a":1}"#, Some(7), true),
        ] {
            assert_eq!(is_complete(body.as_bytes(), length), is, "{body} {length:?}");
        }
    }
}

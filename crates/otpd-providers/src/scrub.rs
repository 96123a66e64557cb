//! A provider's message, made fit for events, dead letters and logs.
//!
//! The core's redaction stars whatever looks like a code or a number. What it cannot know is that
//! `abcd` is the code of this very job, or `hunter` a password: those are taken out here first.

use otpd_core::SendJob;
use otpd_core::text::redacted;

use crate::secret::Secret;

/// A shorter credential hides nothing, and taking it out would spoil every word it occurs in.
const MIN_SECRET: usize = 4;

/// `message` without the job's code and number, without `secrets`, and redacted; `None` when nothing
/// is left.
pub(crate) fn scrub(message: &str, job: Option<&SendJob>, secrets: &[Secret]) -> Option<Box<str>> {
    let mut text = message.to_owned();
    // The longest first: a short secret must not break up a longer one that contains it.
    let mut hidden: Vec<&str> =
        secrets.iter().map(Secret::expose).filter(|s| s.len() >= MIN_SECRET).collect();
    let digits = job.map(|job| job.to.expose_digits());
    hidden.extend(digits.as_deref());
    hidden.extend(job.map(|job| job.code.expose()));
    hidden.sort_unstable_by_key(|h| std::cmp::Reverse(h.len()));
    for needle in hidden {
        text = without(&text, needle);
    }
    let clean = redacted(&text);
    if clean.trim().is_empty() { None } else { Some(clean) }
}

/// `text` with every `needle` (which is ASCII), in any case, starred out.
fn without(text: &str, needle: &str) -> String {
    if !text.to_ascii_lowercase().contains(&needle.to_ascii_lowercase()) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match rest.split_at_checked(needle.len()) {
            Some((head, tail)) if head.eq_ignore_ascii_case(needle) => {
                out.push_str("***");
                rest = tail;
            }
            Some(_) | None => {
                out.push(c);
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use otpd_core::UnixMs;

    use super::*;

    fn job(code: &str) -> SendJob {
        let body = format!(r#"{{"id":"j","to":"+628123456890","code":"{code}"}}"#);
        SendJob::parse(body.as_bytes(), UnixMs(0)).unwrap()
    }

    #[test]
    fn takes_out_what_only_this_job_knows() {
        let secrets = [Secret::new("hunter"), Secret::new("hunterhunterab")];
        for (message, is) in [
            ("code LOGIN refused", Some("code *** refused")),
            ("code login refused", Some("code *** refused")),
            ("xLoGiNx", Some("x***x")),
            ("to +628123456890 é LOGI", Some("to +*** é LOGI")),
            ("token hunter wrong, hunterhunterab too", Some("token *** wrong, *** too")),
            ("Invalid API key.", Some("Invalid API key.")),
            ("", None),
            ("\n", None),
        ] {
            assert_eq!(scrub(message, Some(&job("LOGIN")), &secrets).as_deref(), is, "{message}");
        }
    }
}

//! AMQP header tables, read with doubt and written plainly. Whatever does not fit is as good as absent.

use lapin::types::{AMQPValue, FieldTable, ShortString};

/// Attempts so far, over all providers.
pub(super) const ATTEMPT: &str = "x-otp-attempt";
/// Moves so far.
pub(super) const HOP: &str = "x-otp-hop";
/// The route a job was published to.
pub(super) const ROUTE: &str = "x-otp-route";
/// When a job was first taken, in milliseconds since 1970 (the `timestamp` property has only seconds).
pub(super) const TAKEN_AT: &str = "x-otp-taken-at";
/// Which life of the job a message belongs to: 0 or absent is the first.
pub(super) const LIFE: &str = "x-otp-life";
/// The time before which a job is not to be attempted, in milliseconds since 1970.
pub(super) const NOT_BEFORE: &str = "x-otp-not-before";
/// When an operator replayed a job, in milliseconds since 1970.
pub(super) const REPLAYED_AT: &str = "x-otp-replayed-at";
/// Attempts of which nobody can tell whether they were sent; absent where there are none.
pub(super) const AMBIGUOUS: &str = "x-otp-ambiguous";
/// How often a job went to another provider although one had accepted it; absent where it never did.
pub(super) const EXTRA: &str = "x-otp-extra";
/// When the lane's provider accepted a job whose delivery is awaited still, in milliseconds since 1970.
pub(super) const ACCEPTED_AT: &str = "x-otp-accepted-at";
/// W3C trace context.
pub(super) const TRACE_PARENT: &str = "traceparent";
/// W3C trace state.
pub(super) const TRACE_STATE: &str = "tracestate";
/// Why a letter is dead.
pub(super) const REASON: &str = "x-otp-reason";
/// The class of its last answer.
pub(super) const CLASS: &str = "x-otp-class";
/// Where it died.
pub(super) const PROVIDER: &str = "x-otp-provider";
/// Its last HTTP status.
pub(super) const HTTP_STATUS: &str = "x-otp-http-status";
/// Attempts made.
pub(super) const ATTEMPTS: &str = "x-otp-attempts";
/// The provider's message, redacted.
pub(super) const DETAIL: &str = "x-otp-detail";
/// When it died, RFC 3339.
pub(super) const DIED_AT: &str = "x-otp-died-at";
/// Where a record stands in its stream.
pub(super) const STREAM_OFFSET: &str = "x-stream-offset";

/// The text under `key`, if it is one of at most `most` bytes.
pub(super) fn text<'a>(table: Option<&'a FieldTable>, key: &str, most: usize) -> Option<&'a str> {
    table?.inner().get(key).and_then(as_text).filter(|t| t.len() <= most)
}

/// The number under `key`, whatever its width, if it is not negative.
pub(super) fn number(table: Option<&FieldTable>, key: &str) -> Option<u64> {
    table?.inner().get(key).and_then(as_number)
}

/// A string of either kind.
pub(super) fn as_text(value: &AMQPValue) -> Option<&str> {
    if let AMQPValue::LongString(text) = value {
        std::str::from_utf8(text.as_bytes()).ok()
    } else if let AMQPValue::ShortString(text) = value {
        Some(text.as_str())
    } else {
        None
    }
}

/// An integer of any width, a timestamp, or digits in a string (some clients send numbers so).
#[allow(clippy::wildcard_enum_match_arm, reason = "the protocol's enum, of which only the numbers matter")]
fn as_number(value: &AMQPValue) -> Option<u64> {
    match value {
        AMQPValue::ShortShortInt(n) => u64::try_from(*n).ok(),
        AMQPValue::ShortShortUInt(n) => Some(u64::from(*n)),
        AMQPValue::ShortInt(n) => u64::try_from(*n).ok(),
        AMQPValue::ShortUInt(n) => Some(u64::from(*n)),
        AMQPValue::LongInt(n) => u64::try_from(*n).ok(),
        AMQPValue::LongUInt(n) => Some(u64::from(*n)),
        AMQPValue::LongLongInt(n) => u64::try_from(*n).ok(),
        AMQPValue::Timestamp(n) => Some(*n),
        other => as_text(other)?.parse().ok(),
    }
}

/// A table in the making.
#[derive(Default)]
pub(super) struct Headers(FieldTable);

impl Headers {
    /// Puts a text under `key`, if there is one.
    pub(super) fn text(mut self, key: &'static str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.0.insert(ShortString::from(key), AMQPValue::LongString(value.into()));
        }
        self
    }

    /// Puts a number under `key`, if there is one.
    pub(super) fn number(mut self, key: &'static str, value: Option<u64>) -> Self {
        if let Some(value) = value.and_then(|v| i64::try_from(v).ok()) {
            self.0.insert(ShortString::from(key), AMQPValue::LongLongInt(value));
        }
        self
    }

    /// The table.
    pub(super) fn table(self) -> FieldTable {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_kind_and_nonsense() {
        for (value, is) in [
            (AMQPValue::ShortShortInt(3), Some(3)),
            (AMQPValue::ShortShortUInt(200), Some(200)),
            (AMQPValue::ShortInt(-1), None),
            (AMQPValue::ShortUInt(65_535), Some(65_535)),
            (AMQPValue::LongInt(i32::MAX), Some(2_147_483_647)),
            (AMQPValue::LongUInt(u32::MAX), Some(4_294_967_295)),
            (AMQPValue::LongLongInt(-5), None),
            (AMQPValue::Timestamp(9), Some(9)),
            (AMQPValue::LongString("12".into()), Some(12)),
            (AMQPValue::ShortString("7".into()), Some(7)),
            (AMQPValue::LongString("many".into()), None),
            (AMQPValue::Double(1.5), None),
            (AMQPValue::Boolean(true), None),
            (AMQPValue::Void, None),
        ] {
            let mut table = FieldTable::default();
            table.insert("n".into(), value.clone());
            assert_eq!(number(Some(&table), "n"), is, "{value:?}");
        }
        assert_eq!(number(None, "n"), None);
    }

    #[test]
    fn texts_are_bounded_and_utf8() {
        let mut table = FieldTable::default();
        table.insert("long".into(), AMQPValue::LongString("abcd".into()));
        table.insert("short".into(), AMQPValue::ShortString("abcd".into()));
        table.insert("bytes".into(), AMQPValue::LongString(vec![0xff, 0xfe].into()));
        table.insert("number".into(), AMQPValue::LongInt(1));
        for (key, most, is) in [
            ("long", 4, Some("abcd")),
            ("long", 3, None),
            ("short", 4, Some("abcd")),
            ("bytes", 9, None),
            ("number", 9, None),
            ("absent", 9, None),
        ] {
            assert_eq!(text(Some(&table), key, most), is, "{key}");
        }
    }
}

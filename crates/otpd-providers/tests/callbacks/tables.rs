//! What the tables of the providers' page say and no example shows.

use otpd_core::{Class, MessageId, Reason};
use otpd_providers::{CallbackRead, Kind};

use crate::{post, word};

/// A part of the tables: what a body says in a word, with the reason and the class where there are some.
type Row = (Kind, &'static str, &'static str, Option<Reason>, Option<Class>);

#[test]
fn between_the_examples() {
    use Kind::{Betatel, MetaCloud, MetaOnPrem, Msgai, OneMsg, Verihubs};
    let unknown = (Some(Reason::UnknownError), Some(Class::Transient));
    let rows: [Row; 33] = [
        (OneMsg, r#"{"ack":[{"id":"a","status":"delivered"}]}"#, "delivered", None, None),
        (OneMsg, r#"{"ack":[{"id":"a","status":"READ"}]}"#, "read", None, None),
        (OneMsg, r#"{"hooks":[{"id":"a","status":"undelivered"}]}"#, "failed", unknown.0, unknown.1),
        (
            OneMsg,
            r#"{"hooks":[{"id":"a","status":"failed","errors":[{"code":131026}]}]}"#,
            "failed",
            Some(Reason::RecipientNotOnWhatsapp),
            Some(Class::Permanent),
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":7,"status":"played"}]}}]}]}"#,
            "read",
            None,
            None,
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":"a","status":"failed"}]}}]}]}"#,
            "failed",
            unknown.0,
            unknown.1,
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":"a","status":"failed","errors":[{"code":"131000"}]}]}}]}]}"#,
            "failed",
            Some(Reason::InternalError),
            Some(Class::Transient),
        ),
        (
            MetaCloud,
            r#"{"entry":[{"changes":[{"value":{"statuses":[{"id":"a","status":"failed","errors":[{"code":999999}]}]}}]}]}"#,
            "failed",
            Some(Reason::UnknownError),
            Some(Class::Permanent),
        ),
        (MetaOnPrem, r#"{"statuses":[{"id":"a","status":"sent"}]}"#, "sent", None, None),
        (
            MetaOnPrem,
            r#"{"statuses":[{"id":"a","status":"failed","errors":[{"code":410}]}]}"#,
            "expired",
            Some(Reason::ExpiredTtl),
            Some(Class::Permanent),
        ),
        // In an answer nobody could tell; a callback says that it failed.
        (
            MetaOnPrem,
            r#"{"statuses":[{"id":"a","status":"failed","errors":[{"code":1014}]}]}"#,
            "failed",
            Some(Reason::InternalError),
            Some(Class::Transient),
        ),
        (Verihubs, r#"{"session_id":"a","status":"0"}"#, "accepted", None, None),
        (Verihubs, "session_id=a&status=1", "sent", None, None),
        (Verihubs, r#"{"session_id":"a","status":2}"#, "delivered", None, None),
        (Verihubs, "session_id=a&status=%34", "verified", None, None),
        (Verihubs, "status=5&session_id=a", "expired", Some(Reason::OtpTimeLimit), None),
        (
            Verihubs,
            "session_id=a&status=6",
            "failed",
            Some(Reason::RecipientNotOnWhatsapp),
            Some(Class::Permanent),
        ),
        (Verihubs, "session_id=a&status=8", "rejected", Some(Reason::RateProvider), Some(Class::RateLimited)),
        (Verihubs, "session_id=a&status=10", "rejected", Some(Reason::TierLimit), Some(Class::Account)),
        (Betatel, r#"{"uuid":"a","status":"SENT"}"#, "sent", None, None),
        (Betatel, r#"{"uuid":"a","status":"READ"}"#, "read", None, None),
        (
            Betatel,
            r#"{"uuid":"a","status":"EXPIRED"}"#,
            "expired",
            Some(Reason::ExpiredTtl),
            Some(Class::Permanent),
        ),
        (Betatel, r#"[{"uuid":"a","status":"DELIVERED"}]"#, "delivered", None, None),
        (Betatel, r#"{"data":{"uuid":"a","status":"DELIVERED"}}"#, "delivered", None, None),
        (Betatel, r#"{"list":[{"uuid":"a","status":"Delivered"}],"total":1}"#, "delivered", None, None),
        (Betatel, r#"{"uuid":"a","status":"SENT","data":{"uuid":"b","status":"READ"}}"#, "sent", None, None),
        (Msgai, r#"{"event":"message.delivered","data":{"message_id":"a"}}"#, "delivered", None, None),
        (Msgai, r#"{"event":"message_sent","data":{"message_id":"a"}}"#, "sent", None, None),
        (Msgai, r#"{"event":"Message_Read","data":{"message_id":"a"}}"#, "read", None, None),
        (
            Msgai,
            r#"{"event":"message.failed","data":{"message_id":"a","error":"no"}}"#,
            "failed",
            unknown.0,
            unknown.1,
        ),
        (
            Msgai,
            r#"{"event":"message.failed","data":{"message_id":"a","error":"(#131026) Message undeliverable"}}"#,
            "failed",
            Some(Reason::RecipientNotOnWhatsapp),
            Some(Class::Permanent),
        ),
        (
            Msgai,
            r#"{"event":"message.failed","data":{"message_id":"a","reason":"(#131043) Message expired"}}"#,
            "expired",
            Some(Reason::ExpiredTtl),
            Some(Class::Permanent),
        ),
        (
            Msgai,
            r#"{"event":"message.failed","data":{"message_id":"a","error":"(#131042) Payment"}}"#,
            "failed",
            Some(Reason::PaymentIssue),
            Some(Class::Account),
        ),
    ];
    for (kind, body, status, reason, class) in rows {
        let read = post(kind, body);
        let CallbackRead::Updates(updates) = &read else { panic!("{kind} {body}: {read:?}") };
        let [update] = updates.as_slice() else { panic!("{kind} {body}: {read:?}") };
        assert_eq!(
            update.message_id.as_ref().map(MessageId::as_str),
            Some(if body.contains(":7") { "7" } else { "a" })
        );
        assert_eq!(
            (word(update.status), update.reason, update.class),
            (status, reason, class),
            "{kind} {body}"
        );
    }
}

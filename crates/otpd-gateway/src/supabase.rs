//! `POST /hooks/supabase/send-sms`: Supabase Auth asks for a code to be sent.
//!
//! Supabase understands few answers, and none of HTTP's usual ones: 200 with `{}` is success; 200 with an `error`
//! object is what its client gets to see; 503 with `Retry-After` is asked again at once, up to three times within
//! 5 s in all. So a queue that is away is answered with 503 at the first attempt, and then with an error object.
//!
//! Each attempt has another `webhook-id`: the job's id is made from what stays the same, `metadata.uuid`, or in
//! older bodies the user and the code, hashed with the hook's secret, for a minute. So the second attempt of a
//! request that was queued is recognised by every gateway and every worker.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otpd_core::{JobId, OtpCode, Phone, RouteName, UnixMs};
use otpd_queue::TraceContext;
use ring::hmac;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use crate::gateway::{Gateway, read_body};
use crate::limits::{HOOK_BODY, HOOK_BODY_WITHIN, HOOK_WITHIN};
use crate::problem::{Problem, ProblemBody};
use crate::settings::{HookSignature, SupabaseHook};
use crate::submission::Submission;
use crate::webhook::{self, Refused};

/// How long a code without a uuid is one and the same.
const SAME_FOR: u64 = 60_000;

/// The hook as it is used.
#[derive(Debug)]
pub(crate) struct Hook {
    keys: Vec<hmac::Key>,
    route: RouteName,
    signature: HookSignature,
}

impl Hook {
    pub(crate) fn new(hook: SupabaseHook) -> Self {
        let keys = match hook.signature {
            HookSignature::Standard => hook.secrets.iter().filter_map(webhook::standard_key).collect(),
            HookSignature::LegacyHex => hook.secrets.iter().map(webhook::legacy_key).collect(),
        };
        Self { keys, route: hook.route, signature: hook.signature }
    }

    fn check(&self, headers: &HeaderMap, body: &[u8], now: UnixMs) -> Result<&hmac::Key, Refused> {
        match self.signature {
            HookSignature::Standard => webhook::standard(&self.keys, headers, body, now),
            HookSignature::LegacyHex => webhook::legacy(&self.keys, headers, body),
        }
    }
}

/// What Supabase asks for. What else is in it is not looked at.
#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    metadata: Option<Metadata>,
    user: User,
    sms: Sms,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    uuid: Option<String>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    phone: Option<String>,
}

#[derive(Deserialize)]
struct Sms {
    otp: String,
    #[serde(default)]
    phone: Option<String>,
}

/// A code that is to be sent.
#[derive(PartialEq, Eq)]
struct Wanted {
    /// One job's ids: the first is used where none of them is known.
    ids: Vec<JobId>,
    to: Phone,
    code: String,
}

impl Wanted {
    /// Reads a body that was signed with `key`; `None` where something is missing.
    fn read(body: &[u8], key: &hmac::Key, now: UnixMs) -> Option<Self> {
        let ask: Ask = serde_json::from_slice(body).ok()?;
        // A change of number goes to the new one.
        let phone = ask.sms.phone.filter(|phone| !phone.is_empty()).or(ask.user.phone)?;
        let to = Phone::parse(&phone)?;
        let code = OtpCode::parse(&ask.sms.otp).map(|_| ask.sms.otp)?;
        let uuid = ask.metadata.and_then(|metadata| metadata.uuid).filter(|uuid| !uuid.is_empty());
        let named = uuid.as_ref().and_then(|uuid| JobId::parse(&format!("supabase-{uuid}")).ok());
        let ids = match named {
            Some(id) => vec![id],
            None => {
                let of = uuid.or(ask.user.id).unwrap_or_else(|| to.expose_digits());
                let minute = now.0 / SAME_FOR;
                [minute, minute.saturating_sub(1)]
                    .iter()
                    .filter_map(|at| hashed(key, &of, &code, *at))
                    .collect()
            }
        };
        Some(Self { ids, to, code })
    }

    /// The job's id: the one that is known, or else the first.
    fn id(&self, gateway: &Gateway) -> Option<JobId> {
        let known = self.ids.iter().find(|id| gateway.recent_ids().knows(id));
        known.or(self.ids.first()).cloned()
    }
}

fn hashed(key: &hmac::Key, of: &str, code: &str, minute: u64) -> Option<JobId> {
    let hash = hmac::sign(key, format!("otpd|{of}|{code}|{minute}").as_bytes());
    let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    JobId::parse(&format!("supabase-{hex}")).ok()
}

/// Supabase Auth's send-sms hook, signed as Standard Webhooks are.
#[utoipa::path(
    post,
    path = "/hooks/supabase/send-sms",
    operation_id = "supabaseSendSms",
    tag = "hooks",
    params(
        ("webhook-id" = String, Header, description = "Another one for each attempt."),
        ("webhook-timestamp" = String, Header, description = "Seconds since 1970; at most 5 minutes off."),
        ("webhook-signature" = String, Header, description = "`v1,` and base64 of the HMAC-SHA256; several with spaces."),
    ),
    request_body(content = serde_json::Value, description = "As Supabase sends it: `user`, `sms`, perhaps `metadata`.", content_type = "application/json"),
    responses(
        (status = 200, description = "Queued (`{}`), or an `error` object that Supabase hands on.", body = serde_json::Value, content_type = "application/json"),
        (status = 401, description = "The signature is not right.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "The hook is off.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The queue did not confirm: ask again at once.", headers(("Retry-After" = u32, description = "Seconds."))),
    ),
)]
pub(crate) async fn send_sms(State(gateway): State<Gateway>, headers: HeaderMap, body: Body) -> Response {
    let live = gateway.live();
    let Some(hook) = &live.supabase else { return Problem::NotFound.into_response() };
    let reading = timeout(HOOK_BODY_WITHIN, read_body(body, HOOK_BODY)).await;
    let body = match reading.unwrap_or(Err(Problem::TooSlow)) {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let now = gateway.clock().wall();
    let key = match hook.check(&headers, &body, now) {
        Ok(key) => key,
        Err(refused) => {
            tracing::warn!(reason = refused.as_str(), "a call of the Supabase hook is not believed");
            return Problem::Unauthorized.into_response();
        }
    };
    let Some(wanted) = Wanted::read(&body, key, now) else {
        tracing::warn!("a call of the Supabase hook names no number or no code that can be sent");
        return told(StatusCode::BAD_REQUEST.as_u16(), "the number or the code cannot be used");
    };
    let Some(id) = wanted.id(&gateway) else {
        return told(StatusCode::BAD_REQUEST.as_u16(), "the message cannot be told from others");
    };
    match timeout(HOOK_WITHIN, queue(&gateway, &hook.route, &wanted, &id)).await {
        Ok(Ok(())) => json_answer(&json!({})),
        Ok(Err(Problem::IdTaken(_))) => told(409, "this message was asked for with another code"),
        Ok(Err(Problem::QueueAway(_) | Problem::NotApplied)) | Err(_)
            if gateway.recent_ids().failed(&id) < 2 =>
        {
            away()
        }
        Ok(Err(Problem::QueueAway(_) | Problem::NotApplied)) | Err(_) => told(
            StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            "the message cannot be sent at the moment, try again",
        ),
        Ok(Err(problem)) => told(problem.status().as_u16(), "the message cannot be sent"),
    }
}

async fn queue(gateway: &Gateway, route: &RouteName, wanted: &Wanted, id: &JobId) -> Result<(), Problem> {
    let body = json!({
        "id": id.as_str(), "route": route.as_str(), "to": wanted.to.expose_e164(), "code": wanted.code,
    });
    let submission =
        Submission::read(body.to_string().as_bytes(), None, gateway.clock().wall(), gateway.recent_ids())?;
    let checked = gateway.check_id(submission, || Ok(()))?;
    gateway.take(checked, &TraceContext::default()).await.map(|_| ())
}

/// Asked again at once.
fn away() -> Response {
    let mut response = json_answer(&json!({}));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// An error that Supabase hands on to its client. The message must not be empty.
fn told(http_code: u16, message: &str) -> Response {
    json_answer(&json!({ "error": { "http_code": http_code, "message": message } }))
}

fn json_answer(body: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use otpd_providers::Secret;
    use serde_json::Value;

    use super::*;

    const CASES: &str = include_str!("../../otpd-providers/tests/data/provider_cases.json");

    fn cases(kind: &str) -> Vec<Value> {
        let all: Vec<Value> = serde_json::from_str(CASES).unwrap();
        all.into_iter().filter(|case| case["provider"] == "supabase_hook" && case["kind"] == kind).collect()
    }

    fn hook(case: &Value) -> Hook {
        let secrets = case["secrets"].as_array().unwrap();
        let legacy = case["mode"] == "legacy_hex";
        Hook::new(SupabaseHook {
            secrets: secrets.iter().map(|secret| Secret::new(secret.as_str().unwrap())).collect(),
            route: RouteName::parse("login").unwrap(),
            signature: if legacy { HookSignature::LegacyHex } else { HookSignature::Standard },
        })
    }

    fn headers(case: &Value) -> HeaderMap {
        let headers = case["headers"].as_object().unwrap().iter();
        headers
            .map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, HeaderValue::from_str(value.as_str().unwrap()).unwrap())
            })
            .collect()
    }

    #[test]
    fn every_documented_call_is_believed_or_not() {
        let all = cases("callback");
        assert!(all.len() >= 7, "{}", all.len());
        for case in all {
            let (hook, body) = (hook(&case), case["body"].as_str().unwrap().as_bytes());
            let now = UnixMs(case["now"].as_u64().unwrap_or(1_760_000_000) * 1000);
            let checked = hook.check(&headers(&case), body, now);
            let expected = &case["expected"];
            if expected["class"] == "verified" {
                let key = checked.unwrap_or_else(|refused| panic!("{}: {refused:?}", case["id"]));
                let wanted = Wanted::read(body, key, now).unwrap();
                assert_eq!(wanted.code, case["otp"].as_str().unwrap());
                assert_eq!(wanted.to, Phone::parse(case["phone"].as_str().unwrap()).unwrap());
                match expected["message_id"].as_str() {
                    Some(uuid) => assert_eq!(wanted.ids[0].as_str(), format!("supabase-{uuid}")),
                    None => assert_eq!(wanted.ids.len(), 2),
                }
            } else {
                let refused = checked.expect_err(case["id"].as_str().unwrap());
                if let Some(reason) = expected["reason"].as_str() {
                    assert_eq!(refused.as_str(), reason, "{}", case["id"]);
                }
            }
        }
    }

    /// What Supabase takes an answer for.
    fn understood(status: u16, kind: Option<&str>, retry_after: bool, body: &str) -> &'static str {
        match status {
            200 | 202 => {}
            429 | 503 if retry_after => return "hook_retry",
            _ => return "hook_error",
        }
        let is_json = kind.is_some_and(|kind| kind.split(';').next() == Some("application/json"));
        match serde_json::from_str::<Value>(body) {
            Ok(body) if is_json => match body["error"]["message"].as_str() {
                Some(message) if !message.is_empty() => "hook_error",
                _ => "hook_ok",
            },
            _ => "hook_error",
        }
    }

    #[tokio::test]
    async fn every_answer_of_ours_is_understood_as_it_is_meant() {
        for case in cases("response") {
            let headers = headers(&case);
            let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
            let kind = headers.get("content-type").map(|kind| kind.to_str().unwrap());
            let is = understood(
                status,
                kind,
                headers.contains_key("retry-after"),
                case["body"].as_str().unwrap_or_default(),
            );
            if status != 204 {
                assert_eq!(is, case["expected"]["class"], "{}", case["id"]);
            }
        }
        for (answer, is) in [
            (json_answer(&json!({})), "hook_ok"),
            (told(409, "another code"), "hook_error"),
            (away(), "hook_retry"),
            (Problem::Unauthorized.into_response(), "hook_error"),
        ] {
            let (parts, body) = answer.into_parts();
            let body = read_body(body, 10_000).await.unwrap();
            let kind = parts.headers.get("content-type").map(|kind| kind.to_str().unwrap());
            let retry = parts.headers.contains_key("retry-after");
            let text = std::str::from_utf8(&body).unwrap();
            assert_eq!(understood(parts.status.as_u16(), kind, retry, text), is, "{text}");
        }
    }

    #[test]
    fn rotation_separators_and_the_window_of_time() {
        let secrets = [
            "v1,whsec_b3RwZC1maXJzdC1zZWNyZXQtb2YtMzItYnl0ZXMhIQ==",
            "v1,whsec_b3RwZC1zZWNvbmQtc2VjcmV0LW9mLTMyLWJ5dGVz",
        ];
        let hook = |used: &[&str]| {
            Hook::new(SupabaseHook {
                secrets: used.iter().map(|secret| Secret::new(*secret)).collect(),
                route: RouteName::parse("login").unwrap(),
                signature: HookSignature::Standard,
            })
        };
        let (body, at) = (br#"{"user":{},"sms":{"otp":"561166","phone":"628123456890"}}"#, 1_760_000_000u64);
        let sign = |secret: &str| {
            use base64::Engine as _;
            let key = webhook::standard_key(&Secret::new(secret)).unwrap();
            let signed = [format!("id-1.{at}.").as_bytes(), body].concat();
            let signature = hmac::sign(&key, &signed);
            format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(signature.as_ref()))
        };
        let [old, new] = secrets.map(sign);
        let check = |hook: &Hook, signatures: &str, now: u64| {
            let mut headers = HeaderMap::new();
            headers.insert("webhook-id", HeaderValue::from_static("id-1"));
            headers.insert("webhook-timestamp", HeaderValue::from(at));
            headers.insert("webhook-signature", HeaderValue::from_str(signatures).unwrap());
            hook.check(&headers, body, UnixMs(now * 1000 + 999)).map(|_| ())
        };
        // Supabase signs with every secret it has; we may have either, or both.
        for signatures in [format!("{old}, {new}"), format!("{old} {new}"), format!("v2,AAAA {new} {old}")] {
            for used in [&secrets[..1], &secrets[1..], &secrets[..]] {
                assert_eq!(check(&hook(used), &signatures, at), Ok(()), "{signatures}");
            }
        }
        let both = hook(&secrets);
        for (signatures, now, refused) in [
            (new.as_str(), at + 300, None),
            (&new, at + 301, Some(Refused::TimestampTooOld)),
            (&new, at - 300, None),
            (&new, at - 301, Some(Refused::TimestampTooNew)),
            ("v1,", at, Some(Refused::BadSignature)),
            ("v1a,AAAA", at, Some(Refused::BadSignature)),
            (new.trim_start_matches("v1,"), at, Some(Refused::BadSignature)),
        ] {
            assert_eq!(check(&both, signatures, now).err(), refused, "{signatures} {now}");
        }
        assert!(webhook::standard_key(&Secret::new("v1,whsec_%%%")).is_none());
        assert!(hook(&[]).check(&HeaderMap::new(), body, UnixMs(0)).is_err());
    }
}

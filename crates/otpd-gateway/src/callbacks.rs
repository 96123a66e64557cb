//! `GET|POST /callbacks/{provider}/{token}` and `/callbacks/{provider}/{token}/{job}`: what providers say of messages.
//!
//! The token in the address comes first, in constant time: without it the address does not exist. Then the
//! provider's own reader looks at the signature, where there is one, and only then at the body. 200 means
//! that everything it said is on the stream, was before, or is kept because its message is not known here
//! ([`crate::early`]); 503 that the queue did not take it: the provider may call again, and otpd tries on too.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use otpd_core::ProviderName;
use otpd_providers::{Callback, CallbackMethod, CallbackRead, Told, Update};

use crate::deliveries::{Heard, Said};
use crate::gateway::{Gateway, read_body};
use crate::problem::Problem;
use crate::settings::CallbackSource;

/// The most parts of an address.
type Parts = HashMap<String, String>;

/// A provider's callback.
pub(crate) async fn one(
    State(gateway): State<Gateway>,
    Path(parts): Path<Parts>,
    method: Method,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let part = |name: &str| parts.get(name).map(String::as_str);
    let live = gateway.live();
    let found = part("provider").and_then(|name| live.callbacks.get(name));
    let token = part("token").unwrap_or_default();
    let Some(source) = found.filter(|source| source.token.is(token)) else {
        return Problem::NotFound.into_response();
    };
    let body = match read_body(body, source.reader.max_body()).await {
        Ok(body) => body,
        Err(problem) => {
            gateway.metrics().callback(&source.provider, "refused");
            return problem.into_response();
        }
    };
    let read = source.reader.read(&Callback {
        method: if method == Method::GET { CallbackMethod::Get } else { CallbackMethod::Post },
        query: query.as_deref().unwrap_or_default(),
        job: part("job"),
        headers: &headers,
        body: &body,
    });
    answer(&gateway, source, read).await
}

async fn answer(gateway: &Gateway, source: &CallbackSource, read: CallbackRead) -> Response {
    let count = |outcome| gateway.metrics().callback(&source.provider, outcome);
    match read {
        CallbackRead::Updates(updates) => {
            let said = updates.into_iter().filter_map(|update| said(&source.provider, update));
            let heard = join_all(said.map(|said| gateway.hear(said))).await;
            for one in &heard {
                count(match one {
                    Heard::Told => "told",
                    Heard::Known => "known",
                    Heard::Kept => "kept",
                    Heard::Away => "away",
                });
            }
            if heard.contains(&Heard::Away) {
                Problem::QueueAway(None).into_response()
            } else {
                StatusCode::OK.into_response()
            }
        }
        CallbackRead::Challenge(text) => {
            count("challenge");
            text.into_response()
        }
        CallbackRead::Ignored(_) => {
            count("ignored");
            StatusCode::OK.into_response()
        }
        CallbackRead::Malformed(why) => {
            count("malformed");
            tracing::debug!(provider = %source.provider, why, "a callback cannot be read");
            Problem::Invalid(format!("the callback {why}")).into_response()
        }
        CallbackRead::Forged => {
            count("forged");
            StatusCode::UNAUTHORIZED.into_response()
        }
    }
}

/// What an update says; `None` where it says what the answer to the request has said.
fn said(provider: &ProviderName, update: Update) -> Option<Said> {
    let status = match update.status {
        Told::Accepted => return None,
        Told::Delivery(status) => status,
    };
    Some(Said {
        provider: provider.clone(),
        message_id: update.message_id,
        job: update.job,
        status,
        at: update.at,
        reason: update.reason,
        class: update.class,
    })
}

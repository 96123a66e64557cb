//! `GET|POST /callbacks/{provider}/{token}` and `/callbacks/{provider}/{token}/{job}`: what providers say of messages.
//!
//! The token in the address comes first, in constant time: without it the address does not exist. Then the
//! provider's own reader looks at the signature, where there is one, and only then at the body. 200 means
//! that everything it said is on the stream, was before, or is kept because its message is not known here
//! ([`crate::early`]); 503 that the queue did not take it: the provider may call again, and otpd tries on too.

use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use otpd_core::ProviderName;
use otpd_providers::{Callback, CallbackMethod, CallbackRead, Told, Update};
use utoipa::IntoResponses;

use crate::deliveries::{Heard, Said};
use crate::gateway::{Gateway, read_body};
use crate::problem::{Problem, ProblemBody};
use crate::settings::CallbackSource;

/// What a provider is answered.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only written down for the OpenAPI document")]
enum Answers {
    /// What it says is on the stream, was before, or is kept because its message is not known yet; or the text of a challenge.
    #[response(status = 200)]
    Taken,
    /// Not a callback of this provider.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemBody),
    /// The signature is not right.
    #[response(status = 401)]
    Forged,
    /// No such provider, or another token.
    #[response(status = 404, content_type = "application/problem+json")]
    Unknown(ProblemBody),
    /// Too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody),
    /// The queue did not confirm: call again.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "Seconds.")))]
    Away(ProblemBody),
}

/// What a provider says of messages.
#[utoipa::path(
    post,
    path = "/callbacks/{provider}/{token}",
    operation_id = "callBack",
    tag = "callbacks",
    params(
        ("provider" = String, Path, description = "The provider's name in the config."),
        ("token" = String, Path, description = "Its `callback_token`."),
    ),
    responses(Answers),
)]
pub(crate) async fn one(
    State(gateway): State<Gateway>,
    Path((provider, token)): Path<(String, String)>,
    request: Request,
) -> Response {
    read(&gateway, &provider, &token, None, request).await
}

/// The same by GET: Verihubs, and the challenge by which Meta registers the address.
#[utoipa::path(
    get,
    path = "/callbacks/{provider}/{token}",
    operation_id = "callBackByGet",
    tag = "callbacks",
    params(
        ("provider" = String, Path, description = "The provider's name in the config."),
        ("token" = String, Path, description = "Its `callback_token`."),
    ),
    responses(Answers),
)]
pub(crate) async fn one_by_get(
    State(gateway): State<Gateway>,
    Path((provider, token)): Path<(String, String)>,
    request: Request,
) -> Response {
    read(&gateway, &provider, &token, None, request).await
}

/// The same at an address that names the job.
#[utoipa::path(
    post,
    path = "/callbacks/{provider}/{token}/{job}",
    operation_id = "callBackOfJob",
    tag = "callbacks",
    params(
        ("provider" = String, Path, description = "The provider's name in the config."),
        ("token" = String, Path, description = "Its `callback_token`."),
        ("job" = String, Path, description = "The job's id."),
    ),
    responses(Answers),
)]
pub(crate) async fn of_job(
    State(gateway): State<Gateway>,
    Path((provider, token, job)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    read(&gateway, &provider, &token, Some(&job), request).await
}

/// The same by GET at an address that names the job.
#[utoipa::path(
    get,
    path = "/callbacks/{provider}/{token}/{job}",
    operation_id = "callBackOfJobByGet",
    tag = "callbacks",
    params(
        ("provider" = String, Path, description = "The provider's name in the config."),
        ("token" = String, Path, description = "Its `callback_token`."),
        ("job" = String, Path, description = "The job's id."),
    ),
    responses(Answers),
)]
pub(crate) async fn of_job_by_get(
    State(gateway): State<Gateway>,
    Path((provider, token, job)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    read(&gateway, &provider, &token, Some(&job), request).await
}

async fn read(
    gateway: &Gateway,
    provider: &str,
    token: &str,
    job: Option<&str>,
    request: Request,
) -> Response {
    let live = gateway.live();
    let Some(source) = live.callbacks.get(provider).filter(|source| source.token.is(token)) else {
        return Problem::NotFound.into_response();
    };
    let (head, body) = request.into_parts();
    let body = match read_body(body, source.reader.max_body()).await {
        Ok(body) => body,
        Err(problem) => {
            gateway.metrics().callback(&source.provider, "refused");
            return problem.into_response();
        }
    };
    let read = source.reader.read(&Callback {
        method: if head.method == Method::GET { CallbackMethod::Get } else { CallbackMethod::Post },
        query: head.uri.query().unwrap_or_default(),
        job,
        headers: &head.headers,
        body: &body,
    });
    answer(gateway, source, read).await
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
            // What is kept for a record that this gateway cannot read at the moment may be lost with it: who repeats
            // is asked to, and what is repeated is recognised.
            let is_blind = heard.contains(&Heard::Kept) && gateway.not_ready().is_some();
            if heard.contains(&Heard::Away) || is_blind {
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

//! The OpenAPI document: gathered from the handlers, which say above themselves what they take and answer, and
//! from the types of the answers. `deploy/schema/openapi.json` is this document; a test keeps it so.

use std::collections::HashMap;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::view::EventView;
use crate::{callbacks, feedback, jobs, states, supabase};

/// A job as `POST /v1/jobs` takes it. Written down for the document alone: bodies are read by the core's parser, and
/// a test holds the two against each other.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct JobRequest {
    /// The route to which the job goes.
    #[schema(pattern = "^[a-z0-9_-]{1,32}$")]
    route: String,
    /// The idempotency key; left out: the header Idempotency-Key, or else a new one.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    id: Option<String>,
    /// The recipient: E.164.
    #[schema(pattern = "^\\+?[1-9][0-9]{7,14}$")]
    to: String,
    /// The code.
    #[schema(pattern = "^[0-9A-Za-z]{4,15}$")]
    code: String,
    /// A newer job for the same `to` and `purpose` replaces one that has not been sent.
    #[schema(max_length = 64)]
    purpose: Option<String>,
    /// Overrides of the provider's defaults.
    template: Option<TemplateRequest>,
    /// When the code was made (RFC 3339). Left out: now.
    #[schema(format = "date-time")]
    created_at: Option<String>,
    /// When the code expires (RFC 3339). Left out: after the route's `ttl`.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
    /// Echoed in every event; at most 512 bytes as JSON.
    metadata: Option<HashMap<String, String>>,
}

/// Overrides of a provider's defaults.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct TemplateRequest {
    /// The template's name at the provider.
    name: Option<String>,
    /// Its language code.
    language: Option<String>,
    /// Its namespace.
    namespace: Option<String>,
}

/// Jobs as `POST /v1/jobs:batch` takes them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct BatchRequest {
    /// 1 to 500 jobs.
    #[schema(min_items = 1, max_items = 500)]
    jobs: Vec<JobRequest>,
}

/// Adds how keys are sent.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A key of the gateway."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer.build()));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "otpd gateway",
        version = "1",
        description = "One-time passwords to phones: jobs in, states out.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    servers((url = "/", description = "The gateway.")),
    paths(
        jobs::one,
        jobs::batch,
        states::one,
        states::events,
        feedback::verified,
        supabase::send_sms,
        callbacks::one,
        callbacks::one_by_get,
        callbacks::of_job,
        callbacks::of_job_by_get,
    ),
    components(schemas(EventView)),
    modifiers(&Keys)
)]
struct Document;

/// The OpenAPI document as JSON.
#[must_use]
pub fn openapi() -> String {
    // Strings and maps: there is nothing that could fail.
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use otpd_core::{SendJob, UnixMs};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_job_has_the_fields_that_its_parser_knows() {
        let document: Value = serde_json::from_str(&openapi()).unwrap();
        let schemas = &document["components"]["schemas"];
        let names = |schema: &str| -> BTreeSet<String> {
            schemas[schema]["properties"].as_object().unwrap().keys().cloned().collect()
        };
        let refused = SendJob::parse(br#"{"id":"a","x":1}"#, UnixMs(0)).unwrap_err().detail;
        let known = refused.split("known are ").nth(1).unwrap().split(", ");
        let (inner, mut outer): (BTreeSet<_>, BTreeSet<_>) =
            known.map(ToOwned::to_owned).partition(|k| k.contains('.'));
        outer.insert("route".to_owned());
        assert_eq!(names("JobRequest"), outer);
        let inner: BTreeSet<String> =
            inner.iter().filter_map(|k| k.strip_prefix("template.")).map(Into::into).collect();
        assert_eq!(names("TemplateRequest"), inner);
        assert_eq!(schemas["JobRequest"]["required"], serde_json::json!(["route", "to", "code"]));
    }

    #[test]
    fn every_call_that_is_served_is_told() {
        let source = include_str!("gateway.rs");
        let document: Value = serde_json::from_str(&openapi()).unwrap();
        let told: BTreeSet<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let served = source.split(".route(").skip(1).filter_map(|rest| rest.split('"').nth(1));
        assert_eq!(told, served.collect());
    }
}

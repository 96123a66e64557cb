//! The documents that tell others what otpd takes and tells: JSON Schemas of the job and of the
//! config, the AsyncAPI document, and the gateway's OpenAPI document. They are generated from types, committed under
//! `deploy/schema/`, and a test keeps the two equal.

pub mod event;
pub mod job;
mod tidy;
mod yaml;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::config::Document;
use event::JobEvent;
use job::SendJobBody;

/// The JSON Schema of a job's body, pretty JSON with a newline at its end.
#[must_use]
pub fn job() -> String {
    let settings = SchemaSettings::draft2020_12().with_transform(tidy::flow);
    pretty(settings.into_generator().into_root_schema_for::<SendJobBody>().as_value())
}

/// The JSON Schema of the config, likewise.
#[must_use]
pub fn config() -> String {
    let settings = SchemaSettings::draft2020_12().with_transform(tidy::never_null).with_transform(tidy::flow);
    pretty(settings.into_generator().into_root_schema_for::<Document>().as_value())
}

/// The AsyncAPI document: a frame written by hand, and the schemas of its messages.
#[must_use]
pub fn asyncapi() -> String {
    // AsyncAPI's own schema language is JSON Schema draft 7.
    let settings = SchemaSettings::draft07()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .with_transform(tidy::flow);
    let mut jobs = settings.clone().into_generator();
    jobs.subschema_for::<SendJobBody>();
    let mut events = settings.with_transform(tidy::never_null).into_generator();
    events.subschema_for::<JobEvent>();
    let mut schemas = jobs.take_definitions(true);
    schemas.extend(events.take_definitions(true));
    let schemas = Value::Object(schemas);
    let mut document = include_str!("asyncapi.yaml").to_owned();
    yaml::write(&mut document, &schemas, 4);
    document
}

/// The OpenAPI document of the gateway, which it gathers from its handlers.
#[must_use]
pub fn openapi() -> String {
    otpd_gateway::openapi()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

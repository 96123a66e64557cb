//! The generated documents: that the committed ones are the generated ones, and that they say the same
//! as the code they describe.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use jsonschema::Validator;
use otpd::schema;
use otpd_core::fact::Timings;
use otpd_core::{
    Class, Fact, FactKind, JobId, JobKeys, Life, MessageId, Metadata, Phone, ProviderName, PurposeKey,
    Reason, RecipientKey, RouteName, SendJob, UnixMs,
};
use serde_json::{Value, json};

const NOW: UnixMs = UnixMs(1_795_167_000_000);
const KEYS: JobKeys = JobKeys { recipient: RecipientKey(7), purpose: PurposeKey(u64::MAX) };

fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

#[test]
fn committed_documents_are_the_generated_ones() {
    for (name, generated, flag) in [
        ("job.schema.json", schema::job(), " --job"),
        ("config.schema.json", schema::config(), ""),
        ("asyncapi.yaml", schema::asyncapi(), " --asyncapi"),
        ("openapi.json", schema::openapi(), " --openapi"),
    ] {
        let path = format!("{}/../../deploy/schema/{name}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "deploy/schema/{name} is out of date; run: cargo run -p otpd -- config schema{flag} > deploy/schema/{name}"
        );
    }
}

#[test]
fn the_job_schema_and_the_parser_take_and_refuse_the_same() {
    let validator = validator(&serde_json::from_str(&schema::job()).unwrap());
    let with = |name: &str, value: Value| {
        let mut job = json!({ "id": "a1", "to": "+628123456890", "code": "482910" });
        job[name] = value;
        job
    };
    let without = |name: &str| {
        let mut job = json!({ "id": "a1", "to": "+628123456890", "code": "482910" });
        job.as_object_mut().unwrap().remove(name);
        job
    };
    let both = [
        (with("id", json!("A.b_c-9")), true),
        (with("id", json!("x".repeat(64))), true),
        (with("id", json!("x".repeat(65))), false),
        (with("id", json!("")), false),
        (with("id", json!("a b")), false),
        (with("id", json!(5)), false),
        (without("id"), false),
        (with("to", json!("628123456890")), true),
        (with("to", json!("+12025550")), true),
        (with("to", json!("+1202555")), false),
        (with("to", json!("+1234567890123456")), false),
        (with("to", json!("0812345678")), false),
        (with("to", json!("+62 812 345")), false),
        (without("to"), false),
        (with("code", json!("aB3dE6")), true),
        (with("code", json!("0".repeat(15))), true),
        (with("code", json!("0".repeat(16))), false),
        (with("code", json!("123")), false),
        (with("code", json!("48-29")), false),
        (with("code", json!(482_910)), false),
        (without("code"), false),
        (with("purpose", json!("log in")), true),
        (with("purpose", json!("é".repeat(64))), true),
        (with("purpose", json!("é".repeat(65))), false),
        (with("purpose", json!("")), false),
        (with("purpose", json!("a\nb")), false),
        (with("purpose", Value::Null), true),
        (with("template", json!({ "name": "otp", "language": "pt_BR", "namespace": "n" })), true),
        (with("template", json!({})), true),
        (with("template", json!({ "name": "" })), false),
        (with("template", json!({ "name": "x".repeat(513) })), false),
        (with("template", json!({ "name": 4 })), false),
        (with("template", json!({ "nome": "otp" })), false),
        (with("template", json!("otp")), false),
        (with("template", Value::Null), true),
        (with("created_at", json!("2026-11-20T09:30:00Z")), true),
        (with("created_at", json!("2026-11-20T16:30:00.250+07:00")), true),
        (with("created_at", json!("noon")), false),
        (with("created_at", json!(1_795_167_000)), false),
        (with("expires_at", json!("2030-11-20T09:35:00Z")), true),
        (with("expires_at", json!("2030-13-20T09:35:00Z")), false),
        (with("metadata", json!({ "user": "u-1" })), true),
        (with("metadata", json!({})), true),
        (with("metadata", json!({ "user": 1 })), false),
        (with("metadata", json!([])), false),
        (with("metadata", Value::Null), true),
        (with("extra", json!(1)), false),
        (json!([]), false),
        (json!("job"), false),
    ];
    for (body, taken) in both {
        assert_eq!(validator.is_valid(&body), taken, "schema: {body}");
        assert_eq!(SendJob::parse(body.to_string().as_bytes(), NOW).is_ok(), taken, "parser: {body}");
    }
    // What a schema cannot say: the parser alone refuses.
    for body in [
        with("expires_at", json!("2020-11-20T09:30:00Z")),
        with("created_at", json!("1969-12-31T23:59:59Z")),
        with("metadata", json!({ "a": "x".repeat(600) })),
        with("template", json!({ "name": "é".repeat(300) })),
    ] {
        assert!(validator.is_valid(&body), "schema: {body}");
        assert!(SendJob::parse(body.to_string().as_bytes(), NOW).is_err(), "parser: {body}");
    }
}

/// The schema of events, taken out of the AsyncAPI document's frame.
fn event_schema() -> Value {
    let document = schema::asyncapi();
    let (_, schemas) = document.split_once("\n  schemas:\n").unwrap();
    let mut schemas = read_yaml(&mut schemas.lines().peekable(), 4);
    let rewritten = schemas.to_string().replace("#/components/schemas/", "#/definitions/");
    schemas = serde_json::from_str(&rewritten).unwrap();
    json!({ "$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/Event", "definitions": schemas })
}

/// Reads the YAML that we write: JSON keys and values, blocks by indentation.
fn read_yaml(lines: &mut std::iter::Peekable<std::str::Lines<'_>>, indent: usize) -> Value {
    let mut object = serde_json::Map::new();
    let mut array = Vec::new();
    while let Some(line) = lines.peek().copied() {
        let depth = line.len() - line.trim_start().len();
        if depth < indent {
            break;
        }
        lines.next();
        let text = line.trim_start();
        let mut value = |rest: &str| {
            let rest = rest.trim();
            if rest.is_empty() { read_yaml(lines, indent + 2) } else { serde_json::from_str(rest).unwrap() }
        };
        if let Some(rest) = text.strip_prefix('-') {
            array.push(value(rest));
        } else {
            let end = text[1..].find('"').unwrap() + 1;
            object.insert(text[1..end].to_owned(), value(&text[end + 2..]));
        }
    }
    if array.is_empty() { Value::Object(object) } else { Value::Array(array) }
}

#[test]
fn every_fact_is_an_event_of_the_document() {
    let validator = validator(&event_schema());
    let mut seen = 0;
    for kind in FactKind::ALL {
        for (class, reason) in Class::ALL.iter().cycle().zip(Reason::ALL) {
            let job = JobId::parse("login-7f3a").unwrap();
            let bare = Fact::new(kind, job, ProviderName::parse("verihubs").unwrap(), NOW);
            let mut full = bare.clone().about(Phone::parse("+628123456890").unwrap()).keyed(KEYS, NOW);
            full.life = Life::after(NOW);
            full.attempt = 2;
            full.route = RouteName::parse("login").ok();
            full.class = Some(*class);
            full.reason = Some(*reason);
            full.http_status = Some(429);
            full.message_id = MessageId::new("wamid.x");
            full.metadata = Metadata::parse(r#"{"user":"u-1"}"#).ok();
            full.next_attempt_at = Some(NOW);
            full.next_provider = ProviderName::parse("msgai").ok();
            full.sent_at = Some(NOW);
            full.timings = Some(Timings { queued_ms: 1, permit_ms: 2, http_ms: 3 });
            full.ceiling_per_second = Some(9.5);
            for fact in [bare, full] {
                let event: Value =
                    serde_json::from_slice(&otpd_core::fact_json::encode(&fact, "otpd/test")).unwrap();
                let wrong: Vec<String> = validator.iter_errors(&event).map(|e| e.to_string()).collect();
                assert!(wrong.is_empty(), "{event}\n{wrong:?}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, FactKind::ALL.len() * Reason::ALL.len() * 2);
}

/// A field that the code writes and the document does not know would pass the test above.
#[test]
fn the_document_knows_every_field_of_a_fact() {
    let schema = event_schema();
    let known = schema["definitions"]["EventData"]["properties"].as_object().unwrap();
    let mut fact =
        Fact::new(FactKind::Accepted, JobId::parse("a").unwrap(), ProviderName::parse("p").unwrap(), NOW);
    fact = fact.about(Phone::parse("+628123456890").unwrap()).keyed(KEYS, NOW).in_life(Life::after(NOW));
    fact.route = RouteName::parse("login").ok();
    (fact.class, fact.extra) = (Some(Class::Accepted), true);
    fact.reason = Some(Reason::MissingId);
    fact.http_status = Some(200);
    fact.message_id = MessageId::new("x");
    fact.metadata = Metadata::parse("{}").ok();
    (fact.next_attempt_at, fact.sent_at) = (Some(NOW), Some(NOW));
    fact.next_provider = ProviderName::parse("q").ok();
    (fact.timings, fact.ceiling_per_second) = (Some(Timings::default()), Some(9.5));
    fact.extra = true;
    let event: Value = serde_json::from_slice(&otpd_core::fact_json::encode(&fact, "otpd/test")).unwrap();
    let written: Vec<&String> = event["data"].as_object().unwrap().keys().collect();
    assert_eq!(written, known.keys().collect::<Vec<_>>());
}

#[test]
fn the_config_schema_takes_the_samples_and_refuses_what_the_reader_refuses() {
    let schema: Value = serde_json::from_str(&schema::config()).unwrap();
    let validator = validator(&schema);
    let as_json = |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    for sample in
        [include_str!("../../../deploy/config/otpd.toml"), include_str!("../../../deploy/config/laptop.toml")]
    {
        let wrong: Vec<String> = validator.iter_errors(&as_json(sample)).map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
    for text in [
        "x = 1",
        "[retry]\ninitial = 5",
        "[retry]\ninitial = \"soon\"",
        "[retry]\nmultiplier = 0.5",
        "[retry]\nmax_attempts = 101",
        "[broker]\nurl = []",
        "[providers.v]",
        "[providers.v]\nkind = \"twilio\"",
        "[providers.v]\nkind = \"msgai\"",
        "[providers.v]\nkind = \"msgai\"\napi_key = { vault = \"x\" }",
        "[providers.v]\nkind = \"msgai\"\napi_key = \"x\"\nphone_number_id = \"1\"",
        "[providers.v]\nkind = \"msgai\"\napi_key = \"x\"\nceiling = \"fast\"",
        "[providers.v]\nkind = \"msgai\"\napi_key = \"x\"\non_ambiguous = \"retry\"",
        "[routes.r]\nproviders = []",
        "[routes.r]\nclass = \"fast\"",
        "[dead]\nkeep_code = \"no\"",
        "[admin]\nlisten = \"9090\"",
        "[limits]\nrecipient = \"often\"",
    ] {
        assert!(!validator.is_valid(&as_json(text)), "schema: {text}");
        let read = otpd::config::Sources::default().load_over(Some(("otpd.toml", text)));
        assert!(read.is_err(), "reader: {text}");
    }
}

//! JSON as YAML blocks: enough for a schema inside a YAML document, and nothing that needs a parser.
//! Texts are written as JSON strings, which YAML reads the same.

use std::fmt::Write;

use serde_json::Value;

/// Appends `value` as a block, `indent` spaces deep.
pub(super) fn write(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let _ = write!(out, "{:indent$}{}:", "", Value::from(key.as_str()));
                below(out, value, indent + 2);
            }
        }
        Value::Array(all) => {
            for value in all {
                let _ = write!(out, "{:indent$}-", "");
                below(out, value, indent + 2);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = writeln!(out, "{:indent$}{value}", "");
        }
    }
}

/// What follows a key or a dash: on the same line where it fits there.
fn below(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            write(out, value, indent);
        }
        Value::Array(all) if all.iter().any(|one| one.is_object() || one.is_array()) => {
            out.push('\n');
            write(out, value, indent);
        }
        Value::Object(_)
        | Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_) => {
            let _ = writeln!(out, " {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn blocks() {
        let mut out = String::new();
        super::write(&mut out, &json!({"a": {"b": [1, "x\n"], "c": {}}, "d": [{"e": null}, [true]]}), 2);
        let expected = "  \"a\":\n    \"b\": [1,\"x\\n\"]\n    \"c\": {}\n  \"d\":\n    -\n      \"e\": null\n    - [true]\n";
        assert_eq!(out, expected);
    }
}

//! The body and button of an authentication template, which 1MSG and both Meta APIs share: the code
//! stands in the body *and* in the copy-code button, which is addressed as a `url` button at index 0.

use std::borrow::Cow;

use serde::Deserialize;

use crate::mock::contract::fits_template;

/// One element of `components` (1MSG: `params`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Component<'a> {
    #[serde(rename = "type", borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    sub_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    index: Option<Index<'a>>,
    #[serde(borrow)]
    parameters: Vec<Parameter<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Index<'a> {
    Number(u64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameter<'a> {
    #[serde(rename = "type", borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// How a provider writes a button's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IndexForm {
    /// `"0"`.
    Text,
    /// `0`.
    Number,
}

/// Why components carry no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// No body component.
    NoBody,
    /// No copy-code button: the code would arrive, but nobody could copy it.
    NoButton,
    /// Not exactly one text in each, or something else beside them.
    Count,
    /// Longer than 15 characters, or empty.
    Length,
    /// Body and button say different codes.
    Differ,
    /// A button that is not `url` at index 0 in the provider's form, or a parameter that is not text.
    Shape,
}

/// The code that both components carry.
pub(crate) fn code<'a>(components: Vec<Component<'a>>, form: IndexForm) -> Result<Cow<'a, str>, Misfit> {
    let (mut body, mut button) = (None, None);
    for component in components {
        let slot = match &*component.role {
            "body" => &mut body,
            "button" => &mut button,
            _ => return Err(Misfit::Shape),
        };
        if slot.is_some() {
            return Err(Misfit::Count);
        }
        if component.role == "button" && !component.is_copy_code(form) {
            return Err(Misfit::Shape);
        }
        *slot = Some(component.only_text()?);
    }
    let body = body.ok_or(Misfit::NoBody)?;
    let button = button.ok_or(Misfit::NoButton)?;
    if !fits_template(&body) || !fits_template(&button) {
        Err(Misfit::Length)
    } else if body != button {
        Err(Misfit::Differ)
    } else {
        Ok(body)
    }
}

impl<'a> Component<'a> {
    fn is_copy_code(&self, form: IndexForm) -> bool {
        let first = match (&self.index, form) {
            (Some(Index::Number(n)), IndexForm::Number) => *n == 0,
            (Some(Index::Text(t)), IndexForm::Text) => t == "0",
            (Some(Index::Number(_)), IndexForm::Text)
            | (Some(Index::Text(_)), IndexForm::Number)
            | (None, IndexForm::Text | IndexForm::Number) => false,
        };
        first && self.sub_type.as_deref() == Some("url")
    }

    fn only_text(self) -> Result<Cow<'a, str>, Misfit> {
        let mut parameters = self.parameters.into_iter();
        match (parameters.next(), parameters.next()) {
            (Some(only), None) if only.role == "text" => Ok(only.text),
            (Some(_), None) => Err(Misfit::Shape),
            (Some(_), Some(_)) | (None, _) => Err(Misfit::Count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"type":"body","parameters":[{"type":"text","text":"482910"}]}"#;

    fn button(index: &str, text: &str) -> String {
        format!(
            r#"{{"type":"button","sub_type":"url","index":{index},"parameters":[{{"type":"text","text":"{text}"}}]}}"#
        )
    }

    fn read(components: &[&str], form: IndexForm) -> Result<String, Misfit> {
        let json = format!("[{}]", components.join(","));
        let components = serde_json::from_str(&json).map_err(|_| Misfit::Shape)?;
        code(components, form).map(Cow::into_owned)
    }

    #[test]
    fn the_code_in_both_places() {
        let (text, number) = (button("\"0\"", "482910"), button("0", "482910"));
        assert_eq!(read(&[BODY, &text], IndexForm::Text).unwrap(), "482910");
        assert_eq!(read(&[&number, BODY], IndexForm::Number).unwrap(), "482910");
        let copy_code = text.replace("url", "copy_code");
        let long = button("\"0\"", "1234567890123456");
        let two = BODY.replace("[{", r#"[{"type":"text","text":"1"},{"#);
        for (components, misfit) in [
            (vec![BODY], Misfit::NoButton),
            (vec![text.as_str()], Misfit::NoBody),
            (vec![BODY, BODY], Misfit::Count),
            (vec![two.as_str(), &text], Misfit::Count),
            (vec![BODY, &number], Misfit::Shape),
            (vec![BODY, &copy_code], Misfit::Shape),
            (vec![BODY, &long], Misfit::Length),
            (vec![BODY, r#"{"type":"header","parameters":[]}"#], Misfit::Shape),
        ] {
            assert_eq!(read(&components, IndexForm::Text), Err(misfit), "{components:?}");
        }
        let other = button("\"0\"", "482911");
        assert_eq!(read(&[BODY, &other], IndexForm::Text), Err(Misfit::Differ));
        let second = button("1", "482910");
        assert_eq!(read(&[BODY, &second], IndexForm::Number), Err(Misfit::Shape));
    }
}

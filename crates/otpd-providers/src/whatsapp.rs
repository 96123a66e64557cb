//! WhatsApp's authentication template as Meta defines it and 1MSG passes it on: the code goes into the
//! body *and* into the copy-code button; either alone is refused.

use serde::Serialize;

use otpd_core::{OtpCode, Reason, SendJob, TemplateChoice};

use crate::settings::DEFAULT_LANGUAGE;

/// One component of the template.
#[derive(Serialize)]
pub(crate) struct Component<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<ButtonIndex>,
    parameters: [Parameter<'a>; 1],
}

/// Which button. The providers disagree on its type.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(crate) enum ButtonIndex {
    /// 1MSG and the Cloud API.
    Text(&'static str),
    /// The on-premises API.
    Number(u8),
}

#[derive(Serialize)]
struct Parameter<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
}

/// The body and the button, both with the code.
pub(crate) fn components(code: &OtpCode, index: ButtonIndex) -> [Component<'_>; 2] {
    let parameters = || [Parameter { kind: "text", text: code.expose() }];
    [
        Component { kind: "body", sub_type: None, index: None, parameters: parameters() },
        Component { kind: "button", sub_type: Some("url"), index: Some(index), parameters: parameters() },
    ]
}

/// The template of a job: its own choice over the provider's default.
#[derive(Clone, Copy)]
pub(crate) struct Template<'a> {
    own: &'a TemplateChoice,
    default: &'a TemplateChoice,
}

impl<'a> Template<'a> {
    pub(crate) fn of(job: &'a SendJob, default: &'a TemplateChoice) -> Self {
        Self { own: &job.template, default }
    }

    /// The name, where either has one.
    pub(crate) fn name(self) -> Option<&'a str> {
        self.own.name.as_deref().or(self.default.name.as_deref())
    }

    /// The name, for a provider that sends nothing without.
    pub(crate) fn needed_name(self) -> Result<&'a str, Reason> {
        self.name().ok_or(Reason::TemplateMissing)
    }

    /// The language, where either has one.
    pub(crate) fn language(self) -> Option<&'a str> {
        self.own.language.as_deref().or(self.default.language.as_deref())
    }

    /// The language, for a provider that must be told.
    pub(crate) fn needed_language(self) -> &'a str {
        self.language().unwrap_or(DEFAULT_LANGUAGE)
    }

    /// The namespace, for a provider that finds no template without.
    pub(crate) fn needed_namespace(self) -> Result<&'a str, Reason> {
        self.own.namespace.as_deref().or(self.default.namespace.as_deref()).ok_or(Reason::TemplateMissing)
    }
}

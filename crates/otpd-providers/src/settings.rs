//! What an operator says about one provider, already parsed into plain types. The values are checked
//! when an [`crate::Adapter`] is made of them.

use otpd_core::TemplateChoice;

use crate::kind::Kind;
use crate::secret::Secret;

/// The language of a template where neither the job nor the config names one and the provider
/// must be told.
pub const DEFAULT_LANGUAGE: &str = "en";
/// The version of Meta's Graph API in the URL, unless the config says otherwise.
pub const DEFAULT_API_VERSION: &str = "v25.0";
/// What Betatel is asked to send, unless the config says otherwise; `{code}` is replaced.
pub const DEFAULT_TEXT: &str = "{code}";

/// One provider's settings. `template` holds the defaults for jobs that name no template of their own.
pub enum ProviderSettings {
    /// 1MSG.
    OneMsg {
        /// `https://host`, optionally with a path.
        base_url: String,
        /// The channel's id: a part of the URL.
        channel_id: String,
        /// The channel's token.
        token: Secret,
        /// Name, language and namespace.
        template: TemplateChoice,
    },
    /// Meta's Cloud API.
    MetaCloud {
        /// `https://host`, optionally with a path.
        base_url: String,
        /// The sending number's id at Meta: a part of the URL.
        phone_number_id: String,
        /// A system user's token.
        token: Secret,
        /// `v25.0` and the like: a part of the URL.
        api_version: String,
        /// Name and language.
        template: TemplateChoice,
    },
    /// Meta's on-premises API.
    MetaOnPrem {
        /// Where the operator runs it.
        base_url: String,
        /// Who logs in.
        username: String,
        /// With which password.
        password: Secret,
        /// Name, language and namespace.
        template: TemplateChoice,
    },
    /// Verihubs.
    Verihubs {
        /// `https://host`, optionally with a path.
        base_url: String,
        /// Header `App-ID`.
        app_id: Secret,
        /// Header `API-Key`.
        api_key: Secret,
        /// Where Verihubs reports deliveries, without the job, which is added as the last part of the path; not sent
        /// when absent.
        callback_url: Option<String>,
        /// Name and language.
        template: TemplateChoice,
    },
    /// Betatel.
    Betatel {
        /// `https://host`, optionally with a path.
        base_url: String,
        /// Header `x-api-key`.
        api_key: Secret,
        /// Header `x-account-id`.
        account_id: Secret,
        /// The message, with `{code}` where the code goes.
        text: String,
    },
    /// Msgai.
    Msgai {
        /// `https://host`, optionally with a path.
        base_url: String,
        /// The raw `sk_live_...` key.
        api_key: Secret,
        /// Name and, where it must differ from the stored one, language.
        template: TemplateChoice,
    },
}

impl ProviderSettings {
    /// Which kind these are for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::OneMsg { .. } => Kind::OneMsg,
            Self::MetaCloud { .. } => Kind::MetaCloud,
            Self::MetaOnPrem { .. } => Kind::MetaOnPrem,
            Self::Verihubs { .. } => Kind::Verihubs,
            Self::Betatel { .. } => Kind::Betatel,
            Self::Msgai { .. } => Kind::Msgai,
        }
    }
}

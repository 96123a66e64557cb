//! Where an operator gets what a kind of provider cannot do without.

use otpd_providers::Kind;

/// Where the value of a required key comes from; `None` for a key that the kind does not require.
pub(super) fn source(kind: Kind, key: &str) -> Option<&'static str> {
    let source = match (kind, key) {
        (Kind::Verihubs, "app_id") => "the App-ID of your application in the Verihubs dashboard",
        (Kind::Verihubs, "api_key") => "the API-Key of your application in the Verihubs dashboard",
        (Kind::Msgai, "api_key") => "an API key (sk_live_...) from Msgai, Settings, Developer",
        (Kind::OneMsg, "channel_id") => "the channel's id in the 1MSG dashboard",
        (Kind::OneMsg, "token") => "the channel's token in the 1MSG dashboard",
        (Kind::MetaCloud, "phone_number_id") => {
            "the phone number's id (not the number) in Meta's app dashboard, WhatsApp, API Setup"
        }
        (Kind::MetaCloud, "token") => {
            "the token of a system user with whatsapp_business_messaging, from Meta's business settings"
        }
        (Kind::MetaOnPrem, "base_url") => "the address of your own WhatsApp Business API web application",
        (Kind::MetaOnPrem, "username") => "a user of your own WhatsApp Business API client",
        (Kind::MetaOnPrem, "password") => "the password of that user",
        (Kind::Betatel, "api_key") => "the x-api-key that Betatel gave you",
        (Kind::Betatel, "account_id") => "the x-account-id that Betatel gave you",
        (
            Kind::Verihubs | Kind::Msgai | Kind::OneMsg | Kind::MetaCloud | Kind::MetaOnPrem | Kind::Betatel,
            _,
        ) => return None,
    };
    Some(source)
}

#[cfg(test)]
mod tests {
    use otpd_providers::keys;

    use super::*;

    #[test]
    fn there_is_one_for_every_required_key() {
        for kind in Kind::ALL {
            for key in keys(kind).required {
                assert!(source(kind, key).is_some(), "{kind} {key}");
            }
        }
    }
}

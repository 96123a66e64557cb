//! Addresses that are spoken to in clear text. On this machine nobody is in between; on the way to another one
//! whoever is can read passwords, keys and codes.

/// True if `url` is `http://` to another machine.
pub(super) fn is_http_elsewhere(url: &str) -> bool {
    url.strip_prefix("http://").is_some_and(|rest| is_elsewhere(host(rest)))
}

/// True if `host` is another machine: a name other than `localhost`, or an address that is not of the loopback.
pub(super) fn is_elsewhere(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => !address.to_canonical().is_loopback(),
        Err(_) => !bare.eq_ignore_ascii_case("localhost"),
    }
}

/// The host of what follows `scheme://`.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => place.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_http_elsewhere;

    #[test]
    fn only_what_leaves_this_machine() {
        for url in [
            "http://h",
            "http://10.0.0.1:8090/path",
            "http://u:p@h:1/",
            "http://[2001:db8::1]:1",
            "http://localhost.example",
            "http://127.0.0.1.example/",
        ] {
            assert!(is_http_elsewhere(url), "{url}");
        }
        for url in [
            "https://h",
            "http://127.0.0.1:8090",
            "http://127.3.2.1/x",
            "http://localhost:1",
            "http://LOCALHOST./",
            "http://[::1]:8090/x",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(!is_http_elsewhere(url), "{url}");
        }
    }
}

//! What is put into a dead letter's body.

use bytes::Bytes;

/// The body as published, or, where codes are not to be kept, without its `code`. A body that cannot
/// be read as an object is then dropped whole: nobody can tell where in it the code is.
#[must_use]
pub fn body(published: &Bytes, keep_code: bool) -> Bytes {
    if keep_code {
        return published.clone();
    }
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(published) {
        Ok(mut fields) => {
            fields.remove("code");
            serde_json::to_vec(&fields).map_or_else(|_| Bytes::new(), Bytes::from)
        }
        Err(_) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_goes_and_the_rest_stays() {
        let published = Bytes::from_static(br#"{"code":"482910","id":"a"}"#);
        assert_eq!(body(&published, true), published);
        assert_eq!(body(&published, false), r#"{"id":"a"}"#);
        assert_eq!(body(&Bytes::from_static(b"482910"), false), "");
    }
}

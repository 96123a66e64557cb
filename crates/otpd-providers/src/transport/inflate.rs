//! Reading an answer that is compressed although only plain ones are asked for: a proxy in between does that. What it
//! holds is the provider's word all the same, and a success that is not understood would be sent a second time.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// The plain body of an answer with these headers, at most `most` bytes of it, and whether something is missing;
/// `None` where it is plain, or compressed in a way that is not read.
pub(super) fn inflate(headers: &HeaderMap, body: &[u8], most: usize) -> Option<(Bytes, bool)> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?.trim().to_ascii_lowercase();
    match encoding.as_str() {
        "gzip" | "x-gzip" => Some(up_to(MultiGzDecoder::new(body), most)),
        // Either is meant by the name, and both are sent.
        "deflate" => match up_to(ZlibDecoder::new(body), most) {
            (plain, _) if plain.is_empty() => Some(up_to(DeflateDecoder::new(body), most)),
            plain => Some(plain),
        },
        _ => None,
    }
}

/// What can be read of it, at most `most` bytes: what came before an unclean end counts.
fn up_to(reader: impl Read, most: usize) -> (Bytes, bool) {
    let mut reader = reader.take(most as u64 + 1);
    let mut plain = Vec::new();
    let ended = reader.read_to_end(&mut plain).is_ok();
    let is_cut = !ended || plain.len() > most;
    plain.truncate(most);
    (plain.into(), is_cut)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &[u8] = br#"{"result":true,"id":"b90f02bd"}"#;

    fn headers(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, http::HeaderValue::from_static(encoding))])
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_compressed_is_read() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(PLAIN).unwrap();
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(PLAIN).unwrap();
        for (encoding, body) in [
            ("gzip", gzip(PLAIN)),
            (" X-GZIP ", gzip(PLAIN)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", deflate.finish().unwrap()),
        ] {
            assert_eq!(inflate(&headers(encoding), &body, 1000), Some((PLAIN.into(), false)), "{encoding}");
        }
        assert_eq!(inflate(&headers("br"), PLAIN, 1000), None);
        assert_eq!(inflate(&HeaderMap::new(), PLAIN, 1000), None);
    }

    #[test]
    fn a_bomb_is_cut_and_an_unclean_end_keeps_what_came() {
        let bomb = gzip(&vec![b'a'; 10_000_000]);
        assert!(bomb.len() < 64 * 1024);
        let (plain, is_cut) = inflate(&headers("gzip"), &bomb, 64 * 1024).unwrap();
        assert_eq!((plain.len(), is_cut), (64 * 1024, true));
        // Without the sum at its end it is whole all the same.
        let body = gzip(PLAIN);
        assert_eq!(inflate(&headers("gzip"), &body[..body.len() - 8], 1000), Some((PLAIN.into(), true)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            for encoding in ["gzip", "deflate"] {
                let _ = inflate(&headers(encoding), &body, 100);
            }
        }
    }
}

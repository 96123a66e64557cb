//! HTTP/2 below the library that speaks it: frames that it would never send, and where one may be put.
//!
//! A server that says GOAWAY while it still works names the last stream it processes; the library knows
//! only how to end well. So the mock writes that frame itself, between two of the library's.

/// The length of a frame's head.
const HEAD: usize = 9;

/// GOAWAY without an error; streams above `last` are not processed.
pub(crate) fn go_away(last: u32) -> Vec<u8> {
    let mut frame = head(8, 7, 0, 0);
    frame.extend(last.to_be_bytes());
    frame.extend(0_u32.to_be_bytes());
    frame
}

/// The head of an informational answer on `stream`: `:status: 103`, told in a way that leaves no
/// trace in the other headers' compression.
pub(crate) fn early_hints(stream: u32) -> Vec<u8> {
    const END_HEADERS: u8 = 4;
    // A literal without indexing whose name is entry 8 of the static table.
    let block = [0x08, 3, b'1', b'0', b'3'];
    let mut frame = head(block.len(), 1, END_HEADERS, stream);
    frame.extend(block);
    frame
}

fn head(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let length = u32::try_from(length).unwrap_or_default().to_be_bytes();
    let mut frame: Vec<u8> = length.into_iter().skip(1).chain([kind, flags]).collect();
    frame.extend(stream.to_be_bytes());
    frame
}

/// Follows what is written, to know where a frame ends.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: Vec<u8>,
    /// What is left of the frame's payload.
    left: usize,
}

impl Frames {
    /// These bytes were written.
    pub(crate) fn written(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if let Some((first, rest)) = bytes.split_first() {
                self.head.push(*first);
                bytes = rest;
            }
            if let (HEAD, [a, b, c, ..]) = (self.head.len(), &*self.head) {
                self.left = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                self.head.clear();
            }
        }
    }

    /// Whether a whole frame was written, and nothing of the next.
    pub(crate) fn is_between(&self) -> bool {
        self.left == 0 && self.head.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_as_the_standard_writes_them() {
        assert_eq!(go_away(5), [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0]);
        assert_eq!(early_hints(3), [0, 0, 5, 1, 4, 0, 0, 0, 3, 8, 3, b'1', b'0', b'3']);
    }

    #[test]
    fn the_end_of_a_frame_is_found_however_it_is_cut() {
        let two: Vec<u8> = [go_away(1), early_hints(1)].concat();
        for size in 1..two.len() {
            let mut frames = Frames::default();
            let mut between = Vec::new();
            let mut written = 0;
            for piece in two.chunks(size) {
                frames.written(piece);
                written += piece.len();
                if frames.is_between() {
                    between.push(written);
                }
            }
            assert!(between.iter().all(|at| [17, 31].contains(at)), "{size}: {between:?}");
            assert_eq!(between.last(), Some(&31), "{size}");
        }
    }
}

//! A small compression bomb: a valid message of permessage-deflate (RFC 7692) that is much larger when it is read.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// Deflates a message as RFC 7692 section 7.2.1 asks: the last four bytes of an empty block are left out.
pub(crate) fn deflated(message: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = encoder.write_all(message);
    let _ = encoder.flush();
    let mut bytes = encoder.get_ref().clone();
    if bytes.ends_with(&[0, 0, 0xff, 0xff]) {
        bytes.truncate(bytes.len() - 4);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn it_inflates_to_the_message() {
        let message = vec![b' '; 1 << 20];
        let mut bytes = deflated(&message);
        assert!(bytes.len() < 2048, "{}", bytes.len());
        // What section 7.2.2 appends before it inflates, and an end.
        bytes.extend([0, 0, 0xff, 0xff, 0x03, 0]);
        let mut read = Vec::new();
        flate2::read::DeflateDecoder::new(bytes.as_slice()).read_to_end(&mut read).unwrap();
        assert_eq!(read, message);
    }
}

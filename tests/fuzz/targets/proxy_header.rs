//! A PROXY header is read once and for all: more bytes never change an answer, and a naive reader agrees.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use wsguard_proto::proxy_protocol::{MAX_HEADER_BYTES, Progress, parse};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The source of a whole header, by the words of the specification; `None`: it is no header.
fn naive(header: &[u8]) -> Option<Option<SocketAddr>> {
    if let Some(rest) = header.strip_prefix(SIGNATURE) {
        let [command, family, _, _, rest @ ..] = rest else { return None };
        return match (command, family) {
            (0x20, _) | (0x21, 0x00 | 0x31) => Some(None),
            (0x21, 0x11) => {
                let ip = Ipv4Addr::new(rest[0], rest[1], rest[2], rest[3]);
                Some(Some((ip, u16::from_be_bytes([rest[8], rest[9]])).into()))
            }
            (0x21, 0x21) => {
                let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&rest[..16]).unwrap());
                Some(Some((ip, u16::from_be_bytes([rest[32], rest[33]])).into()))
            }
            _ => None,
        };
    }
    let line = std::str::from_utf8(header).ok()?.strip_suffix("\r\n")?;
    let words: Vec<&str> = line.split(' ').collect();
    let port = |word: &str| word.parse::<u16>().ok().filter(|port| port.to_string() == word);
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", "TCP4", source, destination, from, to] => {
            let _: (Ipv4Addr, u16) = (destination.parse().ok()?, port(to)?);
            Some(Some((source.parse::<Ipv4Addr>().ok()?, port(from)?).into()))
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            let _: (Ipv6Addr, u16) = (destination.parse().ok()?, port(to)?);
            Some(Some((source.parse::<Ipv6Addr>().ok()?, port(from)?).into()))
        }
        _ => None,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut answer = Progress::NeedMore;
    for len in 0..=bytes.len() {
        let now = parse(&bytes[..len]);
        assert!(answer == Progress::NeedMore || answer == now, "{answer:?}, then {now:?} at {len}");
        assert!(now != Progress::NeedMore || len < MAX_HEADER_BYTES);
        if let (Progress::NeedMore, Progress::Done { header_len, .. }) = (answer, now) {
            assert_eq!(header_len, len, "not done at once");
        }
        answer = now;
    }
    if let Progress::Done { header_len, source } = answer {
        assert!(header_len <= MAX_HEADER_BYTES);
        assert_eq!(naive(&bytes[..header_len]), Some(source));
    }
    // What the naive reader finds to be a line is one, unless it is too long.
    if let Some(end) = bytes.iter().position(|byte| *byte == b'\n').filter(|end| bytes[0] == b'P' && *end < 107) {
        let printable = |byte: &u8| matches!(byte, b' '..=b'~');
        let read = naive(&bytes[..=end]).filter(|_| bytes[..end - 1].iter().all(printable));
        let answer = match answer {
            Progress::Done { header_len, source } if header_len == end + 1 => Some(source),
            _ => None,
        };
        assert!(read.is_none() || answer == read, "{answer:?} instead of {read:?}");
    }
});

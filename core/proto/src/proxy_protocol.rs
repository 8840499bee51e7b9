//! Reads a PROXY protocol header, version 1 or 2, from the first bytes of a connection.
//!
//! It decides only whether the bytes are one, how long it is and which source it tells. Whether the peer may send
//! one is `trusted_proxies` (`client_ip`); that one is required is the listener's. Sections are those of
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::syntax::decimal_u16;

/// No header is longer; a buffer of this size always holds one.
pub const MAX_HEADER_BYTES: usize = V2_FIXED_BYTES + V2_MAX_REST_BYTES;

/// "PROXY UNKNOWN" with two of the longest IPv6 addresses and ports, and CRLF.
const V1_MAX_BYTES: usize = 107;

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

/// Addresses and TLVs. Certificates in TLVs are the longest that are seen.
const V2_MAX_REST_BYTES: usize = 2048;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The beginning of a header: call again with these bytes and more. Never answered to [`MAX_HEADER_BYTES`] bytes.
    NeedMore,
    /// A whole header.
    Done {
        /// How many bytes it has; what follows is the client's.
        header_len: usize,
        /// The address of the client as the proxy sees it; `None` when it does not tell one (`UNKNOWN`, `LOCAL`, a Unix
        /// socket), and the peer's own counts. It may be an IPv4-mapped address (`client_ip::canonical`).
        source: Option<SocketAddr>,
    },
    /// Not a PROXY header, whatever follows: the connection is dropped, `proxy_header_invalid`.
    Invalid,
}

/// Reads the header at the beginning of `bytes`, which are all that was received so far.
///
/// Strict, and decided as early as possible. TLVs are skipped unread. Linear; does not allocate.
pub fn parse(bytes: &[u8]) -> Progress {
    // `None` from either version is `Invalid`.
    match bytes.first() {
        None => Some(Progress::NeedMore),
        Some(b'P') => v1(bytes),
        Some(_) => v2(bytes),
    }
    .unwrap_or(Progress::Invalid)
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443` and CRLF (section 2.1).
fn v1(bytes: &[u8]) -> Option<Progress> {
    let bytes = bytes.get(..V1_MAX_BYTES).unwrap_or(bytes);
    let Some(line_len) = bytes.iter().position(|byte| *byte == b'\r') else {
        return (bytes.len() < V1_MAX_BYTES - 1 && v1_may_begin(bytes)).then_some(Progress::NeedMore);
    };
    let source = v1_source(str::from_utf8(bytes.get(..line_len)?).ok()?)?;
    match bytes.get(line_len + 1) {
        Some(b'\n') => Some(Progress::Done { header_len: line_len + 2, source }),
        None if bytes.len() < V1_MAX_BYTES => Some(Progress::NeedMore),
        _ => None,
    }
}

/// Whether a line can begin so.
fn v1_may_begin(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"PROXY ") else { return b"PROXY ".starts_with(bytes) };
    if let Some(fields) = rest.strip_prefix(b"TCP4 ") {
        fields.iter().all(|byte| byte.is_ascii_digit() || b". ".contains(byte))
    } else if let Some(fields) = rest.strip_prefix(b"TCP6 ") {
        fields.iter().all(|byte| byte.is_ascii_hexdigit() || b":. ".contains(byte))
    } else if let Some(ignored) = rest.strip_prefix(b"UNKNOWN") {
        v1_may_be_ignored(ignored)
    } else {
        [&b"TCP4 "[..], b"TCP6 ", b"UNKNOWN"].into_iter().any(|word| word.starts_with(rest))
    }
}

/// Whether this may follow `UNKNOWN`.
fn v1_may_be_ignored(bytes: &[u8]) -> bool {
    matches!(bytes, [] | [b' ', ..]) && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The source in a line without its CRLF; the outer `None`: the line is invalid.
#[expect(clippy::option_option, reason = "the outer one is for `?`, the inner one is the answer")]
fn v1_source(line: &str) -> Option<Option<SocketAddr>> {
    let rest = line.strip_prefix("PROXY ")?;
    if let Some(ignored) = rest.strip_prefix("UNKNOWN") {
        return v1_may_be_ignored(ignored.as_bytes()).then_some(None);
    }
    let mut fields = rest.split(' ');
    let parse_address = match fields.next()? {
        "TCP4" => |field: &str| field.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => |field: &str| field.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => return None,
    };
    let source = parse_address(fields.next()?)?;
    parse_address(fields.next()?)?;
    let port = decimal_u16(fields.next()?.as_bytes())?;
    decimal_u16(fields.next()?.as_bytes())?;
    fields.next().is_none().then_some(Some(SocketAddr::new(source, port)))
}

/// What a version 2 header tells of the source (section 2.2).
#[derive(Clone, Copy)]
enum V2Family {
    Unspecified,
    Tcp4,
    Tcp6,
    Unix,
}

/// A signature, command, family, the length of the rest, addresses, TLVs.
fn v2(bytes: &[u8]) -> Option<Progress> {
    let signature = bytes.get(..V2_SIGNATURE.len()).unwrap_or(bytes);
    if !V2_SIGNATURE.starts_with(signature) {
        return None;
    }
    let mut fixed = bytes.iter().copied().skip(V2_SIGNATURE.len());
    let Some(command) = fixed.next() else { return Some(Progress::NeedMore) };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return None,
    };
    let Some(family) = fixed.next() else { return Some(Progress::NeedMore) };
    let family = match family {
        // The proxy's own health check: its family must be ignored.
        _ if local => V2Family::Unspecified,
        0x00 => V2Family::Unspecified,
        0x11 => V2Family::Tcp4,
        0x21 => V2Family::Tcp6,
        0x31 => V2Family::Unix,
        _ => return None,
    };
    let Some(high) = fixed.next() else { return Some(Progress::NeedMore) };
    // The high byte alone may already be too much.
    if usize::from(high) << 8 > V2_MAX_REST_BYTES {
        return None;
    }
    let Some(low) = fixed.next() else { return Some(Progress::NeedMore) };
    let rest_len = usize::from(u16::from_be_bytes([high, low]));
    if !(family.address_bytes()..=V2_MAX_REST_BYTES).contains(&rest_len) {
        return None;
    }
    let header_len = V2_FIXED_BYTES + rest_len;
    let Some(rest) = bytes.get(V2_FIXED_BYTES..header_len) else { return Some(Progress::NeedMore) };
    Some(Progress::Done { header_len, source: family.source(rest) })
}

impl V2Family {
    /// How many bytes the two addresses and ports have.
    fn address_bytes(self) -> usize {
        match self {
            V2Family::Unspecified => 0,
            V2Family::Tcp4 => 12,
            V2Family::Tcp6 => 36,
            V2Family::Unix => 216,
        }
    }

    /// Source address, destination address, source port, destination port, in network order.
    fn source(self, rest: &[u8]) -> Option<SocketAddr> {
        let port = |at: usize| Some(u16::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        match self {
            V2Family::Unspecified | V2Family::Unix => None,
            V2Family::Tcp4 => Some(SocketAddr::from((*rest.first_chunk::<4>()?, port(8)?))),
            V2Family::Tcp6 => Some(SocketAddr::from((*rest.first_chunk::<16>()?, port(32)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn done(header_len: usize, source: Option<&str>) -> Progress {
        Progress::Done { header_len, source: source.map(|source| source.parse().unwrap()) }
    }

    /// The whole header is read; every shorter beginning wants more; what follows does not matter.
    #[track_caller]
    fn check_done(header: &[u8], source: Option<&str>) {
        let expected = done(header.len(), source);
        assert_eq!(parse(header), expected, "{}", header.escape_ascii());
        for len in 0..header.len() {
            assert_eq!(parse(&header[..len]), Progress::NeedMore, "{}", header[..len].escape_ascii());
        }
        for follows in [&b"GET / HTTP/1.1\r\n"[..], b"\r\n", b"\0", b"PROXY UNKNOWN\r\n", &[0xff; 3000]] {
            assert_eq!(parse(&[header, follows].concat()), expected, "{}", header.escape_ascii());
        }
    }

    /// Invalid at the last of these bytes, and not before.
    #[track_caller]
    fn check_invalid_at_last_byte(bytes: &[u8]) {
        assert_eq!(parse(bytes), Progress::Invalid, "{}", bytes.escape_ascii());
        let before = &bytes[..bytes.len() - 1];
        assert_eq!(parse(before), Progress::NeedMore, "{}", before.escape_ascii());
        assert_eq!(parse(&[bytes, &[b' '; 3000]].concat()), Progress::Invalid, "{}", bytes.escape_ascii());
    }

    fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &len, rest].concat()
    }

    const TCP4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

    fn tcp6() -> Vec<u8> {
        let (source, destination): (Ipv6Addr, Ipv6Addr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        [&source.octets()[..], &destination.octets(), &[0xdc, 0x04, 0x01, 0xbb]].concat()
    }

    #[test]
    fn v1_headers() {
        check_done(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Some("192.0.2.1:56324"));
        check_done(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535"));
        check_done(b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n", Some("1.2.3.4:0"));
        check_done(b"PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 56324 443\r\n", Some("[2001:db8::1]:56324"));
        check_done(b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n", Some("[::ffff:1.2.3.4]:1"));
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let line = format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n");
        check_done(line.as_bytes(), Some(&format!("[{longest}]:65535")));
        check_done(b"PROXY UNKNOWN\r\n", None);
        check_done(b"PROXY UNKNOWN \r\n", None);
        check_done(b"PROXY UNKNOWN whatever, 1.2.3.4  is here\r\n", None);
        let line = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
        assert_eq!(line.len(), V1_MAX_BYTES);
        check_done(line.as_bytes(), None);
    }

    #[test]
    fn v1_lines_that_are_invalid_at_their_end() {
        let lines = [
            "PROXY",
            "PROXY ",
            "PROXY TCP4",
            "PROXY TCP4 ",
            "PROXY TCP4 1.2.3.4",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 ",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3",
            "PROXY TCP4  1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP4 1.2.3.4  5.6.7.8 1 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 02",
            "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536",
            "PROXY TCP4 1.2.3.4 5.6.7.8 99999999999999999999 2",
            "PROXY TCP4 1.2.3.4 5.6.7.256 1 2",
            "PROXY TCP4 01.2.3.4 5.6.7.8 1 2",
            "PROXY TCP4 1.2.3 5.6.7.8 1 2",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2",
            "PROXY TCP6 ::1 5.6.7.8 1 2",
            "PROXY TCP6 1.2.3.4 ::1 1 2",
            "PROXY TCP6 ::1 ::1 a 2",
            "PROXY TCP6 1::2::3 ::1 1 2",
            "PROXY TCP6 :::1 ::1 1 2",
        ];
        for line in lines {
            check_invalid_at_last_byte(format!("{line}\r").as_bytes());
        }
    }

    #[test]
    fn v1_is_refused_at_the_first_byte_that_cannot_be() {
        let beginnings = [
            "PR0",
            "PROXX",
            "PROXY\t",
            "PROXY  ",
            "PROXY\n",
            "PROXY t",
            "PROXY X",
            "PROXY TCP5",
            "PROXY TCP4\t",
            "PROXY TCP41",
            "PROXY U ",
            "PROXY UD",
            "PROXY UNKNOWNS",
            "PROXY UNKNOWN\n",
            "PROXY UNKNOWN\t",
            "PROXY UNKNOWN a\t",
            "PROXY UNKNOWN a\n",
            "PROXY UNKNOWN a\0",
            "PROXY UNKNOWN \u{7f}",
            "PROXY TCP4 a",
            "PROXY TCP4 :",
            "PROXY TCP4 1.2.3.4\t",
            "PROXY TCP4 1.2.3.4,",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 -",
            "PROXY TCP6 g",
            "PROXY TCP6 [",
            "PROXY TCP6 fe80::1%",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r ",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r",
            "PROXY UNKNOWN\r\r",
            "PROXY UNKNOWN\rx",
        ];
        for beginning in beginnings {
            check_invalid_at_last_byte(beginning.as_bytes());
        }
        check_invalid_at_last_byte(b"PROXY UNKNOWN \xff");
        for first in 0..=u8::MAX {
            let expected = if matches!(first, b'P' | b'\r') { Progress::NeedMore } else { Progress::Invalid };
            assert_eq!(parse(&[first]), expected, "{first:#04x}");
        }
        for request in ["GET / HTTP/1.1\r\n", "\r\nGET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\n", "\x16\x03\x01", "proxy"]
        {
            assert_eq!(parse(request.as_bytes()), Progress::Invalid, "{request:?}");
        }
    }

    #[test]
    fn v1_lines_over_107_bytes_are_invalid() {
        let line = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
        check_done(line(107).as_bytes(), None);
        // No CR in the first 106 bytes: the CRLF cannot be in the first 107.
        check_invalid_at_last_byte(&line(108).as_bytes()[..106]);
        check_invalid_at_last_byte(&b"PROXY UNKNOWN ".iter().copied().chain([b'x'; 92]).collect::<Vec<_>>());
    }

    #[test]
    fn v2_headers() {
        check_done(&v2_header(0x21, 0x11, &TCP4), Some("192.0.2.1:56324"));
        check_done(&v2_header(0x21, 0x21, &tcp6()), Some("[2001:db8::1]:56324"));
        check_done(&v2_header(0x21, 0x31, &[b'/'; 216]), None);
        check_done(&v2_header(0x21, 0x00, &[]), None);
        check_done(&v2_header(0x21, 0x00, &[1; 99]), None);
        check_done(&v2_header(0x20, 0x00, &[]), None);
        // A LOCAL header has no source, whatever its family and block.
        check_done(&v2_header(0x20, 0x11, &TCP4), None);
        check_done(&v2_header(0x20, 0x12, &[]), None);
        check_done(&v2_header(0x20, 0xff, &[7; 5]), None);
        // TLVs are skipped, even malformed ones.
        check_done(&v2_header(0x21, 0x11, &[&TCP4[..], &[0x04, 0, 1, 0]].concat()), Some("192.0.2.1:56324"));
        check_done(&v2_header(0x21, 0x11, &[&TCP4[..], &[0xff; 9]].concat()), Some("192.0.2.1:56324"));
        let longest = [&tcp6()[..], &[0; V2_MAX_REST_BYTES - 36]].concat();
        let header = v2_header(0x21, 0x21, &longest);
        assert_eq!(header.len(), MAX_HEADER_BYTES);
        check_done(&header, Some("[2001:db8::1]:56324"));
    }

    #[test]
    fn v2_is_refused_at_the_first_byte_that_cannot_be() {
        for at in 1..V2_SIGNATURE.len() {
            let mut bytes = V2_SIGNATURE[..=at].to_vec();
            bytes[at] ^= 0x20;
            check_invalid_at_last_byte(&bytes);
        }
        let after_signature: &[&[u8]] = &[
            // version, command
            &[0x00],
            &[0x01],
            &[0x11],
            &[0x22],
            &[0x2f],
            &[0x31],
            &[0xff],
            // UDP, unspecified transports and families
            &[0x21, 0x12],
            &[0x21, 0x22],
            &[0x21, 0x32],
            &[0x21, 0x01],
            &[0x21, 0x02],
            &[0x21, 0x10],
            &[0x21, 0x13],
            &[0x21, 0x20],
            &[0x21, 0x30],
            &[0x21, 0x41],
            &[0x21, 0xff],
            // length: over 2048, or too short for the addresses
            &[0x21, 0x11, 0x09],
            &[0x21, 0x11, 0xff],
            &[0x20, 0x00, 0x80],
            &[0x21, 0x11, 0x08, 0x01],
            &[0x20, 0x00, 0x08, 0x01],
            &[0x21, 0x11, 0, 0],
            &[0x21, 0x11, 0, 11],
            &[0x21, 0x21, 0, 35],
            &[0x21, 0x31, 0, 215],
        ];
        for bytes in after_signature {
            check_invalid_at_last_byte(&[V2_SIGNATURE, bytes].concat());
        }
    }

    proptest! {
        #[test]
        fn no_input_panics_or_waits_for_ever(
            start in proptest::sample::select(vec![
                &b""[..], b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", V2_SIGNATURE,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0",
            ]),
            rest in proptest::collection::vec(any::<u8>(), 0..2100),
        ) {
            let bytes = [start, &rest].concat();
            let progress = parse(&bytes);
            if let Progress::Done { header_len, .. } = progress {
                prop_assert!(header_len <= bytes.len() && header_len <= MAX_HEADER_BYTES);
                prop_assert_eq!(parse(&bytes[..header_len]), progress);
            }
            prop_assert!(progress != Progress::NeedMore || bytes.len() < MAX_HEADER_BYTES);
        }

        #[test]
        fn the_answer_does_not_depend_on_how_the_bytes_arrive(
            version in 0..3_usize, at in any::<proptest::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = match version {
                0 => b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(),
                1 => b"PROXY UNKNOWN x\r\n".to_vec(),
                _ => v2_header(0x21, 0x21, &tcp6()),
            };
            *at.get_mut(&mut bytes) = byte;
            let first_answer = (0..=bytes.len()).map(|len| parse(&bytes[..len])).find(|p| *p != Progress::NeedMore);
            prop_assert_eq!(parse(&bytes), first_answer.unwrap_or(Progress::NeedMore));
        }

        #[test]
        fn v1_text_never_panics(line in "PROXY (TCP[46]|UNKNOWN)[0-9a-f.: ]{0,100}\r?\n?") {
            parse(line.as_bytes());
        }

        #[test]
        fn every_v1_source_is_read_back(source in any::<SocketAddr>(), port in any::<u16>()) {
            let (word, ip) = if source.is_ipv4() { ("TCP4", source.ip()) } else { ("TCP6", source.ip()) };
            let line = format!("PROXY {word} {ip} {ip} {} {port}\r\n", source.port());
            let expected = Progress::Done { header_len: line.len(), source: Some(SocketAddr::new(ip, source.port())) };
            prop_assert_eq!(parse(line.as_bytes()), expected);
        }
    }
}

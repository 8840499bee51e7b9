//! A `ClientHello` of an old TLS version, by hand: a library that speaks TLS 1.0 and 1.1 would be a risk of its own.

/// The versions that RFC 8996 forbids, with their wire form.
pub(crate) const OLD: [(&str, u16); 2] = [("TLS 1.0", 0x0301), ("TLS 1.1", 0x0302)];

/// What old servers choose among; all were in use with TLS 1.0.
const SUITES: [u16; 8] = [0xc014, 0xc013, 0xc00a, 0xc009, 0x0039, 0x0033, 0x0035, 0x002f];

fn prefixed<const N: usize>(bytes: &[u8]) -> Vec<u8> {
    [&bytes.len().to_be_bytes()[size_of::<usize>() - N..], bytes].concat()
}

/// A record with a `ClientHello` (RFC 4346 section 7.4.1.2) that offers this version at most.
pub(crate) fn client_hello(version: u16, host: &str) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    // The nonce protects a connection, and there will be none.
    body.extend([0x5a; 32]);
    body.push(0);
    body.extend(prefixed::<2>(&SUITES.iter().flat_map(|suite| suite.to_be_bytes()).collect::<Vec<_>>()));
    body.extend([1, 0]);
    body.extend(prefixed::<2>(&extensions(host)));
    let handshake = [&[1][..], &prefixed::<3>(&body)].concat();
    [&[22, 3, 1][..], &prefixed::<2>(&handshake)].concat()
}

/// `server_name` (no address: RFC 6066 section 3), `supported_groups`, `ec_point_formats`.
fn extensions(host: &str) -> Vec<u8> {
    let mut all = Vec::new();
    if host.parse::<std::net::IpAddr>().is_err() {
        let name = [&[0][..], &prefixed::<2>(host.as_bytes())].concat();
        all.extend([0, 0]);
        all.extend(prefixed::<2>(&prefixed::<2>(&name)));
    }
    all.extend([0, 10, 0, 6, 0, 4, 0, 23, 0, 24]);
    all.extend([0, 11, 0, 2, 1, 0]);
    all
}

/// What a server answered to a `ClientHello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// Not enough bytes yet.
    Partial,
    /// It goes on with this version.
    Chosen(u16),
    /// It refuses with this alert.
    Alert(u8),
    /// It speaks something else.
    Other,
}

impl Hello {
    /// Whether it goes on with TLS 1.0 or 1.1, or SSL 3.0, and not with a number that is no version.
    pub(crate) fn is_old(self) -> bool {
        matches!(self, Self::Chosen(0x0300..=0x0302))
    }
}

/// Reads the beginning of the answer: an alert, or the version in a `ServerHello`.
pub(crate) fn answer(bytes: &[u8]) -> Hello {
    match bytes {
        [21, _, _, _, _, _, alert, ..] => Hello::Alert(*alert),
        [22, _, _, _, _, 2, _, _, _, major, minor, ..] => Hello::Chosen(u16::from_be_bytes([*major, *minor])),
        [21 | 22, ..] if bytes.len() < 11 => Hello::Partial,
        [] => Hello::Partial,
        _ => Hello::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_fit() {
        for host in ["localhost", "127.0.0.1"] {
            let hello = client_hello(0x0301, host);
            assert_eq!(usize::from(u16::from_be_bytes([hello[3], hello[4]])), hello.len() - 5);
            assert_eq!(usize::from(u16::from_be_bytes([hello[7], hello[8]])), hello.len() - 9);
            assert_eq!(hello[9..11], [3, 1]);
            assert_eq!(hello.windows(9).any(|window| window == b"localhost"), host == "localhost");
        }
    }

    #[test]
    fn rustls_understands_it_and_refuses() {
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut client_hello(0x0302, "localhost").as_slice()).unwrap();
        // It is read to its end, and refused for what it lacks, not for how it is written.
        let (error, _) = acceptor.accept().err().unwrap();
        assert!(!matches!(error, rustls::Error::InvalidMessage(_)), "{error}");
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(answer(&[21, 3, 1, 0, 2, 2, 70]), Hello::Alert(70));
        assert_eq!(answer(&[22, 3, 1, 0, 50, 2, 0, 0, 46, 3, 1]), Hello::Chosen(0x0301));
        assert_eq!(answer(&[22, 3]), Hello::Partial);
        assert!(
            answer(&[22, 3, 1, 0, 50, 2, 0, 0, 46, 3, 2]).is_old()
                && !answer(&[22, 3, 1, 0, 50, 2, 2, 2, 2, 2, 2]).is_old()
        );
        assert_eq!(answer(b"HTTP/1.1 400"), Hello::Other);
    }
}

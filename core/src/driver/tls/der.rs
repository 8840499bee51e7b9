//! The little of X.509 and PKCS #8 (DER) that an error or a warning is about: what kind of key it is, and when a
//! certificate is valid. Nothing here decides what is accepted.

/// What a private key is, as far as that can be a reason to refuse it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// RSA with a modulus of so many bits.
    Rsa(usize),
    /// A named curve, or `None` for one that has no name here.
    Ec(Option<&'static str>),
    /// Another algorithm.
    Other,
}

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const CURVES: [(&[u8], &str); 5] = [
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], "P-256"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], "P-384"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], "P-521"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x0a], "secp256k1"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x21], "P-224"),
];

/// The first element: its tag, what it holds, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// The first element, which has this tag: what it holds, and what follows it.
fn expect(wanted: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(tag, ..)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

/// The kind of a key in PKCS #8 (RFC 5208).
pub(crate) fn pkcs8(der: &[u8]) -> Option<KeyKind> {
    let (key, _) = expect(SEQUENCE, der)?;
    let (_, key) = expect(INTEGER, key)?;
    let (algorithm, key) = expect(SEQUENCE, key)?;
    let (name, parameters) = expect(OID, algorithm)?;
    match name {
        RSA => pkcs1(expect(OCTETS, key)?.0),
        EC => Some(KeyKind::Ec(curve(parameters))),
        _ => Some(KeyKind::Other),
    }
}

/// The kind of a key in PKCS #1 (RFC 8017).
pub(crate) fn pkcs1(der: &[u8]) -> Option<KeyKind> {
    let (key, _) = expect(SEQUENCE, der)?;
    let (_, key) = expect(INTEGER, key)?;
    bits_of_integer(key).map(KeyKind::Rsa)
}

/// The size of an integer that is not zero.
fn bits_of_integer(der: &[u8]) -> Option<usize> {
    let (digits, _) = expect(INTEGER, der)?;
    let first = digits.iter().position(|byte| *byte != 0)?;
    Some((digits.len() - first) * 8 - digits[first].leading_zeros() as usize)
}

/// The kind of a key in SEC 1 (RFC 5915).
pub(crate) fn sec1(der: &[u8]) -> Option<KeyKind> {
    let (key, _) = expect(SEQUENCE, der)?;
    let (_, key) = expect(INTEGER, key)?;
    let (_, key) = expect(OCTETS, key)?;
    Some(KeyKind::Ec(expect(CONTEXT_0, key).and_then(|(parameters, _)| curve(parameters))))
}

fn curve(parameters: &[u8]) -> Option<&'static str> {
    let (name, _) = expect(OID, parameters)?;
    CURVES.iter().find(|(oid, _)| *oid == name).map(|(_, name)| *name)
}

/// A moment as `20261231235959`: these texts sort as the moments do.
pub(crate) type Stamp = String;

/// From when until when a certificate is valid (RFC 5280 section 4.1.2.5).
pub(crate) fn validity(certificate: &[u8]) -> Option<(Stamp, Stamp)> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (to_be_signed, _) = expect(SEQUENCE, certificate)?;
    let rest = expect(CONTEXT_0, to_be_signed).map_or(to_be_signed, |(_, rest)| rest);
    let (_, rest) = expect(INTEGER, rest)?;
    let (_, rest) = expect(SEQUENCE, rest)?;
    let (_, rest) = expect(SEQUENCE, rest)?;
    let (times, _) = expect(SEQUENCE, rest)?;
    let (from, times) = time(times)?;
    let (until, _) = time(times)?;
    Some((from, until))
}

fn time(der: &[u8]) -> Option<(Stamp, &[u8])> {
    let (tag, text, rest) = element(der)?;
    let digits = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let stamp = match tag {
        UTC_TIME if digits.len() == 12 => format!("{}{digits}", if digits < "50" { "20" } else { "19" }),
        GENERALIZED_TIME if digits.len() == 14 => digits.to_owned(),
        _ => return None,
    };
    stamp.bytes().all(|digit| digit.is_ascii_digit()).then_some((stamp, rest))
}

/// Seconds since the Unix epoch as a [`Stamp`].
pub(crate) fn stamp(unix_s: u64) -> Stamp {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days since 1 March of year 0, in eras of 400 years: a leap day is the last day of such a year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// From when until when a certificate is valid, in seconds since the Unix epoch, as far as it says so.
pub(crate) fn validity_unix_s(certificate: &[u8]) -> (Option<u64>, Option<u64>) {
    validity(certificate).map_or((None, None), |(from, until)| (unix_s(&from), unix_s(&until)))
}

/// The names of issuer and subject of a certificate, as they are encoded (RFC 5280 sections 4.1.2.4 and 4.1.2.6), without tag and
/// length. `None`: it is no certificate.
pub fn parties(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    parties_and_key(certificate).map(|(issuer, subject, _)| (issuer, subject))
}

/// How many bits the modulus of a certificate's key has, where that is of RSA (RFC 8017).
pub fn rsa_bits(certificate: &[u8]) -> Option<usize> {
    let (.., rest) = parties_and_key(certificate)?;
    let (key, _) = expect(SEQUENCE, rest)?;
    let (algorithm, key) = expect(SEQUENCE, key)?;
    expect(OID, algorithm).filter(|(name, _)| *name == RSA)?;
    let (_, key) = expect(BITS, key)?.0.split_first()?;
    bits_of_integer(expect(SEQUENCE, key)?.0)
}

/// Issuer and subject, and what begins with the key.
fn parties_and_key(certificate: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (to_be_signed, _) = expect(SEQUENCE, certificate)?;
    let rest = expect(CONTEXT_0, to_be_signed).map_or(to_be_signed, |(_, rest)| rest);
    let (_, rest) = expect(INTEGER, rest)?;
    let (_, rest) = expect(SEQUENCE, rest)?;
    let (issuer, rest) = expect(SEQUENCE, rest)?;
    let (_, rest) = expect(SEQUENCE, rest)?;
    let (subject, rest) = expect(SEQUENCE, rest)?;
    Some((issuer, subject, rest))
}

/// When a certificate expires, in seconds since the Unix epoch.
pub(crate) fn expires_at(certificate: &[u8]) -> Option<u64> {
    unix_s(&validity(certificate)?.1)
}

/// A [`Stamp`] as seconds since the Unix epoch; `None`: it is no date, or before that.
fn unix_s(stamp: &str) -> Option<u64> {
    let part = |range: core::ops::Range<usize>| stamp.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(8..10)?, part(10..12)?, part(12..14)?);
    // As in `stamp`: a year begins with March.
    let year = if month < 3 { year.checked_sub(1)? } else { year };
    let month = (month + 9) % 12;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day.checked_sub(1)?;
    Some(days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second)
}

/// What a client would have against the certificate at `now`, if it is about time.
pub(crate) fn untimely(certificate: &[u8], now: &str) -> Option<String> {
    let (from, until) = validity(certificate)?;
    let date = |stamp: &str| format!("{}-{}-{}", &stamp[..4], &stamp[4..6], &stamp[6..8]);
    if now > until.as_str() {
        return Some(format!("expired on {}", date(&until)));
    }
    (now < from.as_str()).then(|| format!("is not valid before {}", date(&from)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(from: i32, until: i32) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from, 2, 3);
        parameters.not_after = rcgen::date_time_ymd(until, 2, 3);
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for (unix_s, text) in [
            (0, "19700101000000"),
            (951_782_399, "20000228235959"),
            (951_782_400, "20000229000000"),
            (1_709_164_800, "20240229000000"),
            (1_735_689_599, "20241231235959"),
            (4_107_542_400, "21000301000000"),
            (253_402_300_799, "99991231235959"),
        ] {
            assert_eq!(stamp(unix_s), text);
            assert_eq!(super::unix_s(text), Some(unix_s));
        }
    }

    #[test]
    fn certificates_tell_their_time() {
        let old = certificate(2001, 2002);
        assert_eq!(validity(&old), Some(("20010203000000".into(), "20020203000000".into())));
        assert_eq!(expires_at(&old), Some(1_012_694_400));
        assert_eq!(untimely(&old, "20020203000000"), None);
        assert_eq!(untimely(&old, "20020203000001").as_deref(), Some("expired on 2002-02-03"));
        assert_eq!(untimely(&old, "20001231000000").as_deref(), Some("is not valid before 2001-02-03"));
        // From 2050 on the other form of time is used.
        assert_eq!(
            untimely(&certificate(2051, 2052), "20260101000000").as_deref(),
            Some("is not valid before 2051-02-03")
        );
        assert_eq!(untimely(b"no certificate", "20260101000000"), None);
    }

    #[test]
    fn the_issuer_is_found_and_a_torn_certificate_has_none() {
        let der = certificate(2001, 2002);
        let (issuer, subject) = parties(&der).unwrap();
        assert!(issuer.windows(5).any(|window| window == b"rcgen"), "{issuer:?}");
        assert_eq!(issuer, subject);
        for length in 0..der.len() {
            assert_eq!(parties(&der[..length]), None, "{length}");
        }
    }

    #[test]
    fn keys_tell_their_kind() {
        let key = rcgen::KeyPair::generate().unwrap();
        assert_eq!(pkcs8(&key.serialize_der()), Some(KeyKind::Ec(Some("P-256"))));
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(pkcs8(&key.serialize_der()), Some(KeyKind::Other));
        let sec1_key = [&[0x30, 0x0f, 2, 1, 1, 4, 1, 7, 0xa0, 7, 6, 5][..], &[0x2b, 0x81, 4, 0, 0x0a]].concat();
        assert_eq!(sec1(&sec1_key), Some(KeyKind::Ec(Some("secp256k1"))));
        let modulus = [&[0x30, 0x82, 0, 10, 2, 1, 0, 2, 5, 0][..], &[0x80, 0, 0, 1]].concat();
        assert_eq!(pkcs1(&modulus), Some(KeyKind::Rsa(32)));
    }

    proptest! {
        #[test]
        fn damaged_der_is_no_panic(at in 0..2000_usize, byte in any::<u8>(), end in 0..2000_usize) {
            let mut der = certificate(2001, 2002);
            let len = der.len();
            der[at % len] = byte;
            der.truncate(1 + end % len);
            let _ = (parties(&der), rsa_bits(&der), untimely(&der, "20260101000000"), pkcs8(&der), pkcs1(&der), sec1(&der));
        }
    }
}

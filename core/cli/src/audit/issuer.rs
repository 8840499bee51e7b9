//! Who says to have signed a certificate: the verifier does not tell.

/// The issuer's name in a certificate in DER, without tag and length: as the subject of an authority.
pub(crate) fn of(certificate: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(certificate)?;
    let (_, signed, _) = element(certificate)?;
    let (tag, _, behind) = element(signed)?;
    // The version stands before the serial number, and may be left out.
    let serial = if tag == 0xA0 { behind } else { signed };
    let (_, _, algorithm) = element(serial)?;
    let (_, _, issuer) = element(algorithm)?;
    Some(element(issuer)?.1)
}

/// The first element: its tag, its content, and what stands behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        // Certificates are far shorter than three bytes can say.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((tag, content, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_is_found_and_a_torn_certificate_has_none() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let der: &[u8] = made.cert.der();
        let issuer = of(der).unwrap();
        assert!(issuer.windows(5).any(|window| window == b"rcgen"), "{issuer:?}");
        for length in 0..der.len() {
            assert_eq!(of(&der[..length]), None, "{length}");
        }
    }
}

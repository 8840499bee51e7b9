//! TLS and its absence, and whether the server outlived the audit.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;

use crate::audit::examiner::{Examiner, Opening, Unreached};
use crate::audit::hello::{self, Hello};
use crate::audit::ruling::{Ruled, Ruling, Severity};
use crate::audit::text::shown;
use crate::audit::tls::{self, CertificateFault, SOON_DAYS};
use crate::wire::End;
use crate::wire::Got;

pub(crate) fn plaintext(examiner: &Examiner) -> Ruled {
    let sent = "the URL as it was given";
    Ok(match (examiner.target.at.is_tls, examiner.is_loopback()) {
        (true, _) => Ruling::passed(sent, "wss://"),
        (false, true) => Ruling::passed(sent, "ws:// on this machine alone"),
        (false, false) => {
            Ruling::finding(Severity::Medium, sent, "ws:// to another machine: every hop reads and changes it")
        }
    })
}

pub(crate) fn tls_versions(examiner: &Examiner) -> Ruled {
    if examiner.tls.is_none() {
        return Ok(Ruling::skipped("the URL is ws://"));
    }
    let rulings = hello::OLD.iter().map(|(name, version)| {
        let sent = format!("a ClientHello of {name}");
        match old_hello(examiner, *version) {
            Ok(answer) if answer.is_old() => Ruling::finding(Severity::Medium, sent, "the server goes on with it"),
            Ok(Hello::Alert(alert)) => Ruling::passed(sent, format!("alert {alert}")),
            Ok(Hello::Partial) => Ruling::passed(sent, "the connection was closed"),
            Ok(Hello::Chosen(_) | Hello::Other) => Ruling::unknown(sent, "the answer is no TLS of that version"),
            Err(why) => Ruling::unknown(sent, why),
        }
    });
    Ok(Ruling::worst(&rulings.collect::<Vec<_>>()))
}

/// Whether it goes on with a version that this audit does not speak, asked where it goes on with none that it does.
pub(crate) fn has_only_old_tls(examiner: &Examiner) -> bool {
    examiner.tls.is_some()
        && hello::OLD.iter().any(|(_, version)| old_hello(examiner, *version).is_ok_and(Hello::is_old))
}

/// Sends an old `ClientHello`. An end without an answer is `Partial`.
fn old_hello(examiner: &Examiner, version: u16) -> Result<Hello, String> {
    let mut wire = examiner.dial_plain().map_err(|why| why.to_string())?;
    let bytes = hello::client_hello(version, &examiner.target.at.host);
    wire.write(&bytes, examiner.timeout).map_err(End::shown)?;
    let (began, mut head, mut buffer) = (Instant::now(), Vec::new(), [0; 512]);
    loop {
        let left = examiner.purse.within(examiner.timeout).saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err("no answer in time".to_owned());
        }
        match wire.read(&mut buffer, left) {
            Got::Bytes(count) => head.extend(&buffer[..count]),
            Got::Nothing => continue,
            Got::End(_) => return Ok(Hello::Partial),
        }
        match hello::answer(&head) {
            Hello::Partial => {}
            answer => return Ok(answer),
        }
    }
}

/// The severity of a fault, and its words.
fn certificate_fault(fault: &CertificateFault, loopback: bool) -> (Severity, String) {
    match fault {
        CertificateFault::NotValidNow => (Severity::High, "it is past its end, or not yet valid".to_owned()),
        CertificateFault::OtherName => (Severity::High, "it is for another name".to_owned()),
        // A developer's own certificate is no risk to others.
        CertificateFault::UnknownIssuer if loopback => {
            (Severity::Low, "no authority known here has signed it (--ca names a private one)".to_owned())
        }
        CertificateFault::UnknownIssuer => {
            (Severity::High, "no authority known here has signed it (--ca names a private one)".to_owned())
        }
        CertificateFault::EndsSoon => (Severity::Low, format!("it ends within {SOON_DAYS} days")),
        CertificateFault::Authority(why) if loopback => (Severity::Low, shown(why)),
        CertificateFault::Authority(why) | CertificateFault::Other(why) => (Severity::Medium, shown(why)),
    }
}

pub(crate) fn tls_certificate(examiner: &Examiner) -> Ruled {
    let Some((_, name)) = &examiner.tls else { return Ok(Ruling::skipped("the URL is ws://")) };
    let sent = "a TLS handshake";
    let wire = examiner.dial(None).map_err(|why| Ruling::unknown(sent, why))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let roots = examiner.authorities.clone();
    let judged = tls::judge(&wire.certificates(), name, roots, UnixTime::since_unix_epoch(now));
    Ok(match judged {
        Err(why) => Ruling::unknown(sent, why),
        Ok(None) => Ruling::passed(sent, "the certificate is valid for this name, and for the next two weeks"),
        Ok(Some(fault)) => {
            let (severity, words) = certificate_fault(&fault, examiner.is_loopback());
            Ruling::finding(severity, sent, format!("the certificate: {words}"))
        }
    })
}

/// The last: whether whoever answered at first still answers at all.
pub(crate) fn alive(examiner: &Examiner) -> Ruled {
    let sent = "an opening handshake at the end of the audit";
    let ask = examiner.way()?;
    let dead =
        |how: String| Ruling::finding(Severity::High, sent, format!("{how}; a ban of this address looks the same"));
    Ok(match examiner.open(ask) {
        Opening::Open(_) => Ruling::passed(sent, "101"),
        Opening::Refused(answer) if matches!(answer.status, 502..=504) => {
            Ruling::unknown(sent, format!("{}, as a proxy says of a server that died", answer.shown()))
        }
        Opening::Refused(answer) => Ruling::passed(sent, format!("{}: it answers", answer.shown())),
        Opening::Ended(end) => dead(end.shown()),
        Opening::Silent => silent_once(examiner, dead),
        Opening::Unreachable(Unreached::Spent(what)) => Ruling::unknown(sent, what),
        Opening::Unreachable(why) => dead(format!("{why}, though it answered before")),
    })
}

/// Others may have kept it busy for that long: it is asked once more.
fn silent_once(examiner: &Examiner, dead: impl Fn(String) -> Ruling) -> Ruling {
    let why = "no answer in time, though it answered before";
    let again = match examiner.open(&examiner.first_try) {
        Opening::Open(_) => "101".to_owned(),
        Opening::Refused(answer) => answer.shown(),
        _ => return dead(format!("{why}, twice")),
    };
    let Ruling { sent, .. } = dead(String::new());
    Ruling::unknown(sent, format!("{why}; asked once more, {again}: it was busy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_developers_certificate_is_a_small_matter() {
        assert_eq!(certificate_fault(&CertificateFault::UnknownIssuer, true).0, Severity::Low);
        assert_eq!(certificate_fault(&CertificateFault::UnknownIssuer, false).0, Severity::High);
        assert_eq!(certificate_fault(&CertificateFault::NotValidNow, true).0, Severity::High);
        let authority = CertificateFault::Authority("CA:TRUE".to_owned());
        assert_eq!(certificate_fault(&authority, true).0, Severity::Low);
        assert_eq!(certificate_fault(&authority, false).0, Severity::Medium);
    }
}

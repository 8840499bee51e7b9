//! TLS and its absence, and whether the server outlived the audit.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;

use crate::audit::examiner::{Examiner, Opening, Unreached};
use crate::audit::hello::{self, Hello};
use crate::audit::ruling::{Ruled, Ruling, Severity};
use crate::audit::tls::{self, CertificateFault};
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

fn severity_of(fault: &CertificateFault, loopback: bool) -> Severity {
    match fault {
        // A developer's own certificate is no risk to others.
        CertificateFault::UnknownIssuer | CertificateFault::Authority(_) if loopback => Severity::Low,
        CertificateFault::NotValidNow
        | CertificateFault::OtherName
        | CertificateFault::UnknownIssuer
        | CertificateFault::ShortKey(_) => Severity::High,
        CertificateFault::EndsSoon => Severity::Low,
        CertificateFault::Authority(_) | CertificateFault::Other(_) => Severity::Medium,
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
            let severity = severity_of(&fault, examiner.is_loopback());
            Ruling::finding(severity, sent, format!("the certificate: {}", fault.words()))
        }
    })
}

/// How long the last check waits before each try: who limits connections counts them over some seconds.
const PAUSES: [Duration; 4] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(9), Duration::from_secs(20)];

/// Whether a server lives, by an opening handshake.
enum Life {
    /// It does: what it answered.
    Answers(String),
    /// No HTTP, and whether there was a connection at all.
    Nothing {
        how: String,
        connected: bool,
    },
    Unclear(String),
}

impl Life {
    fn of(opening: Opening<'_>) -> Self {
        match opening {
            Opening::Open(_) => Self::Answers("101".to_owned()),
            Opening::Refused(answer) if matches!(answer.status, 502..=504) => {
                Self::Unclear(format!("{}, as a proxy says of a server that died", answer.shown()))
            }
            Opening::Refused(answer) => Self::Answers(answer.shown()),
            Opening::Ended(end) => Self::Nothing { how: end.shown(), connected: true },
            Opening::Silent => Self::Nothing { how: "no answer in time".to_owned(), connected: true },
            Opening::Unreachable(Unreached::Spent(what)) => Self::Unclear(what.to_owned()),
            Opening::Unreachable(why) => Self::Nothing { how: why.to_string(), connected: false },
        }
    }
}

/// The last: whether whoever answered at first still answers at all.
pub(crate) fn alive(examiner: &Examiner) -> Ruled {
    let ask = examiner.way()?;
    let (mut at_first, mut last) = (None, Life::Unclear(String::new()));
    for pause in PAUSES {
        std::thread::sleep(examiner.purse.within(pause));
        last = Life::of(examiner.open(ask));
        match &last {
            Life::Nothing { how, .. } => _ = at_first.get_or_insert_with(|| how.clone()),
            Life::Answers(_) | Life::Unclear(_) => break,
        }
    }
    Ok(judge_life(at_first.as_deref(), last, examiner.burst_refused.get().map(String::as_str)))
}

/// By what came at first, where that was nothing, by what came at last, and by how further connections of a burst were refused: a
/// limit of those may count for longer than was waited.
fn judge_life(at_first: Option<&str>, last: Life, burst_refused: Option<&str>) -> Ruling {
    let sent = "an opening handshake at the end of the audit";
    match (at_first, last) {
        (None, Life::Answers(what)) => Ruling::passed(sent, what),
        (Some(how), Life::Answers(what)) if burst_refused == Some(how) => {
            Ruling::passed(sent, format!("{how}, as to connection-burst, and {what} some seconds later"))
        }
        (Some(how), Life::Answers(what)) => {
            let why = "it was busy, had banned this address, or was started again";
            Ruling::unknown(sent, format!("{how}, and {what} some seconds later: {why}"))
        }
        (_, Life::Unclear(why)) => Ruling::unknown(sent, why),
        (_, Life::Nothing { how, connected: true }) if burst_refused == Some(&how) => {
            let why = "a limit of connections may do that, but is counted for longer than was waited";
            Ruling::unknown(sent, format!("{how} for 30 s, as to connection-burst: {why}"))
        }
        (_, Life::Nothing { how, .. }) => {
            let why = "though it answered before; a ban of this address looks the same";
            Ruling::finding(Severity::High, sent, format!("{how} for 30 s, {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::ruling::Verdict;

    #[test]
    fn who_is_back_did_not_die() {
        let nothing = |connected| Life::Nothing { how: "closed".into(), connected };
        let answers = || Life::Answers("101".into());
        let judge = |at_first, last, burst| judge_life(at_first, last, burst).verdict;
        assert_eq!(judge(None, answers(), None), Verdict::Passed);
        assert_eq!(judge(Some("closed"), answers(), None), Verdict::Unknown);
        assert_eq!(judge(Some("closed"), nothing(true), None), Verdict::Finding(Severity::High));
        // So a limit of connections refuses, for longer than is waited.
        assert_eq!(judge(Some("closed"), answers(), Some("closed")), Verdict::Passed);
        assert_eq!(judge(Some("closed"), answers(), Some("429")), Verdict::Unknown);
        assert_eq!(judge(Some("closed"), nothing(true), Some("closed")), Verdict::Unknown);
        // Nobody listens any more.
        assert_eq!(judge(Some("closed"), nothing(false), Some("closed")), Verdict::Finding(Severity::High));
        assert_eq!(judge(Some("closed"), Life::Unclear("502".into()), None), Verdict::Unknown);
    }

    #[test]
    fn a_developers_certificate_is_a_small_matter() {
        assert_eq!(severity_of(&CertificateFault::UnknownIssuer, true), Severity::Low);
        assert_eq!(severity_of(&CertificateFault::UnknownIssuer, false), Severity::High);
        assert_eq!(severity_of(&CertificateFault::NotValidNow, true), Severity::High);
        let authority = CertificateFault::Authority("CA:TRUE".to_owned());
        assert_eq!(severity_of(&authority, true), Severity::Low);
        assert_eq!(severity_of(&authority, false), Severity::Medium);
    }
}

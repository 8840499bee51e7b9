//! Who is let in: origins, the host, credentials.

use crate::audit::access::Access;
use crate::audit::examiner::{Entry, Examiner};
use crate::audit::head::Ask;
use crate::audit::ruling::{Ruled, Ruling, Severity, Verdict};

/// A name that never resolves (RFC 6761), so that nobody is meant by it.
const FOREIGN: &str = "wsguard-audit.invalid";

/// Judges an opening handshake that should be refused, beside one like it that is let in. Who is let in and thrown out afterwards
/// has had a connection, and whatever the server does on `open`.
fn refused(entry: Entry<'_>, severity: Severity, sent: &str) -> Ruling {
    match entry {
        Entry::In(_) => Ruling::finding(severity, sent, "101, and a ping was answered"),
        Entry::Late(how) => Ruling::finding(Severity::Low, sent, format!("{how}: refused only after the 101")),
        Entry::Refused(_, how) => Ruling::passed(sent, how),
        Entry::Unclear(why) => Ruling::unknown(sent, why),
    }
}

/// How bad it is that a page of another site gets in: with credentials that browsers add, or none, it acts as the visitor. Where
/// others are needed as well, such as a token against forged requests, it has none of those.
fn by_ambience(examiner: &Examiner) -> Severity {
    let ambient = examiner.access.ambient();
    let is_enough = || {
        let (Ok(way), false) = (&examiner.way_in, ambient == examiner.access) else { return true };
        !matches!(examiner.enter_to_stay(&way.with_access(ambient.clone())), Entry::Late(_) | Entry::Refused(..))
    };
    let by_itself = examiner.access.is_ambient() && *examiner.ambient_is_enough.get_or_init(is_enough);
    if by_itself { Severity::High } else { Severity::Medium }
}

fn with_origin(examiner: &Examiner, origin: &str, severity: Severity) -> Ruled {
    let ask = examiner.way()?.with_origin(Some(origin));
    Ok(refused(examiner.enter_to_stay(&ask), severity, &format!("Origin: {origin}")))
}

pub(crate) fn origin_foreign(examiner: &Examiner) -> Ruled {
    let ruling = examiner.confirmed(with_origin(examiner, &format!("https://{FOREIGN}"), by_ambience(examiner))?)?;
    // Who is thrown out after the 101 was recognised: a lookalike may not be.
    let _ = examiner.any_origin.set(matches!(ruling.verdict, Verdict::Finding(severity) if severity > Severity::Low));
    Ok(ruling)
}

pub(crate) fn origin_null(examiner: &Examiner) -> Ruled {
    examiner.confirmed(with_origin(examiner, "null", by_ambience(examiner))?)
}

fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Origins of the same host that only a comparison of hosts alone takes for the allowed one: other servers of that machine, and
/// whoever stands on the way to it.
fn neighbours(allowed: &str) -> Vec<String> {
    let Some((scheme, authority)) = allowed.split_once("://") else { return Vec::new() };
    let other = match scheme {
        "https" => "http",
        "http" => "https",
        _ => return Vec::new(),
    };
    let (host, port) = host_and_port(authority);
    // One digit more is the same by its beginning, too.
    let longer = port.map(|port| format!("{port}1")).filter(|port| port.parse::<u16>().is_ok());
    let elsewhere = longer.as_deref().unwrap_or(if port == Some("8444") { "8445" } else { "8444" });
    vec![format!("{other}://{authority}"), format!("{scheme}://{host}:{elsewhere}")]
}

/// Origins that only a comparison by parts of text takes for the allowed one.
fn lookalikes(allowed: &str) -> Vec<String> {
    let Some((scheme, authority)) = allowed.split_once("://") else { return Vec::new() };
    // Nobody has a name with an address of IPv6 in it.
    if authority.starts_with('[') {
        return Vec::new();
    }
    let (host, _) = host_and_port(authority);
    // In a regular expression a dot stands for any letter: `app.example.com` is `appxexample.com` as well, which may be had.
    let is_name = host.contains(|letter: char| letter.is_ascii_alphabetic());
    let dot = authority.split_once('.').filter(|(_, domain)| is_name && domain.contains('.'));
    let dot = dot.map(|(label, domain)| format!("{scheme}://{label}x{domain}"));
    let mut all = vec![
        format!("{scheme}://{host}.{FOREIGN}"),
        format!("{scheme}://{FOREIGN}-{authority}"),
        format!("{scheme}://{authority}@{FOREIGN}"),
    ];
    all.extend(dot);
    all
}

pub(crate) fn origin_lookalike(examiner: &Examiner) -> Ruled {
    let Some(allowed) = examiner.way()?.origin.clone() else {
        return Ok(Ruling::skipped("no origin is known that is let in; name one with --origin"));
    };
    if examiner.any_origin.get().is_none() {
        origin_foreign(examiner)?;
    }
    if examiner.any_origin.get() == Some(&true) {
        return Ok(Ruling::skipped("any origin is let in (origin-foreign), so these are too"));
    }
    let severity = by_ambience(examiner);
    let of_others = lookalikes(&allowed).into_iter().map(|origin| (origin, severity));
    let all = of_others.chain(neighbours(&allowed).into_iter().map(|origin| (origin, Severity::Low)));
    let rulings =
        all.map(|(origin, severity)| with_origin(examiner, &origin, severity)).collect::<Result<Vec<_>, _>>()?;
    examiner.confirmed(Ruling::worst(&rulings))
}

pub(crate) fn origin_missing(examiner: &Examiner) -> Ruled {
    let ask = examiner.way()?.with_origin(None);
    examiner.confirmed(refused(examiner.enter_to_stay(&ask), Severity::Low, "no Origin"))
}

/// A page whose name was pointed at this machine sends its own name as `Host` and in `Origin`: a server that compares the two with
/// each other sees nothing wrong.
pub(crate) fn host_foreign(examiner: &Examiner) -> Ruled {
    let way = examiner.way()?;
    let host = |origin: Option<&str>| Ask {
        host: format!("{FOREIGN}:{}", examiner.target.at.port),
        ..way.with_origin(origin)
    };
    let scheme = if examiner.target.at.is_tls { "https" } else { "http" };
    let own = format!("{scheme}://{FOREIGN}:{}", examiner.target.at.port);
    let rebound = refused(
        examiner.enter_to_stay(&host(Some(&own))),
        Severity::Medium,
        &format!("Host: {FOREIGN} with the Origin of the same name"),
    );
    let alone = refused(
        examiner.enter_to_stay(&host(way.origin.as_deref())),
        Severity::Low,
        &format!("Host: {FOREIGN} with an allowed Origin"),
    );
    examiner.confirmed(Ruling::worst(&[rebound, alone]))
}

pub(crate) fn credential_needed(examiner: &Examiner) -> Ruled {
    let sent = "an opening handshake without a credential";
    match (&examiner.way_in, examiner.access.is_empty()) {
        (Ok(way), false) => {
            let entry = examiner.enter_to_stay(&way.with_access(Access::default()));
            examiner.confirmed(refused(entry, Severity::High, sent))
        }
        (Ok(way), true) => without_query(examiner, way),
        (Err(why), given) => match examiner.enter_to_stay(&examiner.first_try.with_access(Access::default())) {
            Entry::Refused(Some(401), how) => Ok(Ruling::passed(sent, how)),
            Entry::Late(how) if given => Ok(refused(Entry::Late(how), Severity::Low, sent)),
            _ => Err(Ruling::unknown(sent, format!("there is no way in to compare with: {why}"))),
        },
    }
}

/// Nothing was said to be a credential; what stands in the URL's query may be one.
fn without_query(examiner: &Examiner, way: &Ask) -> Ruled {
    let bare = Ask { query: examiner.target.query_of_engine_io(), ..way.clone() };
    if bare.query == way.query {
        let came = "101, and a ping was answered: anybody is let in";
        return Ok(Ruling::finding(Severity::Medium, "an opening handshake without a credential", came));
    }
    let sent = "an opening handshake without the URL's query";
    Ok(match examiner.enter_to_stay(&bare) {
        Entry::In(_) => Ruling::finding(Severity::Medium, sent, "101, and a ping was answered: anybody is let in"),
        Entry::Late(how) | Entry::Refused(_, how) | Entry::Unclear(how) => {
            Ruling::unknown(sent, format!("{how}; if a credential stands in the query, give it with --query"))
        }
    })
}

pub(crate) fn credential_wrong(examiner: &Examiner) -> Ruled {
    if examiner.access.is_empty() {
        return Ok(Ruling::skipped("no credential was given to the audit"));
    }
    let way = examiner.way()?;
    let tries = examiner.access.wrong();
    let judge = |(what, access): (&'static str, Access)| {
        refused(examiner.enter_to_stay(&way.with_access(access)), Severity::High, what)
    };
    let mut rulings: Vec<_> = tries.into_iter().map(judge).collect();
    if rulings.iter().all(|ruling| ruling.verdict == Verdict::Passed) {
        for (others, wrong) in examiner.access.each_wrong() {
            // One that nobody asks for may be anything.
            let is_needed =
                matches!(examiner.enter_to_stay(&way.with_access(others)), Entry::Refused(..) | Entry::Late(_));
            rulings.extend(wrong.into_iter().filter(|_| is_needed).map(judge));
        }
    }
    examiner.confirmed(Ruling::worst(&rulings))
}

pub(crate) fn credential_in_url(examiner: &Examiner) -> Ruled {
    if examiner.access.is_empty() {
        return Ok(Ruling::skipped("no credential was given to the audit"));
    }
    if !examiner.access.in_url() {
        return Ok(Ruling::passed("the credential as it was given", "it does not stand in the URL"));
    }
    examiner.way()?;
    Ok(Ruling::finding(Severity::Low, "the credential as it was given", "it stands in the URL, and is let in by it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookalikes_are_of_other_hosts() {
        assert_eq!(
            lookalikes("https://app.example.com:8443"),
            [
                "https://app.example.com.wsguard-audit.invalid",
                "https://wsguard-audit.invalid-app.example.com:8443",
                "https://app.example.com:8443@wsguard-audit.invalid",
                "https://appxexample.com:8443",
            ]
        );
        assert!(lookalikes("null").is_empty() && lookalikes("http://[::1]:3000").is_empty());
        for short in ["http://127.0.0.1:80", "http://localhost", "https://app.example"] {
            assert_eq!(lookalikes(short).len(), 3, "{short}");
        }
    }

    #[test]
    fn neighbours_are_of_the_same_host() {
        assert_eq!(neighbours("https://app.example"), ["http://app.example", "https://app.example:8444"]);
        assert_eq!(neighbours("https://app.example:8444"), ["http://app.example:8444", "https://app.example:8445"]);
        assert_eq!(neighbours("http://[::1]:3000"), ["https://[::1]:3000", "http://[::1]:30001"]);
        assert_eq!(neighbours("http://[::1]"), ["https://[::1]", "http://[::1]:8444"]);
        assert!(neighbours("null").is_empty() && neighbours("capacitor://localhost").is_empty());
    }

    #[test]
    fn who_is_thrown_out_after_the_101_was_in() {
        let late = refused(Entry::Late("101, then closed with 4401".into()), Severity::High, "x");
        assert_eq!(late.verdict, Verdict::Finding(Severity::Low));
        let refusal = refused(Entry::Refused(Some(403), "403".into()), Severity::High, "x");
        assert_eq!(refusal, Ruling::passed("x", "403"));
        assert_eq!(refused(Entry::Unclear("busy".into()), Severity::High, "x"), Ruling::unknown("x", "busy"));
    }
}

//! What the head of an opening handshake may be, and what the head of the answer tells.

use crate::audit::examiner::{Entry, Examiner, Opening};
use crate::audit::head::Ask;
use crate::audit::ruling::{Ruled, Ruling, Severity};

/// Longer than any head of a browser, and than the limit of any careful server.
const LONG_HEADER: usize = 64 * 1024;

const MANY_HEADERS: usize = 1000;

fn refused(examiner: &Examiner, ask: &Ask, sent: &str) -> Ruling {
    match examiner.enter(ask) {
        Entry::In(_) | Entry::Late(_) => Ruling::finding(Severity::Low, sent, "101"),
        Entry::Refused(_, how) => Ruling::passed(sent, how),
        // A server that stops reading has seen enough of it.
        Entry::Unclear(why) => Ruling::unknown(sent, why),
    }
}

pub(crate) fn head_size(examiner: &Examiner) -> Ruled {
    let way = examiner.way()?;
    let long = format!("X-Wsguard-Audit: {}\r\n", "a".repeat(LONG_HEADER));
    examiner.confirmed(refused(examiner, &way.with_extra(&long), "a header of 64 KiB"))
}

pub(crate) fn head_count(examiner: &Examiner) -> Ruled {
    let way = examiner.way()?;
    let many = (0..MANY_HEADERS).map(|number| format!("X-{number}: a\r\n")).collect::<Vec<_>>().concat();
    examiner.confirmed(refused(examiner, &way.with_extra(&many), "1000 short headers"))
}

/// Heads of which two parsers may think differently: RFC 9112 sections 3.2, 5.1, 5.2 and 6.
fn ambiguous(way: &Ask) -> Vec<(&'static str, Ask)> {
    let body = |extra: &str, body: &str| Ask { body: body.to_owned(), ..way.with_extra(extra) };
    vec![
        ("a body by Content-Length", body("Content-Length: 5\r\n", "hello")),
        ("a body by Transfer-Encoding", body("Transfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("a second Host", way.with_extra("Host: wsguard-audit.invalid\r\n")),
        ("a space before a colon", way.with_extra("X-Wsguard-Audit : a\r\n")),
        ("a folded header", way.with_extra("X-Wsguard-Audit: a\r\n b\r\n")),
    ]
}

pub(crate) fn head_ambiguous(examiner: &Examiner) -> Ruled {
    let way = examiner.way()?;
    let rulings: Vec<_> = ambiguous(way).iter().map(|(what, ask)| refused(examiner, ask, what)).collect();
    examiner.confirmed(Ruling::worst(&rulings))
}

pub(crate) fn banner(examiner: &Examiner) -> Ruled {
    let sent = "an opening handshake, and a GET without one";
    let ask = examiner.way_in.as_ref().unwrap_or(&examiner.first_try);
    let (mut banners, mut answers) = (Vec::new(), 0);
    for opening in [examiner.open(ask), examiner.request(&ask.plain(), None)] {
        let answer = match &opening {
            Opening::Open(visit) => &visit.answer,
            Opening::Refused(answer) => answer,
            _ => continue,
        };
        answers += 1;
        banners.extend(answer.banners());
    }
    banners.dedup();
    Ok(match (answers, banners.is_empty()) {
        (0, _) => Ruling::unknown(sent, "there was no answer"),
        (_, true) => Ruling::passed(sent, "no header names a version"),
        (_, false) => Ruling::finding(Severity::Low, sent, banners.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::access::Access;
    use crate::audit::target::Target;

    #[test]
    fn ambiguous_heads_are_what_they_say() {
        let way = Ask::new(&Target::parse("ws://localhost/").unwrap(), Access::default(), Vec::new());
        let texts: Vec<_> = ambiguous(&way).iter().map(|(_, ask)| String::from_utf8(ask.bytes()).unwrap()).collect();
        assert!(texts[0].ends_with("Content-Length: 5\r\n\r\nhello"));
        assert!(texts[1].ends_with("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
        assert_eq!(texts[2].matches("Host: ").count(), 2);
        assert!(texts[4].contains("a\r\n b\r\n"));
    }
}

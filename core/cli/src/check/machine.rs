//! What is weak about the options of the process: listening, TLS, proxies, the admin listener, the cluster, memory, files.

use std::net::IpAddr;

use serde_json::Value;
use wsguard::binding::CertificateFacts;

use super::entropy::weakness;
use super::facts::Facts;
use super::finding::{Finding, Severity, warn};
use super::scope::Scope;
use crate::reach::{host_of, is_this_machine};
use Severity::{High, Low, Medium};

const DAY_S: u64 = 86_400;

pub(super) fn findings(top: &Scope<'_>, facts: &Facts, found: &mut Vec<Finding>) {
    plaintext(top, found);
    proxies(top, found);
    if let Some(certificate) = &facts.certificate {
        validity(certificate, facts.now_unix_s, found);
    }
    admin(top, found);
    cluster(top, found);
    memory(top, facts, found);
    files(facts, found);
}

/// Whether other machines reach what `listen` says. A name may lead anywhere; a Unix socket and an inherited one are the matter of
/// whoever made them.
pub(super) fn is_public(listen: &str) -> bool {
    if listen.starts_with("unix:") || listen.starts_with("fd:") {
        return false;
    }
    !is_this_machine(host_of(listen))
}

fn plaintext(top: &Scope<'_>, found: &mut Vec<Finding>) {
    if !top.flag("dangerously_allow_plaintext") || !top.value("tls").is_null() {
        return;
    }
    let option = "dangerously_allow_plaintext".to_owned();
    if is_public(&top.text("listen")) {
        let what = "tokens and messages cross the network as plain text, for anybody on the way to read and change";
        let instead = "`tls`, or a proxy with TLS that `trusted_proxies` lists";
        warn(found, High, "plaintext", option, what, instead);
    } else {
        let what =
            "it is not needed on an address of this machine, and would hide a mistake after a change of `listen`";
        warn(found, Low, "plaintext_not_needed", option, what, "leave it out");
    }
}

fn proxies(top: &Scope<'_>, found: &mut Vec<Finding>) {
    for (index, entry) in top.list("trusted_proxies").unwrap_or_default().iter().enumerate() {
        let Some((address, bits)) = entry.split_once('/') else { continue };
        let (Ok(ip), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>()) else { continue };
        // As the core reads it: `::ffff:0:0/96` is every IPv4 address.
        let (ip, bits) = match ip.to_canonical() {
            mapped if mapped.is_ipv4() && ip.is_ipv6() => (mapped, bits.saturating_sub(96)),
            other => (other, bits),
        };
        let option = format!("trusted_proxies[{index}]");
        let instead = "list the addresses of your proxies";
        if bits == 0 {
            let what = "everybody is a proxy: any client chooses the address that limits and bans count by";
            warn(found, High, "everybody_is_a_proxy", option, what, instead);
        } else if bits < if ip.is_ipv4() { 8 } else { 16 } && !is_private(ip, bits) {
            let what =
                format!("{entry} is a large part of the Internet: whoever is in it chooses the address that counts");
            warn(found, High, "wide_proxies", option, what, instead);
        }
    }
}

/// Whether a network is one that is not routed on the Internet: the unique local addresses and the link-local ones of IPv6.
/// Those of IPv4 are small enough.
fn is_private(ip: IpAddr, bits: u8) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unique_local() && bits >= 7 || ip.is_unicast_link_local() && bits >= 10)
}

fn validity(certificate: &CertificateFacts, now_unix_s: u64, found: &mut Vec<Finding>) {
    let option = || "tls.cert".to_owned();
    let renew = "a new certificate; reload_tls takes it without dropping a connection";
    if let Some(from) = certificate.valid_from_unix_s.filter(|from| now_unix_s < *from) {
        let what = format!("the certificate is not valid before {}: clients refuse it", date(from));
        warn(found, High, "certificate_not_yet", option(), what, "wait, or look at this machine's clock");
    }
    match certificate.valid_until_unix_s {
        Some(until) if until <= now_unix_s => {
            let what = format!("the certificate has expired on {}: clients refuse it", date(until));
            warn(found, High, "certificate_expired", option(), what, renew);
        }
        Some(until) if until - now_unix_s < 30 * DAY_S => {
            let days = (until - now_unix_s) / DAY_S;
            let what = format!("the certificate expires on {}, in {days} days", date(until));
            let severity = if days < 7 { High } else { Medium };
            warn(found, severity, "certificate_expires", option(), what, renew);
        }
        _ => {}
    }
    if certificate.is_self_issued {
        let what = "the certificate names itself as its issuer: only clients that were told to believe it do";
        warn(found, Medium, "certificate_self_issued", option(), what, "one of an authority that browsers know");
    }
}

/// The names that the server answers to, and those that pages ask for, as far as they are hosts of this certificate's kind.
pub(super) fn names(scope: &Scope<'_>, certificate: &CertificateFacts, found: &mut Vec<Finding>) {
    if !scope.speaks_of("hosts") {
        return;
    }
    for (index, host) in scope.list("hosts").unwrap_or_default().iter().enumerate() {
        let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host.as_str(), |(name, _)| name);
        if !certificate.covers(name) {
            let what = format!(
                "the certificate is not for {}: clients that ask for it refuse to connect",
                crate::terminal::harmless(name, 128)
            );
            let instead = "a certificate with that name, or leave the name out";
            warn(found, Medium, "certificate_name", scope.path(&format!("hosts[{index}]")), what, instead);
        }
    }
}

fn admin(top: &Scope<'_>, found: &mut Vec<Finding>) {
    if top.flag("dangerously_public_admin")
        && is_public(&top.text("admin_listen"))
        && !top.value("admin_listen").is_null()
    {
        let what = "anybody who reaches the address reads the metrics: who comes, how many, and what is refused";
        let instead = "an address of this machine, or unix:PATH, that a collector on it reads";
        warn(found, High, "public_admin", "admin_listen".to_owned(), what, instead);
    }
}

fn cluster(top: &Scope<'_>, found: &mut Vec<Finding>) {
    let cluster = top.value("cluster");
    let Some(url) = cluster.get("url").and_then(Value::as_str) else { return };
    let Some((scheme, rest)) = url.split_once("://") else { return };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (login, hosts) = authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
    if !hosts.split(',').any(is_public) {
        return;
    }
    let option = || "cluster.url".to_owned();
    if !scheme.starts_with("rediss") {
        let what =
            "bans, revocations and messages between nodes cross the network without TLS: who is on it can forge them";
        warn(
            found,
            High,
            "cluster_without_tls",
            option(),
            what,
            format!("rediss{}://…", scheme.trim_start_matches("redis")),
        );
    }
    let password = login.and_then(|login| login.split_once(':')).map_or("", |(_, password)| password);
    if password.is_empty() {
        let what = "no password: whoever reaches that port sends to every user, and lifts every ban";
        warn(found, High, "cluster_without_password", option(), what, "a user with a password of its own in the URL");
    } else if let Some(why) = weakness(password) {
        let what = format!("the password {why}: whoever guesses it sends to every user, and lifts every ban");
        warn(found, Medium, "weak_cluster_password", option(), what, "draw one: wsguard token make --opaque");
    }
}

/// What connections may hold at once, at worst, beside this machine's memory; only where somebody stated one of the factors.
fn memory(top: &Scope<'_>, facts: &Facts, found: &mut Vec<Finding>) {
    let factors = ["max_connections", "max_message_bytes", "max_outbox_bytes"];
    let Some(memory) = facts.memory_bytes.filter(|_| factors.iter().any(|name| top.states(name))) else { return };
    let each = top.number("max_message_bytes").saturating_add(top.number("max_outbox_bytes"));
    let all = top.number("max_connections").saturating_mul(each);
    if all > memory {
        let what = format!(
            "max_connections × (max_message_bytes + max_outbox_bytes) is {} MiB at worst, and this machine has {} MiB",
            all >> 20,
            memory >> 20
        );
        warn(
            found,
            Low,
            "memory",
            "max_connections".to_owned(),
            what,
            "less of one of the three, or a bound of the system (MemoryMax) that you accept",
        );
    }
}

fn files(facts: &Facts, found: &mut Vec<Finding>) {
    for file in &facts.open_files {
        let who = match (file.is_readable, file.is_writable) {
            (true, true) => "is read by everybody and written by others",
            (true, false) => "is read by everybody",
            _ => "is written by others",
        };
        let what = format!("{} {who} on this machine", file.path);
        // Who writes a key makes every user's tokens.
        let severity = if file.is_secret || file.option != "options" { High } else { Medium };
        let mode = if file.is_secret { "600" } else { "o-w" };
        warn(found, severity, "open_file", file.option.clone(), what, format!("chmod {mode} {}", file.path));
    }
}

/// A day, as `2026-12-31`.
pub(crate) fn date(unix_s: u64) -> String {
    crate::moments::date(unix_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_not_public() {
        for local in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "localhost:80",
            "unix:/run/x.sock",
            "fd:3",
            "127.9.9.9:1",
            "[::1]",
            "Localhost.",
        ] {
            assert!(!is_public(local), "{local}");
        }
        for public in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "app.example:80", "[::ffff:192.0.2.1]:80"] {
            assert!(is_public(public), "{public}");
        }
    }
}

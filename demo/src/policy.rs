//! What the guarded server enforces: the text of `policy.json`, which is all that the application says about security. The
//! page shows this text as the server was started with it, and marks the line that a verdict comes from.

use wsguard::Code;

/// The policy for a page of `origin`.
pub(crate) fn text(listen: &str, origin: &str) -> String {
    include_str!("policy.json").replace("LISTEN", listen).replace("ORIGIN", origin)
}

/// The same policy with TLS: one line more. `cert` and `key` are paths.
pub(crate) fn with_tls(policy: &str, cert: &str, key: &str) -> String {
    let line = serde_json::json!({ "cert": cert, "key": key });
    policy.replacen('{', &format!("{{\n  \"tls\": {line},"), 1)
}

/// The line of the policy, counted from 1, that a verdict comes from; `None`: it is a rule of the protocol itself, which no
/// option turns off.
pub(crate) fn line(policy: &str, code: Code, detail: &str) -> Option<usize> {
    let key = match code {
        Code::OriginDenied => "origins",
        Code::HostDenied => "hosts",
        Code::AuthFailed | Code::AuthUnavailable => "auth",
        Code::TlsFailed => "tls",
        Code::HandshakeTimeout => "handshake_timeout_ms",
        Code::UserFull => "max_connections_per_user",
        Code::MessageTooBig => "max_message_bytes",
        Code::TooManyFragments => "max_fragments",
        Code::RateLimited => "rate_limit",
        Code::ControlFlood => "control_rate_limit",
        Code::UnknownEvent => "events",
        Code::SchemaMismatch => schema_key(policy, detail),
        Code::BadEnvelope if detail.contains("max_depth") => "json_limits",
        Code::BadEnvelope | Code::UnexpectedBinary => "protocol",
        _ => return None,
    };
    line_of(policy, key)
}

/// The property that `detail` names (`data/text: type`), where the policy has a line for it; else the list of events.
fn schema_key<'d>(policy: &str, detail: &'d str) -> &'d str {
    let path = detail.split(':').next().unwrap_or_default();
    let property = path.rsplit('/').next().unwrap_or_default();
    if line_of(policy, property).is_some() { property } else { "events" }
}

/// The first line that begins with `key`.
fn line_of(policy: &str, key: &str) -> Option<usize> {
    let quoted = format!("\"{key}\":");
    policy.lines().position(|line| line.trim_start().starts_with(&quoted)).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wsguard::Options;

    fn sample() -> String {
        text("127.0.0.1:0", "http://127.0.0.1:8000")
    }

    #[test]
    fn the_policy_is_accepted() {
        assert!(wsguard::binding::compile(Options::from_json(&sample()).unwrap()).is_ok());
    }

    #[test]
    fn tls_is_one_line_more() {
        let policy = with_tls(&sample(), "/c.pem", "/k.pem");
        assert_eq!(policy.lines().count(), sample().lines().count() + 1);
        assert!(Options::from_json(&policy).unwrap().tls.is_some());
        assert_eq!(line(&policy, Code::TlsFailed, ""), Some(2));
    }

    #[test]
    fn every_verdict_has_its_line() {
        let policy = sample();
        let marked = |code, detail| policy.lines().nth(line(&policy, code, detail).unwrap() - 1).unwrap().trim();
        assert!(marked(Code::OriginDenied, "").starts_with("\"origins\""));
        assert!(marked(Code::SchemaMismatch, "data/text: type").starts_with("\"text\""));
        assert!(marked(Code::SchemaMismatch, "data: required").starts_with("\"events\""));
        assert!(marked(Code::BadEnvelope, "deeper than json_limits.max_depth").starts_with("\"json_limits\""));
        assert_eq!(line(&policy, Code::BadFrame, ""), None);
    }
}

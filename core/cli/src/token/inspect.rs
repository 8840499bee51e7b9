//! `wsguard token inspect`: the parts of a token in words, and what a policy would say of it.

use std::fmt::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use wsguard::binding::PolicySet;
use wsguard_proto::auth::Outcome as Judged;

use crate::check::now_unix_s;
use crate::moments::{from_now, moment};
use crate::outcome::{Ended, Failure, Outcome};
use crate::policy::Source;
use crate::terminal::{self, Paint, harmless};

#[derive(clap::Args)]
#[command(after_help = "\
A token never stands on the command line, where other users of the machine see it. Without a policy its signature is not
verified, and nothing that it says is proven.

Examples:
  wsguard token inspect token.txt
  printf %s \"$TOKEN\" | wsguard token inspect --policy policy.json

Exit codes: 0 the policy accepts it, or no policy was given; 1 the policy refuses it; 2 it could not be read.")]
pub(crate) struct Args {
    /// The file of the token; - for standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    token: PathBuf,

    /// The policy to judge it by.
    #[arg(long, value_name = "POLICY")]
    policy: Option<PathBuf>,

    /// The path of the request, where the policy has routes.
    #[arg(long, value_name = "PATH", requires = "policy", default_value = "/")]
    route: String,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Ended {
    let token = super::read("token", &args.token)?;
    let token = String::from_utf8(token).map_err(|_| Failure::new("token: is no text"))?;
    let token = token.trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token);
    let now = now_unix_s();
    let verdict = args.policy.as_ref().map(|path| {
        let source = Source { path: path.clone(), set: Vec::new() };
        judge(&source.compile()?.set, &args.route, token, now)
            .ok_or_else(|| Failure::new(format!("{} serves no path {}", source.name(), harmless(&args.route, 128))))
    });
    let verdict = verdict.transpose()?;
    let parts = parts(token);
    let text = if args.json {
        as_json(parts.as_ref(), token, verdict.as_ref())
    } else {
        as_text(parts.as_ref(), token, verdict.as_ref(), now, Paint::for_stdout())
    };
    terminal::print(&text)?;
    Ok(if verdict.is_some_and(|verdict| !verdict.is_accepted) { Outcome::Found } else { Outcome::Well })
}

/// What a policy says.
pub(super) struct Verdict {
    pub(super) is_accepted: bool,
    /// It may be accepted by a server, which has what is not here: the keys of an issuer.
    pub(super) is_open: bool,
    pub(super) words: String,
}

/// What a policy says of a token; `None`: it does not serve that path.
pub(super) fn judge(set: &PolicySet, path: &str, token: &str, now_unix_s: u64) -> Option<Verdict> {
    let resolved = set.resolve(path);
    let policy = match &resolved {
        Some(resolved) => &resolved.policy,
        // `/` stands for "no route in particular".
        None if path == "/" => &set.top,
        None => return None,
    };
    let refused = |words: &str| Verdict { is_accepted: false, is_open: false, words: format!("refused: {words}") };
    Some(match policy.authenticator.check(Some(token), now_unix_s) {
        Judged::Accepted(identity) => {
            let user = identity.user.map_or_else(|| "nobody in particular".to_owned(), |user| harmless(&user, 256));
            let roles: Vec<&str> = identity.roles.iter().collect();
            let roles = if roles.is_empty() {
                String::new()
            } else {
                format!(", with the roles {}", harmless(&roles.join(", "), 256))
            };
            let ends = identity
                .expires_at_unix_ms
                .map_or_else(String::new, |ms| format!("; the session ends {}", moment(ms / 1000)));
            Verdict { is_accepted: true, is_open: false, words: format!("accepted as {user}{roles}{ends}") }
        }
        Judged::Refused(why) => refused(why),
        Judged::KeyUnknown(why) | Judged::Unavailable(why) => Verdict {
            is_open: true,
            ..refused(&format!("{why} (keys of jwks_url are not fetched here: try it with wsguard serve)"))
        },
        Judged::AskApplication => Verdict {
            is_accepted: true,
            is_open: true,
            words: "the application would be asked (auth: \"callback\")".into(),
        },
    })
}

/// Header and claims of what has the form of a JSON Web Token.
fn parts(token: &str) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let mut parts = token.split('.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let object = |part: &str| match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    };
    if parts.next().is_some() { None } else { Some((object(header)?, object(claims)?)) }
}

type Parts = (Map<String, Value>, Map<String, Value>);

fn as_json(parts: Option<&Parts>, token: &str, verdict: Option<&Verdict>) -> String {
    let told = json!({
        "kind": if parts.is_some() { "jwt" } else { "opaque" },
        "bytes": token.len(),
        "header": parts.map(|(header, _)| header),
        "claims": parts.map(|(_, claims)| claims),
        "accepted": verdict.map(|verdict| verdict.is_accepted),
        "verdict": verdict.map(|verdict| &verdict.words),
    });
    format!("{told:#}\n")
}

fn as_text(parts: Option<&Parts>, token: &str, verdict: Option<&Verdict>, now: u64, paint: Paint) -> String {
    let mut text = String::new();
    match parts {
        None => {
            let _ = writeln!(
                text,
                "A token of {} bytes that is no JSON Web Token: it says nothing by itself.",
                token.len()
            );
        }
        Some((header, claims)) => {
            let _ = writeln!(text, "{}", paint.bold("Header"));
            members(&mut text, header, now);
            let _ = writeln!(text, "{}", paint.bold("Claims"));
            members(&mut text, claims, now);
        }
    }
    match verdict {
        Some(verdict) if verdict.is_accepted => {
            let _ = writeln!(text, "{}", paint.green(&verdict.words));
        }
        Some(verdict) => {
            let _ = writeln!(text, "{}", paint.red(&verdict.words));
        }
        None if parts.is_some() => text.push_str("Its signature is not verified: --policy judges it.\n"),
        None => {}
    }
    text
}

fn members(text: &mut String, members: &Map<String, Value>, now: u64) {
    for (name, value) in members {
        let shown = harmless(&value.to_string(), 256);
        let time = matches!(name.as_str(), "exp" | "nbf" | "iat" | "auth_time").then(|| value.as_f64()).flatten();
        let time =
            time.map_or_else(String::new, |at| format!("  ({}, {})", moment(at as u64), from_now(at as u64, now)));
        let _ = writeln!(text, "  {:<12} {shown}{time}", harmless(name, 64));
    }
}

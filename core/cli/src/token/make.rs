//! `wsguard token make`.

use std::fmt::Write as _;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use wsguard::options::{Auth, JwtOptions, OneOrMany};

use super::inspect;
use super::sign::{self, ALGORITHMS, Key};
use crate::check::now_unix_s;
use crate::moments::span;
use crate::outcome::{Ended, Failure, Outcome};
use crate::policy::{Read, Source};
use crate::terminal;

#[derive(clap::Args)]
#[command(after_help = "\
A key never stands on the command line, where other users of the machine see it.

Examples:
  wsguard token make --opaque
  wsguard token make --secret-file hmac.secret --alg HS256 --sub alice --exp 1h
  wsguard token make --policy policy.json --key-file private.pem --sub alice --role admin

Exit codes: 0 the token is on standard output; 2 it could not be made.")]
pub(crate) struct Args {
    /// A random token of 32 bytes for auth.tokens; its SHA-256, for the policy, goes to standard error.
    #[arg(long, conflicts_with_all = ["secret_file", "key_file", "alg", "sub", "roles", "exp", "claims", "policy", "kid"])]
    opaque: bool,

    /// The policy that shall accept it: algorithm, issuer, audience and the names of claims are taken from there, and so is an
    /// HMAC secret.
    #[arg(long, value_name = "POLICY")]
    policy: Option<PathBuf>,

    /// The route of the policy that shall accept it.
    #[arg(long, value_name = "PATH", requires = "policy")]
    route: Option<String>,

    /// The file of an HMAC secret; - for standard input. A line end behind it does not count.
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    secret_file: Option<PathBuf>,

    /// The PEM file of a private key; - for standard input.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// The algorithm, e.g. HS256 or ES256.
    #[arg(long, value_name = "NAME", value_parser = ALGORITHMS)]
    alg: Option<String>,

    /// The id of the key, where the policy has several.
    #[arg(long)]
    kid: Option<String>,

    /// The user.
    #[arg(long, value_name = "USER")]
    sub: Option<String>,

    /// A role; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,

    /// How long it is valid: 90s, 15m, 1h, 7d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    exp: u64,

    /// A claim with its value as JSON, e.g. --claim 'team="blue"'; may be given several times.
    #[arg(long = "claim", value_name = "NAME=JSON")]
    claims: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Ended {
    if args.opaque {
        return opaque();
    }
    let source = args.policy.as_ref().map(|path| Source { path: path.clone(), set: Vec::new() });
    let read = source.as_ref().map(|source| Ok::<_, Failure>((source.compile()?, source.name()))).transpose()?;
    let jwt = read.as_ref().map(|(read, name)| jwt_of(read, name, args.route.as_deref())).transpose()?;
    let algorithm = algorithm(args, jwt.as_ref())?;
    let kid = match &args.kid {
        Some(kid) => Some(kid.clone()),
        None => only_kid(jwt.as_ref())?,
    };
    let key = key(args, jwt.as_ref(), kid.as_deref(), &algorithm)?;
    let now = now_unix_s();
    let claims = claims(args, jwt.as_ref(), now)?;
    let mut header = json!({"alg": algorithm, "typ": "JWT"});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let token = sign::token(&header, &claims, &key, &algorithm)?;
    terminal::deliver(&format!("{token}\n"))?;
    let route = args.route.as_deref().unwrap_or("/");
    let verdict = read.and_then(|(read, _)| inspect::judge(&read.set, route, &token, now));
    // A bad token may be what a test wants; that it is one is not what others would expect.
    if let Some(verdict) = verdict.filter(|verdict| !verdict.is_accepted && !verdict.is_open) {
        terminal::complain(&format!("wsguard: that policy would not accept it: {}", verdict.words));
    }
    Ok(Outcome::Well)
}

fn opaque() -> Ended {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::new("this machine gives no random bytes"))?;
    let token = URL_SAFE_NO_PAD.encode(bytes);
    let sha256 = digest(&SHA256, token.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    terminal::deliver(&format!("{token}\n"))?;
    terminal::complain(&format!("for the policy: {{\"sha256\": \"{sha256}\", \"user\": \"…\"}}"));
    Ok(Outcome::Well)
}

/// The `auth.jwt` that counts at the top of a policy, or on one of its routes.
fn jwt_of(read: &Read, name: &str, route: Option<&str>) -> Result<JwtOptions, Failure> {
    let of_route = match route {
        None => None,
        Some(route) => {
            let stated = read.stated.pointer("/routes").and_then(|routes| routes.get(route));
            let no_route = || Failure::new(format!("{name} has no route {}", terminal::harmless(route, 128)));
            stated.ok_or_else(no_route)?.get("auth")
        }
    };
    let auth = match of_route {
        Some(auth) => {
            auth.get("jwt").and_then(|jwt| serde_json::from_value(jwt.clone()).ok()).map(|jwt| Auth::Jwt(Box::new(jwt)))
        }
        None => read.options.auth.clone(),
    };
    match auth {
        Some(Auth::Jwt(jwt)) => Ok(*jwt),
        _ => Err(Failure::new(format!(
            "{name}: auth is not by JSON Web Tokens there: a token for auth.tokens is made by --opaque"
        ))),
    }
}

fn algorithm(args: &Args, jwt: Option<&JwtOptions>) -> Result<String, Failure> {
    let listed = jwt.map(|jwt| jwt.algorithms.as_slice()).unwrap_or_default();
    match (&args.alg, listed) {
        (Some(name), listed) if listed.is_empty() || listed.contains(name) => Ok(name.clone()),
        (Some(name), listed) => {
            Err(Failure::new(format!("--alg: the policy does not accept {name}, but {}", listed.join(", "))))
        }
        (None, [only, ..]) => Ok(only.clone()),
        (None, []) if args.secret_file.is_some() => Ok("HS256".to_owned()),
        (None, []) => Err(Failure::new(format!("--alg is needed: one of {}", ALGORITHMS.join(", ")))),
    }
}

fn key(args: &Args, jwt: Option<&JwtOptions>, kid: Option<&str>, algorithm: &str) -> Result<Key, Failure> {
    if let Some(path) = &args.secret_file {
        return Key::secret(algorithm, super::read("--secret-file", path)?);
    }
    if let Some(path) = &args.key_file {
        let text = String::from_utf8(super::read("--key-file", path)?);
        return Key::private(algorithm, &text.map_err(|_| Failure::new("--key-file: is no PEM text"))?);
    }
    match jwt.filter(|_| algorithm.starts_with("HS")).and_then(|jwt| secret_of(jwt, kid)) {
        Some(secret) => Key::secret(algorithm, secret),
        None => Err(Failure::new(
            "a key to sign with is needed: --secret-file or --key-file (of HS256 and its like the policy has it, of others the \
             public key alone)",
        )),
    }
}

/// The HMAC secret of a policy, of several the one with this id.
fn secret_of(jwt: &JwtOptions, kid: Option<&str>) -> Option<Vec<u8>> {
    let is_named = |key: &&Value| key.get("kid").and_then(Value::as_str) == kid;
    let key = match (&jwt.key, &jwt.keys) {
        (Some(key), _) => key,
        (None, Some(Value::Array(list))) => list.iter().find(is_named)?.get("key")?,
        (None, Some(Value::Object(keys))) => match keys.get("keys") {
            Some(Value::Array(set)) => set.iter().find(is_named)?,
            _ => keys.get(kid?)?,
        },
        _ => return None,
    };
    match key {
        Value::String(secret) => Some(secret.as_bytes().to_vec()),
        jwk => URL_SAFE_NO_PAD.decode(jwk.get("k")?.as_str()?).ok(),
    }
}

/// The `kid` of the policy's only key, and none where its key has no name.
///
/// # Errors
/// The policy has several keys: a token without a `kid` fits none of them.
fn only_kid(jwt: Option<&JwtOptions>) -> Result<Option<String>, Failure> {
    let Some(keys) = jwt.and_then(|jwt| jwt.keys.as_ref()) else { return Ok(None) };
    let named = |list: &[Value]| list.first().and_then(|key| key.get("kid")?.as_str().map(str::to_owned));
    let (count, kid) = match keys {
        Value::Object(keys) => match keys.get("keys").and_then(Value::as_array) {
            Some(list) => (list.len(), named(list)),
            None => (keys.len(), keys.keys().next().cloned()),
        },
        Value::Array(list) => (list.len(), named(list)),
        _ => (0, None),
    };
    if count > 1 {
        return Err(Failure::new(format!("auth.jwt.keys has {count} keys: name that of this token with --kid")));
    }
    Ok(kid)
}

fn claims(args: &Args, jwt: Option<&JwtOptions>, now_unix_s: u64) -> Result<Value, Failure> {
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    let first = |names: &OneOrMany| match names {
        OneOrMany::One(name) => Some(name.clone()),
        OneOrMany::Many(names) => names.first().cloned(),
    };
    if let Some(issuer) = jwt.and_then(|jwt| jwt.issuer.as_ref()).and_then(first) {
        put("iss", issuer.into());
    }
    if let Some(audience) = jwt.and_then(|jwt| jwt.audience.as_ref()).and_then(first) {
        put("aud", audience.into());
    }
    put("iat", now_unix_s.into());
    put("exp", now_unix_s.saturating_add(args.exp).into());
    if let Some(user) = &args.sub {
        put(jwt.map_or("sub", |jwt| &jwt.user_claim), user.as_str().into());
    }
    if !args.roles.is_empty() {
        let claim = match jwt {
            None => "roles",
            Some(jwt) => jwt.roles_claim.as_deref().ok_or_else(|| {
                Failure::new("--role: the policy has no auth.jwt.roles_claim, so that no role of a token counts")
            })?,
        };
        put(claim, args.roles.clone().into());
    }
    for claim in &args.claims {
        let wrong = || Failure::new("--claim needs a name and its value as JSON, e.g. --claim 'team=\"blue\"'");
        let (name, json) = claim.split_once('=').ok_or_else(wrong)?;
        put(name, serde_json::from_str(json).map_err(|_| wrong())?);
    }
    Ok(Value::Object(claims))
}

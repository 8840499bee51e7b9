//! All that a server runs by: the policy of the top, those of its routes, and which path has which.
//!
//! Each route is a whole [`Policy`], compiled from the options of the top with the route's over them, so that nobody below asks
//! where something was stated. A set is never changed: a reload makes the next one.

use core::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::paths::{Params, PathTable};
use super::policy::Policy;
use crate::auth::{CredentialId, Jwks};
use crate::config_error::ConfigError;
use crate::files::Files;
use crate::options::{Options, harmless};
use crate::roles::Roles;

/// What a path leads to, and the policies.
#[derive(Debug)]
pub struct PolicySet {
    /// 1 at the start, one more with every reload.
    pub generation: u64,
    /// The policy of every path that is no route.
    pub top: Arc<Policy>,
    served: PathTable<Served>,
    stated: Vec<Stated>,
}

/// A path that is served.
#[derive(Debug)]
struct Served {
    policy: Arc<Policy>,
    /// The route as it is written; `None`: one of `paths`.
    route: Option<Arc<str>>,
}

/// What a request's path leads to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The policy that counts there.
    pub policy: Arc<Policy>,
    /// The route as it is written in `routes`; `None`: the path is no route.
    pub route: Option<Arc<str>>,
    /// The parameters of the path, decoded.
    pub params: Params,
}

/// What a connection was let in by, as far as a later set has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The [generation](PolicySet::generation) of the set.
    pub generation: u64,
    /// The path of its request.
    pub path: Box<str>,
    /// Its credential, where that was checked here.
    pub credential: Option<CredentialId>,
    /// It would have been refused, where the rules for handshakes had not only reported.
    pub is_reported: bool,
}

/// Why a connection that was let in by an earlier set would not be let in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its path is not served.
    Path,
    /// Its path has messages of another form.
    Protocol,
    /// Its token or the key of its token is gone, or stands for somebody else.
    Credential,
    /// A rule counts that only reported when it came.
    Reported,
}

impl Gone {
    /// In words for the log.
    pub fn detail(self) -> &'static str {
        match self {
            Gone::Path => "a reload has taken its path out of paths and routes",
            Gone::Protocol => "a reload has given its path another protocol",
            Gone::Credential => "a reload has taken its token, or the key of its token, out of auth",
            Gone::Reported => "a reload has ended report_handshakes, by which alone it was let in",
        }
    }
}

/// An option as it was stated. Only its digest is kept: it may hold a credential.
#[derive(PartialEq, Eq)]
struct Stated {
    name: &'static str,
    is_reloadable: bool,
    digest: [u8; 32],
}

impl fmt::Debug for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PolicySet {
    /// Checks and compiles `options` with their routes.
    ///
    /// # Errors
    /// Names the option, and inside of a route the route: `routes./admin.events.say.cost`.
    pub fn compile(mut options: Options, files: &dyn Files) -> Result<Self, ConfigError> {
        options.check_ranges()?;
        let stated = stated(&options);
        let (routes, paths) = (core::mem::take(&mut options.routes), options.paths.take());
        let top = Arc::new(Policy::new(options.clone(), files)?);
        let mut served = PathTable::default();
        for (path, route) in &routes {
            let policy = Policy::of_route(path, route, &options, &top, files);
            let policy = Arc::new(policy.map_err(|error| in_route(path, error))?);
            let at_path = |message| ConfigError::invalid(format!("routes.{}", harmless(path)), message);
            served.add(path, Served { policy, route: Some(path.as_str().into()) }).map_err(at_path)?;
        }
        if paths.as_ref().is_some_and(Vec::is_empty) {
            let message = "lists no path, so nothing could connect; leave it out for any path";
            return Err(ConfigError::invalid("paths", message));
        }
        for (index, path) in paths.iter().flatten().enumerate() {
            let at_path = |message| ConfigError::invalid(format!("paths[{index}]"), message);
            served.add(path, Served { policy: Arc::clone(&top), route: None }).map_err(at_path)?;
        }
        Ok(Self { generation: 1, top, served, stated })
    }

    /// What `path` leads to; `None`: it is not served. Without `paths` and `routes` every path is.
    pub fn resolve(&self, path: &str) -> Option<Resolved> {
        if self.served.is_empty() {
            return Some(Resolved { policy: Arc::clone(&self.top), route: None, params: Params::default() });
        }
        let (served, params) = self.served.find(path)?;
        Some(Resolved { policy: Arc::clone(&served.policy), route: served.route.clone(), params })
    }

    /// The policy and the roles that a connection has by this set, which `before` has let in by an earlier one.
    ///
    /// # Errors
    /// It would not be let in any more. What is looked at is the path and the credential: origin, `Host` and address were
    /// judged when it came, and a policy that asks for a credential where there was none asks those who come.
    pub fn readmit(
        &self,
        admitted: &Admitted,
        before: &Policy,
        user: Option<&str>,
        roles: &Roles,
    ) -> Result<(Resolved, Roles), Gone> {
        let resolved = self.resolve(&admitted.path).ok_or(Gone::Path)?;
        if resolved.policy.protocol != before.protocol {
            return Err(Gone::Protocol);
        }
        if admitted.is_reported && !resolved.policy.report_handshakes {
            return Err(Gone::Reported);
        }
        let roles = match (admitted.credential, user) {
            (Some(credential), Some(user)) => {
                resolved.policy.authenticator.still_lets_in(credential, user, roles).ok_or(Gone::Credential)?
            }
            _ => roles.clone(),
        };
        Ok((resolved, roles))
    }

    /// The paths on which the rules for handshakes only report; "": those that are no route.
    pub fn reporting_paths(&self) -> Vec<Arc<str>> {
        let mut paths =
            self.policies().filter(|policy| policy.report_handshakes).map(|policy| Arc::clone(&policy.path));
        let mut found = paths.by_ref().collect::<Vec<_>>();
        found.sort();
        found.dedup();
        found
    }

    /// The largest `max_outbox_bytes`: what is larger can be sent to nobody.
    pub fn largest_outbox(&self) -> usize {
        self.policies().map(|policy| policy.max_outbox_bytes).max().unwrap_or_default()
    }

    /// Every policy of the set, that of the top first; one may come twice.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        core::iter::once(&self.top).chain(self.served.values().map(|served| &served.policy))
    }

    /// Where keys are to be fetched from, and whose keys: one may come twice, first with the policy that states it.
    pub fn jwks(&self) -> impl Iterator<Item = (&Policy, &Arc<Jwks>)> {
        self.policies().filter_map(|policy| policy.authenticator.jwks().map(|jwks| (&**policy, jwks)))
    }

    /// `next` in place of this one, with the number that it has then.
    ///
    /// # Errors
    /// Names an option that differs and can only be stated at the start.
    pub fn replaced_by(&self, next: Self) -> Result<Self, ConfigError> {
        let fixed = self.differing(&next).find(|(_, is_reloadable)| !is_reloadable).map(|(name, _)| name.to_owned());
        let fixed = fixed.or_else(|| self.route_of_another_protocol(&next));
        match fixed {
            Some(option) => Err(ConfigError::not_reloadable(option)),
            None => {
                let generation = self.generation + 1;
                next.policies().for_each(|policy| policy.contract.set_generation(generation));
                Ok(Self { generation, ..next })
            }
        }
    }

    /// The names of the options that are stated otherwise than in `next`.
    pub fn changed_names(&self, next: &Self) -> Vec<&'static str> {
        self.differing(next).map(|(name, _)| name).collect()
    }

    fn differing<'s>(&'s self, next: &'s Self) -> impl Iterator<Item = (&'static str, bool)> + 's {
        let pairs = self.stated.iter().zip(&next.stated);
        pairs.filter(|(own, other)| own != other).map(|(own, _)| (own.name, own.is_reloadable))
    }

    /// The route that is in both, and whose messages have another form in `next`.
    fn route_of_another_protocol(&self, next: &Self) -> Option<String> {
        next.served.values().find_map(|served| {
            let route = served.route.as_ref()?;
            let before = self.served.values().find(|before| before.route.as_ref() == Some(route))?;
            (before.policy.protocol != served.policy.protocol).then(|| format!("routes.{}.protocol", harmless(route)))
        })
    }
}

impl Policy {
    /// An error about this policy's options, which names the route that it is of: `routes./admin.auth.jwt.jwks_url`.
    pub fn names_route(&self, error: ConfigError) -> ConfigError {
        if self.path.is_empty() { error } else { in_route(&self.path, error) }
    }
}

fn in_route(path: &str, error: ConfigError) -> ConfigError {
    ConfigError { option: format!("routes.{}.{}", harmless(path), error.option), ..error }
}

impl fmt::Display for PolicySet {
    /// The one line printed at start. It holds no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self.served.values().filter(|served| served.route.is_some()).count();
        write!(f, "{} routes={routes} generation={}", self.top, self.generation)
    }
}

fn stated(options: &Options) -> Vec<Stated> {
    let rows = Options::table().options.iter();
    let one = rows.map(|option| {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, options.json_of(option.name).as_bytes()).as_ref());
        Stated { name: option.name, is_reloadable: option.is_reloadable(), digest: bytes }
    });
    one.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Outcome;
    use crate::config_error::ConfigErrorKind;
    use crate::files::NoFiles;

    fn set(more: &str) -> Result<PolicySet, ConfigError> {
        let json = format!(
            r#"{{"origins": ["https://a.example"], "auth": {{"tokens": [{{"token": "good", "user": "alice"}}]}},
                "events": {{"say": {{}}}} {more}}}"#
        );
        PolicySet::compile(Options::from_json(&json)?, &NoFiles)
    }

    fn error(more: &str) -> (String, String) {
        let error = set(more).unwrap_err();
        (error.option, error.message)
    }

    #[test]
    fn a_route_has_from_the_top_what_it_does_not_state() {
        let set = set(
            r#", "max_message_bytes": 1000, "routes": {
                "/admin": {"auth": {"tokens": [{"token": "root", "user": "root", "roles": ["admin"]}]}, "max_message_bytes": 5},
                "/raw": {"protocol": "raw"},
                "/open": {"dangerously_allow_any_origin": true, "auth": "none"},
                "/room/{name}": {"rate_limit": {"per_second": 1, "burst": 1}}}"#,
        )
        .unwrap();
        let of = |path: &str| set.resolve(path).unwrap();
        let (admin, room) = (of("/admin"), of("/room/5"));
        assert_eq!((admin.policy.max_message_bytes, room.policy.max_message_bytes), (5, 1000));
        assert_eq!((admin.route.as_deref(), room.route.as_deref()), (Some("/admin"), Some("/room/{name}")));
        assert_eq!((&*room.params[0].0, room.params[0].1.as_str()), ("name", "5"));
        assert!(Arc::ptr_eq(&admin.policy.contract, &set.top.contract), "compiled once");
        assert!(Arc::ptr_eq(&room.policy.authenticator, &set.top.authenticator));
        assert!(matches!(admin.policy.authenticator.check(Some("good"), 0), Outcome::Refused(_)));
        assert!(matches!(admin.policy.authenticator.check(Some("root"), 0), Outcome::Accepted(_)));
        assert!(of("/raw").policy.contract.find("say").is_none(), "events are of the other protocol");
        assert!(of("/open").policy.origins.allows(b"https://evil.example"));
        assert!(!room.policy.origins.allows(b"https://evil.example"));
        assert_eq!((&*admin.policy.scope, &*room.policy.scope, &*set.top.scope), ("", "/room/{name}", ""));
        assert!(set.resolve("/").is_none() && set.resolve("/admin/").is_none());
    }

    #[test]
    fn paths_and_routes_are_what_is_served() {
        let all = set("").unwrap();
        assert!(all.resolve("/whatever").is_some_and(|resolved| resolved.route.is_none()));
        let some = set(r#", "paths": ["/ws", "/u/{id}", "/a"], "routes": {"/a": {"max_message_bytes": 5}}"#).unwrap();
        assert!(some.resolve("/ws").is_some() && some.resolve("/x").is_none());
        assert_eq!(some.resolve("/u/7").unwrap().params[0].1, "7");
        assert_eq!(some.resolve("/a").unwrap().policy.max_message_bytes, 5, "the route counts");
    }

    #[test]
    fn errors_name_the_route() {
        let route = |options: &str| error(&format!(r#", "routes": {{"/a": {options}}}"#));
        for (name, value) in [
            ("listen", "1"),
            ("threads", "1"),
            ("tls", "null"),
            ("max_connections", "1"),
            ("max_inbox_bytes", "1"),
            ("trusted_proxies", "[]"),
            ("proxy_protocol", "true"),
            ("paths", "[]"),
            ("routes", "{}"),
        ] {
            let (option, message) = route(&format!(r#"{{"{name}": {value}}}"#));
            assert_eq!(option, format!("routes./a.{name}"));
            assert!(message.starts_with("is an option of the process"), "{message}");
        }
        assert_eq!(route(r#"{"max_fragments": 0}"#).0, "routes./a.max_fragments");
        assert_eq!(route(r#"{"max_fragments": "5"}"#).0, "routes./a.max_fragments");
        assert_eq!(route(r#"{"maxFragments": 5}"#).0, "routes./a.maxFragments");
        assert_eq!(route(r#"{"events": {"e": {"cost": -1}}}"#).0, "routes./a.events.e.cost");
        assert_eq!(route(r#"{"events": {"e": {"schema": 7}}}"#).0, "routes./a.events.e.schema");
        assert_eq!(route(r#"{"origins": ["nonsense"]}"#).0, "routes./a.origins[0]");
        assert_eq!(route(r#"{"auth": {"tokens": []}}"#).0, "routes./a.auth.tokens");
        assert_eq!(route(r#"{"ping_interval_ms": 60000}"#).0, "routes./a.idle_timeout_ms");
        assert_eq!(route(r#"{"protocol": "raw", "events": {"e": {}}}"#).0, "routes./a.events");
        assert_eq!(route("7").0, "routes./a");
        assert_eq!(error(r#", "routes": {"a": {}}"#).0, "routes.a");
        assert_eq!(error(r#", "routes": {"/a/{b": {}}"#).0, "routes./a/{b");
        assert_eq!(error(r#", "routes": {"/a/{b}": {}, "/a/{c}": {}}"#).0, "routes./a/{c}");
        assert_eq!(error(r#", "routes": {"/a/{b}": {}}, "paths": ["/a/{c}"]"#).0, "paths[0]");
        // A credential that somebody has put where a name belongs is not repeated.
        let (option, message) = route(r#"{"auth": {"tokens": [{"S3cr3t-t0ken": "alice"}]}}"#);
        assert!(!option.contains("S3cr3t") && !message.contains("S3cr3t"), "{option}: {message}");
    }

    #[test]
    fn a_reload_changes_what_may_change_and_names_what_may_not() {
        let first = set(r#", "routes": {"/a": {"protocol": "raw"}}"#).unwrap();
        for (more, option) in [
            (r#", "listen": "127.0.0.1:1""#, "listen"),
            (r#", "threads": 7"#, "threads"),
            (r#", "routes": {"/a": {}}"#, "routes./a.protocol"),
        ] {
            let error = first.replaced_by(set(more).unwrap()).unwrap_err();
            assert_eq!((error.kind, error.option.as_str()), (ConfigErrorKind::NotReloadable, option));
        }
        let next = set(r#", "max_message_bytes": 7, "routes": {"/b": {"protocol": "raw"}}"#).unwrap();
        assert_eq!(first.changed_names(&next), ["routes", "max_message_bytes"]);
        let second = first.replaced_by(next).unwrap();
        assert_eq!((first.generation, second.generation, second.top.max_message_bytes), (1, 2, 7));
        assert_eq!(second.changed_names(&second), Vec::<&str>::new());
    }

    #[test]
    fn nothing_that_is_kept_of_the_options_is_a_credential() {
        assert!(!format!("{:?} {}", set("").unwrap(), set("").unwrap()).contains("good"));
    }
}

//! The page, by axum: its files, compiled in, and the buttons' requests. Nothing here knows of the chat: see
//! [`port`](crate::port).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, COOKIE, HOST, HeaderValue, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::attack::{ATTACKS, Attacker, Target};
use crate::port::CHAT_PATH;

/// The cookie that holds a guest's token: the policy's `token_sources` names it.
const COOKIE_NAME: &str = "wsguard_demo";

/// A policy that comes from the page is no longer than this, and comes within this time.
const MAX_POLICY_BYTES: usize = 16 * 1024;
const POLICY_TIMEOUT: Duration = Duration::from_secs(5);

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// One of the two origins.
pub(crate) struct Site {
    pub(crate) own: SocketAddr,
    /// The other origin: of the page its foreign page, of the foreign page the page.
    pub(crate) other: SocketAddr,
    pub(crate) attacker: Arc<Attacker>,
}

impl Site {
    fn content_security_policy(&self) -> String {
        let (own, other, plain) = (self.own, self.other, self.attacker.plain);
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self' ws://{own} ws://{other} ws://{plain}; frame-src http://{other}; frame-ancestors http://{other}; \
             base-uri 'none'; form-action 'none'"
        )
    }
}

/// The origin of the chat.
pub(crate) fn page(site: Arc<Site>) -> Router {
    let file = |media_type, body: &'static str| get(move || async move { ([(CONTENT_TYPE, media_type)], body) });
    Router::new()
        .route("/", get(begin))
        .route("/style.css", file(CSS, include_str!("../page/style.css")))
        .route("/main.js", file(SCRIPT, include_str!("../page/main.js")))
        .route("/room.js", file(SCRIPT, include_str!("../page/room.js")))
        .route("/meter.js", file(SCRIPT, include_str!("../page/meter.js")))
        .route("/attacks.js", file(SCRIPT, include_str!("../page/attacks.js")))
        .route("/outcome.js", file(SCRIPT, include_str!("../page/outcome.js")))
        .route("/policy.js", file(SCRIPT, include_str!("../page/policy.js")))
        .route("/editor.js", file(SCRIPT, include_str!("../page/editor.js")))
        .route("/icon.svg", file("image/svg+xml", include_str!("../page/icon.svg")))
        .route("/setting", get(setting))
        .route("/policy", get(in_force).post(apply))
        .route("/metrics", get(metrics))
        .route("/attack/{id}/{target}", post(attack))
        .route("/journal", get(mark))
        .route("/journal/{mark}", get(refused_since))
        .layer(from_fn_with_state(Arc::clone(&site), harden))
        .with_state(site)
}

/// The origin of the attacker.
pub(crate) fn foreign(site: Arc<Site>) -> Router {
    let file = |media_type, body: &'static str| get(move || async move { ([(CONTENT_TYPE, media_type)], body) });
    Router::new()
        .route("/", file(HTML, include_str!("../page/foreign.html")))
        .route("/foreign.js", file(SCRIPT, include_str!("../page/foreign.js")))
        .layer(from_fn_with_state(Arc::clone(&site), harden))
        .with_state(site)
}

/// Only the right `Host` is answered, so that a name rebound to this address reads nothing, and only the page itself may
/// press its buttons.
fn refusal(site: &Site, request: &Request) -> Option<Response> {
    let is =
        |name, wanted: &str| request.headers().get(name).is_some_and(|value| value.as_bytes() == wanted.as_bytes());
    if !is(HOST, &site.own.to_string()) {
        return Some((StatusCode::MISDIRECTED_REQUEST, format!("open http://{}/\n", site.own)).into_response());
    }
    if request.method() != Method::GET && !is(ORIGIN, &format!("http://{}", site.own)) {
        return Some((StatusCode::FORBIDDEN, "only the page itself may ask this\n").into_response());
    }
    None
}

/// Checks the request, and tells the browser what the page may load.
async fn harden(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if let Some(refusal) = refusal(&site, &request) {
        return refusal;
    }
    let mut response = next.run(request).await;
    let headers = [
        ("content-security-policy", site.content_security_policy()),
        ("x-content-type-options", "nosniff".to_owned()),
        ("referrer-policy", "no-referrer".to_owned()),
        ("cache-control", "no-store".to_owned()),
    ];
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The page; a browser that is new here becomes a guest.
async fn begin(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let page = ([(CONTENT_TYPE, HTML)], include_str!("../page/index.html"));
    if guest(&site, &headers).is_some() {
        return page.into_response();
    }
    let Ok(pass) = site.attacker.guests.admit("guest") else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the system has no randomness\n").into_response();
    };
    let cookie = format!("{COOKIE_NAME}={}; HttpOnly; SameSite=Strict; Path=/", pass.token);
    ([(SET_COOKIE, cookie)], page).into_response()
}

/// The guest whose cookie came.
fn guest(site: &Site, headers: &HeaderMap) -> Option<String> {
    let cookies =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(';'));
    let mut tokens = cookies.filter_map(|cookie| cookie.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='));
    tokens.find_map(|token| site.attacker.guests.user(token))
}

/// What the page has to know of this run.
async fn setting(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let attacker = &site.attacker;
    let attacks = ATTACKS.iter().map(|attack| {
        json!({
            "id": attack.id, "title": attack.title, "protection": attack.protection, "why": attack.why,
            "wire": attack.wire,
        })
    });
    json_response(&json!({
        "guest": guest(&site, &headers),
        "guarded": format!("ws://{}{CHAT_PATH}", site.own), "plain": format!("ws://{}/", attacker.plain),
        "foreign": format!("http://{}", site.other),
        "first_policy": attacker.live.first, "tls_policy": attacker.tls_policy, "attacks": attacks.collect::<Vec<_>>(),
    }))
}

/// The policy that the guarded server runs by.
async fn in_force(State(site): State<Arc<Site>>) -> Response {
    let now = site.attacker.live.now();
    json_response(&json!({ "generation": now.generation, "policy": now.text }))
}

/// Puts the text that the page sends into force. [`harden`] has seen that it is this page.
async fn apply(State(site): State<Arc<Site>>, request: Request) -> Response {
    let Ok(body) = timeout(POLICY_TIMEOUT, to_bytes(request.into_body(), MAX_POLICY_BYTES)).await else {
        return (StatusCode::REQUEST_TIMEOUT, "the policy took too long\n").into_response();
    };
    let Ok(body) = body else {
        return (StatusCode::PAYLOAD_TOO_LARGE, format!("a policy has {MAX_POLICY_BYTES} bytes at most\n"))
            .into_response();
    };
    match String::from_utf8(body.into()) {
        Ok(policy) => json_response(&site.attacker.apply(policy).await),
        Err(_) => (StatusCode::BAD_REQUEST, "a policy is UTF-8\n").into_response(),
    }
}

/// What `/metrics` of `admin_listen` serves, as text that a browser shows.
async fn metrics(State(site): State<Arc<Site>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], site.attacker.live.metrics()).into_response()
}

async fn attack(State(site): State<Arc<Site>>, Path((id, target)): Path<(String, String)>) -> Response {
    let target = match target.as_str() {
        "guarded" => Target::Guarded,
        "plain" => Target::Plain,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let Some(attack) = ATTACKS.iter().find(|attack| attack.id == id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match site.attacker.run(attack, target).await {
        Some(report) => json_response(&report),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Where the journal stands, for an attack that the browser itself does.
async fn mark(State(site): State<Arc<Site>>) -> Response {
    json_response(&site.attacker.journal.mark().into())
}

async fn refused_since(State(site): State<Arc<Site>>, Path(mark): Path<u64>, headers: HeaderMap) -> Response {
    let guest = guest(&site, &headers);
    json_response(&site.attacker.refused_since(mark, guest.as_deref()).await)
}

fn json_response(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], Body::from(value.to_string())).into_response()
}

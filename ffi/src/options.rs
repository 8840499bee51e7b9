//! Options on their way to a server. Each is checked where it is stated, by itself; what only several can get wrong
//! together, the start finds.

use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;
use std::sync::Mutex;

use serde_json::{Value, json};
use wsguard::binding::{Auth, Builder, ConfigError, ConfigErrorKind, Options, compile};

use crate::error::{ErrorHandle, ErrorPlace, Failure, explain};
use crate::handle::{self, Opaque};
use crate::inline::{Inline, InlineFn};
use crate::os::{self, lock};
use crate::pointers::{self, Userdata, name, optional_text};
use crate::status::Status;

/// The options to start servers with. `origins` and `auth` have no default: a server does not start without them.
pub enum OptionsHandle {}

impl Opaque for OptionsHandle {
    type Object = Mutex<Stated>;
    const KIND: usize = 2;
}

/// What was stated so far.
#[derive(Clone, Debug, Default)]
pub struct Stated {
    pub(crate) options: Options,
    pub(crate) inline: Option<Inline>,
    pub(crate) start: Start,
}

/// How a server is started beside its options, for `wsg_options_set_start`. Combine them with `|`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum StartFlag {
    /// Each opening handshake that has passed every check of the server's becomes a `WSG_EVENT_UPGRADE`, whatever `auth` says.
    /// Where the server itself has found out who the peer is, `wsg_upgrade.identity` says so, and the answer leaves it so:
    /// `wsg_ticket_pass`. The time for it is `auth_timeout_ms`.
    Consult = 1,
    /// With `WSG_START_CONSULT`: the application decides as long as it likes while the peer stays. `max_pending_auth` bounds
    /// how many wait.
    ConsultWithoutDeadline = 2,
    /// Listens nowhere, whatever `listen` says: every connection comes by `wsg_server_adopt_fd` or `wsg_server_adopt_pipe`.
    WithoutListener = 4,
    /// The server answers no pings: they are the application's (`wsg_server_heed_control`, `wsg_conn_send_pong`).
    /// `wsg_conn_set_auto_pong` changes it for one connection.
    WithoutAutoPong = 8,
}

/// A combination of [`StartFlag`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start(u32);

impl Start {
    fn new(flags: u32) -> Result<Self, Status> {
        let start = Self(flags);
        let all = [
            StartFlag::Consult,
            StartFlag::ConsultWithoutDeadline,
            StartFlag::WithoutListener,
            StartFlag::WithoutAutoPong,
        ];
        let known = all.iter().fold(0, |bits, flag| bits | *flag as u32);
        let is_lone_deadline = start.has(StartFlag::ConsultWithoutDeadline) && !start.consults();
        if flags & !known != 0 || is_lone_deadline { Err(Status::ErrArgument) } else { Ok(start) }
    }

    fn has(self, flag: StartFlag) -> bool {
        self.0 & flag as u32 != 0
    }

    pub(crate) fn consults(self) -> bool {
        self.has(StartFlag::Consult)
    }

    pub(crate) fn apply(self, builder: Builder) -> Builder {
        let builder = match (self.consults(), self.has(StartFlag::ConsultWithoutDeadline)) {
            (true, true) => builder.consult_without_deadline(),
            (true, false) => builder.consult(),
            (false, _) => builder,
        };
        let builder = if self.has(StartFlag::WithoutListener) { builder.without_listener() } else { builder };
        builder.auto_pong(!self.has(StartFlag::WithoutAutoPong))
    }
}

/// One option by itself, checked as far as that goes: its type, its range, and what a policy finds wrong with it alone.
fn alone(option: &str, json: &str) -> Result<Options, Failure> {
    let mut alone = Options::default();
    alone.set(option, json)?;
    // Beside a policy that stands, whatever the option is.
    let mut policy = alone.clone();
    if option != "origins" {
        policy.dangerously_allow_any_origin = true;
    }
    policy.auth.get_or_insert(Auth::None);
    policy.dangerously_allow_plaintext = true;
    // What an event costs beyond it is a contradiction, which would be found before what is wrong with the event itself.
    if option != "rate_limit" {
        policy.rate_limit = None;
    }
    match compile(policy) {
        Err(error) if error.kind == ConfigErrorKind::InvalidOption && error.option.starts_with(option) => {
            Err(error.into())
        }
        _ => Ok(alone),
    }
}

/// Changes what was stated; an error leaves it as it was.
fn change(
    options: *mut OptionsHandle,
    change: impl FnOnce(&mut Options) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stated = handle::find(options)?;
    let _calm = os::calm();
    change(&mut lock(&stated).options)
}

/// Sets one option.
fn set(
    options: *mut OptionsHandle,
    error: ErrorPlace<'_>,
    option: &str,
    value: impl FnOnce() -> Result<Value, Status>,
) -> Result<Status, Status> {
    explain(error, || {
        handle::find(options)?;
        set_json(options, option, &value()?.to_string())
    })?;
    Ok(Status::Ok)
}

fn set_json(options: *mut OptionsHandle, option: &str, json: &str) -> Result<(), Failure> {
    alone(option, json)?;
    change(options, |options| Ok(options.set(option, json)?))
}

/// Sets who is asked. Tokens or keys that were stated are not forgotten by it.
fn set_auth(options: *mut OptionsHandle, error: ErrorPlace<'_>, name: &str, auth: Auth) -> Result<Status, Status> {
    explain(error, || {
        change(options, |options| match &options.auth {
            Some(stated) if core::mem::discriminant(stated) != core::mem::discriminant(&auth) => {
                Err(contradiction(name))
            }
            _ => {
                options.auth = Some(auth);
                Ok(())
            }
        })
    })?;
    Ok(Status::Ok)
}

fn contradiction(auth: &str) -> Failure {
    let message = format!("is stated as something else already; state {auth} alone, or replace it by wsg_options_set");
    ConfigError::contradiction("auth", message).into()
}

exports! {
    /// Makes empty options: every option has its default, and `origins` and `auth` are still missing.
    ///
    /// On `WSG_OK` you own `*options` and free it with `wsg_options_free`. Any thread may use it. Returns `WSG_OK` or
    /// `WSG_ERR_NULL`.
    pub fn wsg_options_new(options: Option<&mut MaybeUninit<*mut OptionsHandle>>) -> Status {
        let place = pointers::out(options)?;
        place.write(core::ptr::null_mut());
        place.write(handle::insert(Mutex::new(Stated::default()))?);
        Ok(Status::Ok)
    }

    /// Makes options from the text of a JSON object, with every option under its own name.
    ///
    /// On `WSG_OK` you own `*options` and free it with `wsg_options_free`; otherwise `*options` is `NULL`. The call
    /// writes `*error` as `wsg_error` says.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_UNKNOWN_OPTION`, `WSG_ERR_INVALID_OPTION` (wrong type, or not JSON),
    /// `WSG_ERR_NULL` or `WSG_ERR_UTF8`. `wsg_server_start` checks ranges, required options and contradictions.
    pub fn wsg_options_from_json(json: *const c_char, json_len: usize,
        options: Option<&mut MaybeUninit<*mut OptionsHandle>>, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            let place = pointers::out(options)?;
            place.write(core::ptr::null_mut());
            let json = name(json, json_len)?;
            place.write(handle::insert(Mutex::new(Stated { options: Options::from_json(json)?, ..Stated::default() }))?);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Frees options. Servers that were started with them go on. Any thread.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, or `WSG_ERR_HANDLE` the second time.
    pub fn wsg_options_free(options: *mut OptionsHandle) -> Status {
        handle::remove(options)?;
        Ok(Status::Ok)
    }

    /// Sets any option, by its name, to a JSON text: `"rate_limit"` to `{"per_second": 5, "burst": 10}`. It replaces
    /// the value that was set before.
    ///
    /// Like every setter below it checks the option by itself, writes `*error` as `wsg_error` says, and changes nothing
    /// on an error. Any thread. Returns `WSG_OK`, `WSG_ERR_UNKNOWN_OPTION`, `WSG_ERR_INVALID_OPTION` (wrong type, not
    /// JSON, out of range), `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_UTF8`.
    pub fn wsg_options_set(options: *mut OptionsHandle, name: *const c_char, name_len: usize, json: *const c_char,
        json_len: usize, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            handle::find(options)?;
            let (name, json) = (self::name(name, name_len)?, self::name(json, json_len)?);
            set_json(options, name, json)
        })?;
        Ok(Status::Ok)
    }

    /// Sets `listen`: `host:port` (port 0: any free port), `unix:PATH` or `fd:N`. Otherwise as `wsg_options_set`.
    pub fn wsg_options_set_listen(options: *mut OptionsHandle, address: *const c_char, address_len: usize,
        error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        set(options, error, "listen", || Ok(name(address, address_len)?.into()))
    }

    /// Adds an origin to `origins`, whose pages may connect: `https://app.example.com`. Otherwise as `wsg_options_set`.
    pub fn wsg_options_add_origin(options: *mut OptionsHandle, origin: *const c_char, origin_len: usize,
        error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            handle::find(options)?;
            let origin = name(origin, origin_len)?;
            alone("origins", &json!([origin]).to_string())?;
            change(options, |options| {
                options.origins.get_or_insert_default().push(origin.to_owned());
                Ok(())
            })
        })?;
        Ok(Status::Ok)
    }

    /// Sets `auth` to `callback`: an opening handshake that passes every other check becomes a `WSG_EVENT_UPGRADE`, and
    /// waits for an answer to its ticket.
    ///
    /// Returns `WSG_ERR_CONTRADICTION` if `auth` was set to something else. Otherwise as `wsg_options_set`.
    pub fn wsg_options_set_auth_callback(options: *mut OptionsHandle, error: Option<&mut MaybeUninit<*mut ErrorHandle>>
    ) -> Status {
        set_auth(options, error, "callback", Auth::Callback)
    }

    /// Sets `auth` to `none`: a peer that passes every other check is accepted without a user.
    ///
    /// Returns `WSG_ERR_CONTRADICTION` if `auth` was set to something else. Otherwise as `wsg_options_set`.
    pub fn wsg_options_set_auth_none(options: *mut OptionsHandle, error: Option<&mut MaybeUninit<*mut ErrorHandle>>
    ) -> Status {
        set_auth(options, error, "none", Auth::None)
    }

    /// Adds a token of `user` to the tokens of `auth`.
    ///
    /// Returns `WSG_ERR_CONTRADICTION` if `auth` was set to something else. Otherwise as `wsg_options_set`.
    pub fn wsg_options_add_token(options: *mut OptionsHandle, token: *const c_char, token_len: usize,
        user: *const c_char, user_len: usize, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            handle::find(options)?;
            let entry = json!({"token": name(token, token_len)?, "user": name(user, user_len)?});
            let Some(Auth::Tokens(added)) = alone("auth", &json!({"tokens": [entry]}).to_string())?.auth else {
                return Err(contradiction("tokens"));
            };
            change(options, |options| match options.auth.get_or_insert(Auth::Tokens(Vec::new())) {
                Auth::Tokens(tokens) => {
                    tokens.extend(added);
                    Ok(())
                }
                _ => Err(contradiction("tokens")),
            })
        })?;
        Ok(Status::Ok)
    }

    /// Sets `tls`: the certificate chain and the private key, each as PEM text or as the path of a PEM file.
    /// `wsg_server_start` reads them. Otherwise as `wsg_options_set`.
    pub fn wsg_options_set_tls(options: *mut OptionsHandle, cert: *const c_char, cert_len: usize, key: *const c_char,
        key_len: usize, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        set(options, error, "tls", || Ok(json!({"cert": name(cert, cert_len)?, "key": name(key, key_len)?})))
    }

    /// Adds an event to `events`, which peers may send. `schema` is a JSON Schema for its data; `NULL`: any data. It
    /// replaces an event of the same name. Otherwise as `wsg_options_set`.
    pub fn wsg_options_add_event(options: *mut OptionsHandle, name: *const c_char, name_len: usize,
        schema: *const c_char, schema_len: usize, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            handle::find(options)?;
            let name = self::name(name, name_len)?;
            let rules = match optional_text(schema, schema_len)? {
                Some(schema) => rules(name, schema)?,
                None => "{}".to_owned(),
            };
            let mut added = alone("events", &format!("{{{}:{rules}}}", Value::from(name)))?.events;
            change(options, |options| {
                options.events.append(&mut added);
                Ok(())
            })
        })?;
        Ok(Status::Ok)
    }

    /// Sets a handler that answers messages on the library's own I/O threads, between reading a message and writing the
    /// answer: the fastest way to answer. `NULL` removes it.
    ///
    /// The handler is for work of a few microseconds. **It must not block**: while it runs, every connection of its
    /// thread waits. Several threads call it at once with the same `userdata`, until `wsg_server_next` has returned
    /// `WSG_STOPPED` or `wsg_server_free` has returned. It may call every function but `wsg_server_start`, `_next`,
    /// `_run` and `_free`.
    ///
    /// Some thread must take events all the same: `wsg_server_run` with no handlers will do. The handler gets a message
    /// only if the application has taken and freed every earlier event of its connection that wakes it; other messages
    /// go to the application. The open of a connection wakes `wsg_server_run` only if `handlers.open` or `.event` is
    /// set. Without them, and after `wsg_server_set_interest` without `WSG_INTEREST_OPEN`, the handler may get messages
    /// before `wsg_server_next` returns the open of their connection. `wsg_conn_set_data` works there already.
    ///
    /// Any thread. It applies to servers that are started afterwards. Returns `WSG_OK`, `WSG_ERR_NULL` or
    /// `WSG_ERR_HANDLE`.
    pub fn wsg_options_set_inline(options: *mut OptionsHandle, handler: InlineFn, userdata: *mut c_void
    ) -> Status {
        let options = handle::find(options)?;
        let _calm = os::calm();
        lock(&options).inline = handler.map(|handler| Inline { handler, userdata: Userdata::new(userdata) });
        Ok(Status::Ok)
    }

    /// Says how servers are started beside their options: a combination of `wsg_start`; 0, the default: none of them. It
    /// replaces what was set before.
    ///
    /// Any thread. It applies to servers that are started afterwards. Returns `WSG_OK`; `WSG_ERR_ARGUMENT` for an unknown
    /// bit, and for `WSG_START_CONSULT_WITHOUT_DEADLINE` without `WSG_START_CONSULT`; `WSG_ERR_NULL` or `WSG_ERR_HANDLE`.
    pub fn wsg_options_set_start(options: *mut OptionsHandle, flags: u32) -> Status {
        let options = handle::find(options)?;
        let start = Start::new(flags)?;
        let _calm = os::calm();
        lock(&options).start = start;
        Ok(Status::Ok)
    }
}

/// The JSON of an event with this schema. The text must be one JSON value: pasted into another it says nothing else.
fn rules(event: &str, schema: &str) -> Result<String, Failure> {
    let invalid = |message| ConfigError::invalid(format!("events.{event}.schema"), message);
    let value: Value = serde_json::from_str(schema).map_err(|error| invalid(format!("not JSON: {error}")))?;
    if value.is_null() {
        return Err(invalid("must be an object or a boolean, got null".to_owned()).into());
    }
    Ok(format!("{{\"schema\":{schema}}}"))
}

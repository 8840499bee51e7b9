// wsguard for C++17: RAII over wsguard.h, std::string_view for texts, std::chrono for times, std::function for handlers.
// Header only. What wsguard.h says of a function holds for the member of the same name.
//
// Ownership. An object frees what it owns when it goes out of scope. A std::string_view that you are given is valid as long as
// wsguard.h says; those that you pass are copied.
//
// Errors. A call that fails throws wsguard::error, whose `status()` is that of wsguard.h. To send to a connection that has
// closed is no error: it returns `sent::closed`. Without exceptions (-fno-exceptions) a call that fails ends the process with
// the same words, as an uncaught exception would; there call the functions of wsguard.h with `get()` to get a status.
//
// Handlers may throw. An exception closes the connection that the handler worked for with 1011 (a handshake is refused with
// 503), is written to the library's log as `wsguard::handler`, and is passed to `handlers.failed`. No exception passes
// through C.
#ifndef WSGUARD_HPP
#define WSGUARD_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>
#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

#include "wsguard.h"

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define WSGUARD_EXCEPTIONS 1
#else
#define WSGUARD_EXCEPTIONS 0
#endif

namespace wsguard {
#if !WSGUARD_EXCEPTIONS
// Other names for the linker: a program may have sources of both kinds.
inline namespace without_exceptions {
#endif

/// The number of a connection: unique during the server's life, never 0.
using conn_id = std::uint64_t;

/// The text of a `wsg_str`; empty if there is none.
inline std::string_view view(const wsg_str &text) { return {text.data == nullptr ? "" : text.data, text.len}; }

/// The text of a `wsg_str` that may be absent.
inline std::optional<std::string_view> maybe(const wsg_str &text) {
  if (text.data == nullptr) return std::nullopt;
  return view(text);
}

/// Bytes to send: a string, or any contiguous container of `char`, `unsigned char`, `std::byte` or `std::uint8_t`.
class bytes {
 public:
  bytes(std::string_view text) noexcept : view_(text) {}
  bytes(const char *text) : view_(text) {}
  template <typename Container, typename Element = std::remove_pointer_t<decltype(std::declval<const Container &>().data())>,
            typename = std::enable_if_t<sizeof(Element) == 1 && std::is_trivially_copyable_v<std::remove_cv_t<Element>>>>
  bytes(const Container &container) noexcept
      : view_(container.size() == 0 ? "" : reinterpret_cast<const char *>(container.data()), container.size()) {}

  const char *data() const noexcept { return view_.data(); }
  std::size_t size() const noexcept { return view_.size(); }

 private:
  std::string_view view_;
};

/// The exception of a call that failed.
class error : public std::runtime_error {
 public:
  error(wsg_status status, const std::string &message, std::string option = {})
      : std::runtime_error(message), status_(status), option_(std::move(option)) {}

  wsg_status status() const noexcept { return status_; }
  /// The stable name of the status: `unknown_option`.
  std::string_view code() const noexcept { return view(wsg_status_name(status_)); }
  /// The option at fault; empty if there is none.
  const std::string &option() const noexcept { return option_; }

 private:
  wsg_status status_;
  std::string option_;
};

namespace detail {

struct deleter {
  void operator()(wsg_options *options) const noexcept { wsg_options_free(options); }
  void operator()(wsg_server *server) const noexcept {
    // Its threads, and whoever is in `run`, would go on with what is destroyed.
    if (wsg_server_free(server) != WSG_ERR_REENTRANT) return;
    std::fputs("wsguard: a server must not be destroyed in one of its handlers: stop it there\n", stderr);
    std::abort();
  }
  void operator()(wsg_error *error) const noexcept { wsg_error_free(error); }
};

[[noreturn]] inline void raise(const error &failure) {
#if WSGUARD_EXCEPTIONS
  throw failure;
#else
  std::fprintf(stderr, "wsguard: %s: %s\n", wsg_status_name(failure.status()).data, failure.what());
  std::abort();
#endif
}

inline wsg_status check(wsg_status status) {
  if (status >= 0) return status;
  raise(error(status, std::string(view(wsg_status_message(status)))));
}

/// Makes a call that explains itself, and throws what it explains.
template <typename Call>
wsg_status explained(Call &&call) {
  wsg_error *raw = nullptr;
  const wsg_status status = call(&raw);
  std::unique_ptr<wsg_error, deleter> owned(raw);
  if (status >= 0 || raw == nullptr) return check(status);
  raise(error(status, std::string(view(wsg_error_message(raw))), std::string(view(wsg_error_option(raw)))));
}

/// The program and the library that was loaded are of one version.
inline void check_abi() { check(wsg_abi_check(WSG_ABI_VERSION)); }

inline const char *data(const std::optional<std::string_view> &text) {
  return !text ? nullptr : text->data() == nullptr ? "" : text->data();
}

inline std::size_t size(const std::optional<std::string_view> &text) { return text ? text->size() : 0; }

inline std::uint64_t milliseconds(std::chrono::milliseconds duration) {
  if (duration.count() < 0) raise(error(WSG_ERR_ARGUMENT, "a duration must not be negative"));
  return static_cast<std::uint64_t>(duration.count());
}

/// Calls what may throw: `true` when it did not; else `failed` is called with the exception. `pthread_exit` goes on, to the
/// library, which says what happened and ends the process.
template <typename Call, typename Failed>
bool caught(Call &&call, Failed &&failed) {
#if WSGUARD_EXCEPTIONS
  try {
    call();
    return true;
#ifdef __GLIBCXX__
  } catch (abi::__forced_unwind &) {
    throw;
#endif
  } catch (...) {
    failed(std::current_exception());
    return false;
  }
#else
  static_cast<void>(failed);
  call();
  return true;
#endif
}

/// Writes an exception to the log.
inline void log_failure(const std::exception_ptr &failure) noexcept {
#if WSGUARD_EXCEPTIONS
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception &exception) {
    const std::string_view what = exception.what();
    wsg_log_failure(what.data(), what.size());
  } catch (...) {
    wsg_log_failure("an exception that is no std::exception", 38);
  }
#else
  static_cast<void>(failure);
#endif
}

/// What stands for an open that is passed over: whoever has accepted its handshake, or handed its connection over, waits to hear of it.
template <typename Tell>
void settle(const wsg_open &open, Tell &&tell) {
  wsg_event event = {};
  if (open.ticket != 0) {
    const wsg_upgrade_gone gone = {open.ticket};
    event.kind = WSG_EVENT_UPGRADE_GONE;
    event.body.upgrade_gone = &gone;
    tell(event);
  }
  if (open.adopted != 0) {
    const wsg_adoption_ended ended = {open.adopted, WSG_NO_VERDICT, 101};
    event.kind = WSG_EVENT_ADOPTION_ENDED;
    event.body.adoption_ended = &ended;
    tell(event);
  }
}

}  // namespace detail

/// The result of a command to a connection.
enum class sent {
  /// It was accepted.
  sent,
  /// It was accepted and waits behind what the peer has not read; `handlers.drained` is called when all was written.
  queued,
  /// The connection has closed: nothing was sent.
  closed,
};

/// The connections that a broadcast leaves out: none, one, a list, or a contiguous container of them.
class except {
 public:
  except() noexcept = default;
  except(conn_id conn) noexcept : one_(conn), size_(1) {}
  /// Valid until the end of the full expression, like every initializer list: long enough for a call.
  except(std::initializer_list<conn_id> conns) noexcept : size_(conns.size()) { many_ = conns.begin(); }
  template <typename Container, typename Pointer = decltype(std::declval<const Container &>().data()),
            typename = std::enable_if_t<std::is_convertible_v<Pointer, const conn_id *>>>
  except(const Container &conns) noexcept : many_(conns.data()), size_(conns.size()) {}

  const conn_id *data() const noexcept { return many_ == nullptr && size_ == 1 ? &one_ : many_; }
  std::size_t size() const noexcept { return size_; }

 private:
  conn_id one_ = 0;
  const conn_id *many_ = nullptr;
  std::size_t size_ = 0;
};

/// How many connections there are on all nodes of a cluster.
struct everywhere {
  /// The connections of all nodes, those of this one among them: each once.
  std::size_t connections = 0;
  /// Nodes that have not answered in time: what they have is not counted.
  std::uint32_t missing = 0;
};

/// A function that receives a count; nothing: the server has ended meanwhile. It is called once, on the thread that asks or on a
/// thread of the library; it must return soon and must not throw.
using counted = std::function<void(std::optional<everywhere>)>;

/// The default timeout and jitter of a drain, the same in every language.
inline constexpr std::chrono::milliseconds default_drain_timeout{WSG_DEFAULT_DRAIN_TIMEOUT_MS};
inline constexpr std::chrono::milliseconds default_drain_jitter{WSG_DEFAULT_DRAIN_JITTER_MS};

/// The replies of an inline handler, valid during its call.
class replies {
 public:
  explicit replies(wsg_replies *raw) noexcept : raw_(raw) {}
  void send_text(std::string_view text) const { detail::check(wsg_replies_send_text(raw_, text.data(), text.size())); }
  void send_binary(bytes payload) const {
    detail::check(wsg_replies_send_binary(raw_, payload.data(), payload.size()));
  }
  void emit(std::string_view event, std::string_view json) const {
    detail::check(wsg_replies_emit(raw_, event.data(), event.size(), json.data(), json.size()));
  }
  /// In reply to a message, by its `id`.
  void reply(const wsg_str &id, std::string_view event, std::string_view json) const {
    detail::check(wsg_replies_reply(raw_, id.data, id.len, event.data(), event.size(), json.data(), json.size()));
  }

 private:
  wsg_replies *raw_;
};

class server;

/// Answers messages on the library's own threads; it must not block. Returns true if it has handled the message, false to
/// leave it to the application; it must not have replied then.
using inline_handler = std::function<bool(conn_id, const wsg_inline_message &, const replies &)>;
/// Is called with what a handler threw.
using failure_handler = std::function<void(server &, std::exception_ptr)>;

namespace detail {

/// The inline handler of options or of one server, and who hears of its exceptions.
class inline_calls {
 public:
  /// Of options: nobody hears.
  explicit inline_calls(inline_handler answer) : handler_(std::make_shared<const inline_handler>(std::move(answer))) {}
  /// Of a server that is started with those options.
  inline_calls(const inline_calls &stated, server &self) : handler_(stated.handler_), self_(&self) {}

  /// What C is to call, with this as userdata.
  void state(wsg_options *options) { check(wsg_options_set_inline(options, &inline_calls::call, this)); }

  /// From here on `failed` hears what the handler throws, on the thread where it does; others that listen when they run at
  /// the same time, which they cannot, do not.
  void listen(const failure_handler &failed) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    listeners_.push_back(&failed);
  }

  /// It does not any more when this returns.
  void unlisten(const failure_handler &failed) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    listeners_.erase(std::find(listeners_.begin(), listeners_.end(), &failed));
  }

  /// One server after the other is started with the options.
  std::mutex starting;

 private:
  static int call(void *userdata, std::uint64_t conn, const wsg_inline_message *message, wsg_replies *raw) {
    auto &self = *static_cast<inline_calls *>(userdata);
    bool done = false;
    const bool fine = caught([&] { done = (*self.handler_)(conn, *message, replies(raw)); },
                             [&](const std::exception_ptr &failure) { self.fail(failure); });
    return !fine ? WSG_INLINE_FAIL : done ? WSG_INLINE_DONE : WSG_INLINE_PASS;
  }

  void fail(const std::exception_ptr &failure) {
    log_failure(failure);
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    if (listeners_.empty() || !*listeners_.front()) return;
    caught([&] { (*listeners_.front())(*self_, failure); },
           [](const std::exception_ptr &second) { log_failure(second); });
  }

  const std::shared_ptr<const inline_handler> handler_;
  server *const self_ = nullptr;
  // Recursive: who hears of a failure may call what fails itself.
  std::recursive_mutex mutex_;
  std::vector<const failure_handler *> listeners_;
};

}  // namespace detail

/// The options to start servers with. Setters return the options, so that calls can be chained.
class options {
 public:
  options() {
    detail::check_abi();
    wsg_options *raw = nullptr;
    detail::check(wsg_options_new(&raw));
    raw_.reset(raw);
  }

  static options from_json(std::string_view json) {
    detail::check_abi();
    wsg_options *raw = nullptr;
    detail::explained([&](wsg_error **error) { return wsg_options_from_json(json.data(), json.size(), &raw, error); });
    return options(raw);
  }

  /// Sets any option, by its name, to a JSON text: `set("max_message_bytes", "4096")`.
  options &set(std::string_view name, std::string_view json) {
    return stated([&](wsg_error **error) {
      return wsg_options_set(get(), name.data(), name.size(), json.data(), json.size(), error);
    });
  }

  options &set_listen(std::string_view address) {
    return stated([&](wsg_error **error) { return wsg_options_set_listen(get(), address.data(), address.size(), error); });
  }

  options &add_origin(std::string_view origin) {
    return stated([&](wsg_error **error) { return wsg_options_add_origin(get(), origin.data(), origin.size(), error); });
  }

  options &add_token(std::string_view token, std::string_view user) {
    return stated([&](wsg_error **error) {
      return wsg_options_add_token(get(), token.data(), token.size(), user.data(), user.size(), error);
    });
  }

  options &set_auth_callback() {
    return stated([&](wsg_error **error) { return wsg_options_set_auth_callback(get(), error); });
  }

  options &set_auth_none() {
    return stated([&](wsg_error **error) { return wsg_options_set_auth_none(get(), error); });
  }

  options &set_tls(std::string_view cert, std::string_view key) {
    return stated([&](wsg_error **error) {
      return wsg_options_set_tls(get(), cert.data(), cert.size(), key.data(), key.size(), error);
    });
  }

  options &add_event(std::string_view name, std::optional<std::string_view> schema = {}) {
    return stated([&](wsg_error **error) {
      return wsg_options_add_event(get(), name.data(), name.size(), detail::data(schema), detail::size(schema), error);
    });
  }

  /// Sets the inline handler, which several threads call at once. What it throws closes its connection with 1011, is logged,
  /// and is passed to `handlers.failed` on the thread where it was thrown.
  options &set_inline(inline_handler handler) {
    if (!handler) detail::raise(error(WSG_ERR_NULL, "an inline handler must not be empty"));
    auto calls = std::make_unique<detail::inline_calls>(std::move(handler));
    calls->state(get());
    inline_ = std::move(calls);
    return *this;
  }

  /// A combination of `wsg_start`, which replaces the one before.
  options &set_start(std::uint32_t flags) {
    detail::check(wsg_options_set_start(get(), flags));
    return *this;
  }

  wsg_options *get() const noexcept { return raw_.get(); }

 private:
  friend class server;

  explicit options(wsg_options *raw) noexcept : raw_(raw) {}

  template <typename Call>
  options &stated(Call &&call) {
    detail::explained(std::forward<Call>(call));
    return *this;
  }

  std::unique_ptr<wsg_options, detail::deleter> raw_;
  std::unique_ptr<detail::inline_calls> inline_;
};

/// The handlers that `server::run` calls; leave empty what you do not need. What they are given is valid during the call.
struct handlers {
  std::function<void(server &, const wsg_event &)> event;
  std::function<void(server &, const wsg_upgrade &)> upgrade;
  std::function<void(server &, conn_id, const wsg_open &)> open;
  std::function<void(server &, conn_id, const wsg_message &)> message;
  std::function<void(server &, conn_id, std::string_view)> text;
  std::function<void(server &, conn_id, std::string_view)> binary;
  std::function<void(server &, conn_id, const wsg_close &)> close;
  std::function<void(server &, conn_id, const wsg_violation &)> violation;
  std::function<void(server &, conn_id)> drained;
  std::function<void(server &, conn_id, const wsg_pong &)> pong;
  /// With the ticket of a handshake that is over.
  std::function<void(server &, std::uint64_t)> upgrade_gone;
  std::function<void(server &, const wsg_pipe &)> pipe_ready;
  std::function<void(server &, const wsg_pipe &)> pipe_room;
  std::function<void(server &, const wsg_adoption_ended &)> adoption_ended;
  /// With their payloads.
  std::function<void(server &, conn_id, std::string_view)> ping_frame;
  std::function<void(server &, conn_id, std::string_view)> pong_frame;
  /// Nothing of the connection follows but its close.
  std::function<void(server &, conn_id)> closing;
  /// Called with what a handler above threw, or the inline handler, on its thread. It is in the log already.
  failure_handler failed;
};

/// The end of a session: a time, or `never`.
class expiry {
 public:
  explicit constexpr expiry(std::uint64_t unix_ms) noexcept : unix_ms_(unix_ms) {}
  /// Throws for a time before 1970, which `mktime` returns when it fails.
  expiry(std::chrono::system_clock::time_point at)
      : unix_ms_(detail::milliseconds(std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()))) {}
  std::uint64_t unix_ms() const noexcept { return unix_ms_; }

 private:
  std::uint64_t unix_ms_;
};

inline constexpr expiry never{WSG_NEVER};

/// A ban that is in force: of an address or network, or of a user.
struct ban {
  std::string ip, user;
  /// In milliseconds since 1970; `WSG_NEVER`: when it is lifted.
  std::uint64_t ends_at_ms;
  std::string reason;
  /// The option `auto_ban` has made it.
  bool is_automatic;
};

/// A header of an answer: its name and its value.
using header_field = std::pair<std::string, std::string>;

/// What an opening handshake is accepted with beside the user.
struct accept_with {
  expiry expires = never;
  std::vector<std::string> roles = {};
  /// One that the client offers; without it the server chooses.
  std::optional<std::string> subprotocol = {};
  std::vector<header_field> headers = {};
  /// Comes back in `wsg_open.tag`; 0: nothing.
  std::uint64_t tag = 0;
};

/// What an opening handshake is refused with.
struct reject_with {
  std::uint16_t http_status = 401;
  std::vector<header_field> headers = {};
  std::string body = {};
};

/// What is told of a connection that another server accepted.
struct adoption {
  /// What was read of it.
  bytes received = std::string_view();
  /// Addresses with ports; without them the socket's own.
  std::optional<std::string_view> peer = {}, local = {};
  /// Comes back in `wsg_open.adopted` or `wsg_adoption_ended.tag`; 0: nothing.
  std::uint64_t tag = 0;
  /// TLS was ended before.
  bool is_secure = false;
};

/// What `pipe_take` has taken.
struct taken {
  std::size_t size;
  /// Nothing follows: end your side, and free the pipe.
  bool is_ended;
};

namespace detail {

inline wsg_adoption adopted(const adoption &with) {
  wsg_adoption adoption{};
  adoption.size = sizeof adoption;
  adoption.received = {with.received.data(), with.received.size()};
  adoption.peer = {data(with.peer), size(with.peer)};
  adoption.local = {data(with.local), size(with.local)};
  adoption.tag = with.tag;
  adoption.is_secure = with.is_secure;
  return adoption;
}

/// Headers as C reads them; valid as long as they are.
inline std::vector<wsg_field> fields(const std::vector<header_field> &headers) {
  std::vector<wsg_field> fields;
  for (const auto &[name, value] : headers) fields.push_back({{name.data(), name.size()}, {value.data(), value.size()}});
  return fields;
}

inline std::vector<wsg_str> views(const std::vector<std::string> &texts) {
  std::vector<wsg_str> views;
  for (const std::string &text : texts) views.push_back({text.data(), text.size()});
  return views;
}

}  // namespace detail

/// A running server. Its functions may be called from any thread. The destructor stops it and waits for its threads, so it ends
/// the process when it runs in one of its own handlers: call `stop` there. A server cannot be moved, because its threads point
/// at it: keep a `std::unique_ptr<server>` to pass it on.
class server {
 public:
  explicit server(const options &options) {
    detail::check_abi();
    if (options.inline_ == nullptr) {
      start(options.get());
      return;
    }
    const std::lock_guard<std::mutex> one_at_a_time(options.inline_->starting);
    struct back {
      const class options &stated;
      ~back() { stated.inline_->state(stated.get()); }
    } back{options};
    inline_ = std::make_unique<detail::inline_calls>(*options.inline_, *this);
    inline_->state(options.get());
    start(options.get());
  }

  server(const server &) = delete;
  server &operator=(const server &) = delete;

  wsg_server *get() const noexcept { return raw_.get(); }
  /// The address it listens on, with the real port.
  std::string address() const { return std::string(view(wsg_server_address(get()))); }

  /// Calls the handlers on this thread until the server has stopped. Returns false if it was interrupted: it may run again.
  bool run(handlers handlers) {
    running run(*this, std::move(handlers));
    const wsg_handlers table = run.table();
    const wsg_status status =
        detail::explained([&](wsg_error **error) { return wsg_server_run(get(), &table, &run, error); });
    return status != WSG_NOTHING;
  }

  /// Takes the next events and calls `each` with every one; without a timeout it waits for ever. Returns true until the server
  /// has stopped.
  ///
  /// It skips stale events, as `run` does, and tells in place of a stale open what became of its ticket and its tag. If `each`
  /// throws, the connection of the event is closed and its other messages are skipped; the other events are handled, and then the
  /// first exception is thrown again.
  template <typename Each>
  bool next(std::optional<std::chrono::milliseconds> timeout, Each &&each) {
    struct batch {
      wsg_batch *raw = nullptr;
      ~batch() {
        if (raw != nullptr) wsg_batch_free(raw);
      }
    } batch;
    const std::int64_t timeout_ms = timeout ? static_cast<std::int64_t>(detail::milliseconds(*timeout)) : -1;
    const wsg_status status = detail::check(wsg_server_next(get(), timeout_ms, &batch.raw));
    if (status == WSG_STOPPED) return false;
    const wsg_event *events = nullptr;
    std::size_t count = 0;
    if (status == WSG_OK) detail::check(wsg_batch_events(batch.raw, &events, &count));
    std::exception_ptr first;
    const auto tell = [&](const wsg_event &event) {
      detail::caught([&] { each(event); },
                     [&](const std::exception_ptr &failure) {
                       detail::log_failure(failure);
                       if (event.kind == WSG_EVENT_UPGRADE) wsg_ticket_unavailable(get(), event.body.upgrade->ticket);
                       if (event.conn != 0) wsg_conn_fail(get(), event.conn);
                       if (event.kind == WSG_EVENT_PIPE_READY || event.kind == WSG_EVENT_PIPE_ROOM)
                         wsg_pipe_abort(get(), event.body.pipe->id);
                       if (!first) first = failure;
                     });
    };
    for (std::size_t i = 0; i < count; i++) {
      if (!wsg_event_is_stale(get(), &events[i])) tell(events[i]);
      else if (events[i].kind == WSG_EVENT_OPEN) detail::settle(*events[i].body.open, tell);
    }
    if (first) std::rethrow_exception(first);
    return true;
  }

  /// Makes a `next` or `run` return. Any thread; in signal handlers call `wsg_server_interrupt(server.get())`.
  void interrupt() { detail::check(wsg_server_interrupt(get())); }

  /// A descriptor that is readable while there may be events: then call `next` with timeout 0 until it calls `each` no more.
  int fd() const {
    int fd = -1;
    detail::check(wsg_server_fd(get(), &fd));
    return fd;
  }

  void drain(std::chrono::milliseconds timeout = default_drain_timeout,
             std::chrono::milliseconds jitter = default_drain_jitter) {
    detail::check(wsg_server_drain(get(), detail::milliseconds(timeout), detail::milliseconds(jitter)));
  }

  /// Drains when the process gets SIGINT or SIGTERM.
  void drain_on_signals(std::chrono::milliseconds timeout = default_drain_timeout,
                        std::chrono::milliseconds jitter = default_drain_jitter) {
    detail::check(wsg_server_drain_on_signals(get(), detail::milliseconds(timeout), detail::milliseconds(jitter)));
  }

  void stop() { detail::check(wsg_server_stop(get())); }

  void reload_tls() {
    detail::explained([&](wsg_error **error) { return wsg_server_reload_tls(get(), error); });
  }

  /// Runs by these options from now on, all or nothing: `WSG_ERR_NOT_RELOADABLE` and other errors name the option. Returns the
  /// number of the policy, which is 1 at the start. The inline handler stays that of the start.
  std::uint64_t reload(const options &options) {
    std::uint64_t generation = 0;
    detail::explained([&](wsg_error **error) { return wsg_server_reload(get(), options.get(), &generation, error); });
    return generation;
  }

  /// Keeps an address, a network or a user out; without a time until the ban is lifted.
  void ban_ip(std::string_view ip, std::optional<std::chrono::milliseconds> time = {}, std::string_view reason = {}) {
    detail::explained([&](wsg_error **error) {
      return wsg_server_ban_ip(get(), ip.data(), ip.size(), for_ms(time), reason.data(), reason.size(), error);
    });
  }
  void ban_user(std::string_view user, std::optional<std::chrono::milliseconds> time = {}, std::string_view reason = {}) {
    detail::explained([&](wsg_error **error) {
      return wsg_server_ban_user(get(), user.data(), user.size(), for_ms(time), reason.data(), reason.size(), error);
    });
  }
  /// Returns false if there was no such ban.
  bool unban_ip(std::string_view ip) { return detail::check(wsg_server_unban_ip(get(), ip.data(), ip.size())) == WSG_OK; }
  bool unban_user(std::string_view user) {
    return detail::check(wsg_server_unban_user(get(), user.data(), user.size())) == WSG_OK;
  }
  /// The bans in force, in the order of their ends.
  std::vector<ban> bans() const {
    std::vector<ban> all;
    detail::check(wsg_server_bans(get(), [](void *u, const wsg_ban *one) {
      static_cast<std::vector<ban> *>(u)->push_back(ban{std::string(view(one->ip)), std::string(view(one->user)),
                                                        one->ends_at_ms, std::string(view(one->reason)), one->is_automatic});
    }, &all));
    return all;
  }

  /// The numbers of the server as OpenMetrics text.
  std::string metrics() const {
    std::string all;
    detail::check(wsg_server_metrics(get(), [](void *u, const char *text, std::size_t len) {
      static_cast<std::string *>(u)->assign(text, len);
    }, &all));
    return all;
  }

  /// The address of `admin_listen`, with the real port; empty without that option.
  std::string admin_address() const { return std::string(view(wsg_server_admin_address(get()))); }

  wsg_stats stats() const {
    wsg_stats stats{};
    detail::check(wsg_server_stats(get(), &stats, sizeof stats));
    return stats;
  }

  std::uint64_t verdicts(wsg_verdict verdict) const {
    std::uint64_t count = 0;
    detail::check(wsg_server_verdict_count(get(), verdict, &count));
    return count;
  }

  /// Answers a ticket. Returns false if it was answered, its time is over, or its peer has left. The user has no default.
  bool accept(std::uint64_t ticket, std::string_view user, expiry expires = never) {
    return settled(wsg_ticket_accept(get(), ticket, user.data(), user.size(), expires.unix_ms()));
  }
  bool accept_anonymous(std::uint64_t ticket, expiry expires = never) {
    return settled(wsg_ticket_accept_anonymous(get(), ticket, expires.unix_ms()));
  }
  /// With roles and whatever else `accept_with` has; no user (`std::nullopt`) has to be said.
  bool accept(std::uint64_t ticket, std::optional<std::string_view> user, const accept_with &with) {
    const std::vector<wsg_str> roles = detail::views(with.roles);
    const std::vector<wsg_field> headers = detail::fields(with.headers);
    wsg_accept accept{};
    accept.size = sizeof accept;
    accept.user = {detail::data(user), detail::size(user)};
    accept.is_anonymous = !user;
    accept.expires_at_ms = with.expires.unix_ms();
    accept.roles = roles.data(), accept.roles_len = roles.size();
    if (with.subprotocol) accept.subprotocol = {with.subprotocol->data(), with.subprotocol->size()};
    accept.headers = headers.data(), accept.headers_len = headers.size();
    accept.tag = with.tag;
    return answered([&](wsg_error **error) { return wsg_ticket_accept_with(get(), ticket, &accept, error); });
  }
  bool reject(std::uint64_t ticket, const reject_with &with) {
    const std::vector<wsg_field> headers = detail::fields(with.headers);
    wsg_reject reject{};
    reject.size = sizeof reject;
    reject.http_status = with.http_status;
    reject.headers = headers.data(), reject.headers_len = headers.size();
    reject.body = {with.body.data(), with.body.size()};
    return answered([&](wsg_error **error) { return wsg_ticket_reject_with(get(), ticket, &reject, error); });
  }
  bool reject(std::uint64_t ticket, std::uint16_t http_status = 401) {
    return settled(wsg_ticket_reject(get(), ticket, http_status));
  }
  /// Lets it pass as whoever it is (`WSG_START_CONSULT`): `with` names no roles and no end.
  bool pass(std::uint64_t ticket, const accept_with &with = {}) {
    const std::vector<wsg_str> roles = detail::views(with.roles);
    const std::vector<wsg_field> headers = detail::fields(with.headers);
    wsg_accept accept{};
    accept.size = sizeof accept;
    accept.is_pass = true;
    accept.expires_at_ms = with.expires.unix_ms() == WSG_NEVER ? 0 : with.expires.unix_ms();
    accept.roles = roles.data(), accept.roles_len = roles.size();
    if (with.subprotocol) accept.subprotocol = {with.subprotocol->data(), with.subprotocol->size()};
    accept.headers = headers.data(), accept.headers_len = headers.size();
    accept.tag = with.tag;
    return answered([&](wsg_error **error) { return wsg_ticket_accept_with(get(), ticket, &accept, error); });
  }
  bool unavailable(std::uint64_t ticket) { return settled(wsg_ticket_unavailable(get(), ticket)); }

  /// Takes over a connection that another server accepted. The descriptor is the library's from here on; if this throws, it
  /// is yours.
  void adopt_fd(int fd, const adoption &with = {}) {
    const wsg_adoption adoption = detail::adopted(with);
    detail::explained([&](wsg_error **error) { return wsg_server_adopt_fd(get(), fd, &adoption, error); });
  }
  /// Takes over a connection whose bytes you bring and take; returns its pipe, which is yours until `pipe_free`.
  std::uint64_t adopt_pipe(const adoption &with = {}) {
    const wsg_adoption adoption = detail::adopted(with);
    std::uint64_t pipe = 0;
    detail::explained([&](wsg_error **error) { return wsg_server_adopt_pipe(get(), &adoption, &pipe, error); });
    return pipe;
  }
  /// Returns false if no more is to be pushed until `handlers.pipe_room`.
  bool pipe_push(std::uint64_t pipe, bytes data) {
    return detail::check(wsg_pipe_push(get(), pipe, data.data(), data.size())) == WSG_OK;
  }
  void pipe_end(std::uint64_t pipe) { detail::check(wsg_pipe_end(get(), pipe)); }
  void pipe_abort(std::uint64_t pipe) { detail::check(wsg_pipe_abort(get(), pipe)); }
  void pipe_free(std::uint64_t pipe) { detail::check(wsg_pipe_free(get(), pipe)); }
  /// Takes bytes for the peer: again until there are fewer than `len`.
  taken pipe_take(std::uint64_t pipe, char *buffer, std::size_t len) {
    taken taken{};
    detail::check(wsg_pipe_take(get(), pipe, buffer, len, &taken.size, &taken.is_ended));
    return taken;
  }

  bool is_open(conn_id conn) const noexcept { return wsg_conn_is_open(get(), conn); }

  sent send_text(conn_id conn, std::string_view text) {
    return result(wsg_conn_send_text(get(), conn, text.data(), text.size()));
  }
  sent send_binary(conn_id conn, bytes payload) {
    return result(wsg_conn_send_binary(get(), conn, payload.data(), payload.size()));
  }
  sent emit(conn_id conn, std::string_view event, std::string_view json) {
    return result(wsg_conn_emit(get(), conn, event.data(), event.size(), json.data(), json.size()));
  }
  /// In reply to a message, by its `id`.
  sent reply(conn_id conn, const wsg_str &id, std::string_view event, std::string_view json) {
    return result(
        wsg_conn_reply(get(), conn, id.data, id.len, event.data(), event.size(), json.data(), json.size()));
  }
  /// The same with `"status": "error"`.
  sent reply_error(conn_id conn, const wsg_str &id, std::string_view event, std::string_view json) {
    return result(
        wsg_conn_reply_error(get(), conn, id.data, id.len, event.data(), event.size(), json.data(), json.size()));
  }

  sent close(conn_id conn, std::uint16_t code = 1000, std::string_view reason = {}) {
    return result(wsg_conn_close(get(), conn, code, reason.data(), reason.size()));
  }
  sent fail(conn_id conn) { return result(wsg_conn_fail(get(), conn)); }
  /// Drops it at once: what waits is not sent.
  sent terminate(conn_id conn) { return result(wsg_conn_terminate(get(), conn)); }
  /// `handlers.pong` tells how long its answer took.
  sent ping(conn_id conn) { return result(wsg_conn_ping(get(), conn)); }
  /// With payloads of your own, at most 125 bytes.
  sent send_ping(conn_id conn, bytes payload) {
    return result(wsg_conn_send_ping(get(), conn, payload.data(), payload.size()));
  }
  sent send_pong(conn_id conn, bytes payload) {
    return result(wsg_conn_send_pong(get(), conn, payload.data(), payload.size()));
  }
  sent set_auto_pong(conn_id conn, bool answers) { return result(wsg_conn_set_auto_pong(get(), conn, answers)); }
  /// Whether `ping_frame` and `pong_frame` are called; `run` turns it on where it has one of them.
  void heed_control(bool heeds) { detail::check(wsg_server_heed_control(get(), heeds)); }
  /// Whether `closing` is called; `run` turns it on where it has one.
  void heed_closing(bool heeds) { detail::check(wsg_server_heed_closing(get(), heeds)); }
  /// A part of a message.
  sent send_fragment(conn_id conn, wsg_opcode opcode, bool is_last, bytes payload) {
    return result(wsg_conn_send_fragment(get(), conn, opcode, is_last, payload.data(), payload.size()));
  }
  std::size_t buffered_bytes(conn_id conn) const noexcept { return wsg_conn_buffered_bytes(get(), conn); }
  std::uint64_t queued(conn_id conn) const noexcept { return wsg_conn_queued(get(), conn); }
  std::uint64_t written(conn_id conn) const noexcept { return wsg_conn_written(get(), conn); }
  /// Asks the peer, which answers with a message of the same `id`: JSON text, a string or an integer.
  sent request(conn_id conn, std::string_view id, std::string_view event, std::string_view json) {
    return result(wsg_conn_request(get(), conn, id.data(), id.size(), event.data(), event.size(), json.data(), json.size()));
  }
  /// The rooms that it is in.
  std::vector<std::string> rooms(conn_id conn) const {
    std::vector<std::string> all;
    const wsg_status status = wsg_conn_rooms(get(), conn, [](void *u, const char *text, std::size_t len) {
      static_cast<std::vector<std::string> *>(u)->emplace_back(text, len);
    }, &all);
    if (status != WSG_ERR_CONNECTION_CLOSED) detail::check(status);
    return all;
  }
  sent join(conn_id conn, std::string_view room) {
    return result(wsg_conn_join(get(), conn, room.data(), room.size()));
  }
  sent leave(conn_id conn, std::string_view room) {
    return result(wsg_conn_leave(get(), conn, room.data(), room.size()));
  }
  /// Reports that the data of a message of `event` is not valid, although its schema accepts it.
  sent report_invalid_data(conn_id conn, std::string_view event) {
    return result(wsg_conn_report_invalid_data(get(), conn, event.data(), event.size()));
  }
  /// Keeps a pointer for a connection until the batch with its close is freed.
  sent set_data(conn_id conn, void *data) { return result(wsg_conn_set_data(get(), conn, data)); }
  void *data(conn_id conn) const noexcept { return wsg_conn_data(get(), conn); }
  sent pause(conn_id conn) { return result(wsg_conn_pause(get(), conn)); }
  sent resume(conn_id conn) { return result(wsg_conn_resume(get(), conn)); }

  /// To a room, except these connections. `queued`: broadcasts wait for an I/O thread; send more slowly.
  sent broadcast(std::string_view room, std::string_view event, std::string_view json, const except &left_out = {}) {
    return result(wsg_server_broadcast(get(), room.data(), room.size(), event.data(), event.size(), json.data(),
                                       json.size(), left_out.data(), left_out.size()));
  }
  sent broadcast_text(std::string_view room, std::string_view text, const except &left_out = {}) {
    return result(wsg_server_broadcast_text(get(), room.data(), room.size(), text.data(), text.size(), left_out.data(),
                                            left_out.size()));
  }
  sent broadcast_binary(std::string_view room, bytes payload, const except &left_out = {}) {
    return result(wsg_server_broadcast_binary(get(), room.data(), room.size(), payload.data(), payload.size(),
                                              left_out.data(), left_out.size()));
  }
  /// To every connection.
  sent broadcast_all(std::string_view event, std::string_view json, const except &left_out = {}) {
    return result(wsg_server_broadcast_all(get(), event.data(), event.size(), json.data(), json.size(), left_out.data(),
                                           left_out.size()));
  }
  sent broadcast_all_text(std::string_view text, const except &left_out = {}) {
    return result(wsg_server_broadcast_all_text(get(), text.data(), text.size(), left_out.data(), left_out.size()));
  }
  sent broadcast_all_binary(bytes payload, const except &left_out = {}) {
    return result(wsg_server_broadcast_all_binary(get(), payload.data(), payload.size(), left_out.data(), left_out.size()));
  }
  /// To every connection of a user.
  sent broadcast_user(std::string_view user, std::string_view event, std::string_view json, const except &left_out = {}) {
    return result(wsg_server_broadcast_user(get(), user.data(), user.size(), event.data(), event.size(), json.data(),
                                            json.size(), left_out.data(), left_out.size()));
  }
  sent broadcast_user_text(std::string_view user, std::string_view text, const except &left_out = {}) {
    return result(wsg_server_broadcast_user_text(get(), user.data(), user.size(), text.data(), text.size(), left_out.data(),
                                                 left_out.size()));
  }
  sent broadcast_user_binary(std::string_view user, bytes payload, const except &left_out = {}) {
    return result(wsg_server_broadcast_user_binary(get(), user.data(), user.size(), payload.data(), payload.size(),
                                                   left_out.data(), left_out.size()));
  }
  /// To several rooms: whoever is in several gets it once.
  sent broadcast_rooms(const std::vector<std::string> &rooms, std::string_view event, std::string_view json,
                       const except &left_out = {}) {
    const std::vector<wsg_str> all = detail::views(rooms);
    return result(wsg_server_broadcast_rooms(get(), all.data(), all.size(), event.data(), event.size(), json.data(),
                                             json.size(), left_out.data(), left_out.size()));
  }
  sent broadcast_rooms_text(const std::vector<std::string> &rooms, std::string_view text, const except &left_out = {}) {
    const std::vector<wsg_str> all = detail::views(rooms);
    return result(wsg_server_broadcast_rooms_text(get(), all.data(), all.size(), text.data(), text.size(), left_out.data(),
                                                  left_out.size()));
  }
  sent broadcast_rooms_binary(const std::vector<std::string> &rooms, bytes payload, const except &left_out = {}) {
    const std::vector<wsg_str> all = detail::views(rooms);
    return result(wsg_server_broadcast_rooms_binary(get(), all.data(), all.size(), payload.data(), payload.size(),
                                                    left_out.data(), left_out.size()));
  }

  std::vector<conn_id> room_members(std::string_view room) const {
    return listed([&](auto each, void *u) { return wsg_server_room_members(get(), room.data(), room.size(), each, u); });
  }
  std::size_t room_size(std::string_view room) const {
    std::size_t size = 0;
    detail::check(wsg_server_room_size(get(), room.data(), room.size(), &size));
    return size;
  }
  void room_clear(std::string_view room) { detail::check(wsg_server_room_clear(get(), room.data(), room.size())); }
  void room_close(std::string_view room, std::uint16_t code = 1000, std::string_view reason = {}) {
    detail::check(wsg_server_room_close(get(), room.data(), room.size(), code, reason.data(), reason.size()));
  }
  std::vector<conn_id> user_connections(std::string_view user) const {
    return listed([&](auto each, void *u) { return wsg_server_user_connections(get(), user.data(), user.size(), each, u); });
  }
  std::vector<conn_id> connections() const {
    return listed([&](auto each, void *u) { return wsg_server_connections(get(), each, u); });
  }

  /// Counts whoever is in at least one of these rooms on every node of the `cluster`; nodes that do not answer in time are left out.
  /// The call does not wait.
  void rooms_everywhere(const std::vector<std::string> &rooms, std::chrono::milliseconds timeout, counted told,
                        const except &left_out = {}) const {
    const std::vector<wsg_str> all = detail::views(rooms);
    asked(std::move(told), [&](auto call, void *u) {
      return wsg_server_rooms_everywhere(get(), all.data(), all.size(), left_out.data(), left_out.size(),
                                         detail::milliseconds(timeout), call, u);
    });
  }
  /// The same of the connections of a user.
  void user_everywhere(std::string_view user, std::chrono::milliseconds timeout, counted told,
                       const except &left_out = {}) const {
    asked(std::move(told), [&](auto call, void *u) {
      return wsg_server_user_everywhere(get(), user.data(), user.size(), left_out.data(), left_out.size(),
                                        detail::milliseconds(timeout), call, u);
    });
  }
  /// The same of all connections.
  void all_everywhere(std::chrono::milliseconds timeout, counted told, const except &left_out = {}) const {
    asked(std::move(told), [&](auto call, void *u) {
      return wsg_server_all_everywhere(get(), left_out.data(), left_out.size(), detail::milliseconds(timeout), call, u);
    });
  }

  void disconnect_user(std::string_view user) {
    detail::check(wsg_server_disconnect_user(get(), user.data(), user.size()));
  }

  /// Calls `body`, and hands over together what it sends on this thread. What `body` throws is thrown again.
  template <typename Body>
  void cork(Body &&body) {
    within(wsg_server_cork, body);
  }

  /// Calls `body`: messages that it sends on this thread go plain, although `compression` is on. What `body` throws is thrown
  /// again.
  template <typename Body>
  void plain(Body &&body) {
    within(wsg_server_plain, body);
  }

  /// Hands over at once what this thread has sent so far in a handler.
  void flush() { detail::check(wsg_server_flush(get())); }

  /// Says which opens, closes and violations wake `next`: a combination of `wsg_interest`. `run` sets it by its handlers.
  void set_interest(std::uint32_t interest) { detail::check(wsg_server_set_interest(get(), interest)); }

 private:
  template <typename Scope, typename Body>
  void within(Scope scope, Body &body) {
    struct call {
      Body &body;
      std::exception_ptr thrown;
      static void run(void *userdata) {
        auto &self = *static_cast<call *>(userdata);
        detail::caught([&] { self.body(); }, [&](const std::exception_ptr &failure) { self.thrown = failure; });
      }
    } call{body, nullptr};
    detail::check(scope(get(), &call::run, &call));
    if (call.thrown) std::rethrow_exception(call.thrown);
  }

  void start(wsg_options *options) {
    wsg_server *raw = nullptr;
    detail::explained([&](wsg_error **error) { return wsg_server_start(options, &raw, error); });
    raw_.reset(raw);
  }

  static sent result(wsg_status status) {
    if (status == WSG_ERR_CONNECTION_CLOSED) return sent::closed;
    return detail::check(status) == WSG_QUEUED ? sent::queued : sent::sent;
  }

  static std::uint64_t for_ms(std::optional<std::chrono::milliseconds> time) {
    return time ? detail::milliseconds(*time) : WSG_NEVER;
  }

  template <typename Call>
  static bool answered(Call &&call) {
    bool is_settled = false;
    detail::explained([&](wsg_error **error) {
      const wsg_status status = call(error);
      is_settled = status == WSG_ERR_TICKET_SETTLED;
      return is_settled ? WSG_OK : status;
    });
    return !is_settled;
  }

  template <typename List>
  static std::vector<conn_id> listed(List &&list) {
    std::vector<conn_id> all;
    detail::check(list([](void *u, conn_id conn) { static_cast<std::vector<conn_id> *>(u)->push_back(conn); }, &all));
    return all;
  }

  template <typename Ask>
  static void asked(counted told, Ask &&ask) {
    auto kept = std::make_unique<counted>(std::move(told));
    const auto tell = [](void *u, wsg_status status, std::size_t connections, std::uint32_t missing) {
      const std::unique_ptr<counted> own(static_cast<counted *>(u));
      if (status == WSG_OK) {
        (*own)(everywhere{connections, missing});
      } else {
        (*own)(std::nullopt);
      }
    };
    detail::check(ask(tell, kept.get()));
    // It is the callback's, which may have been called and gone already.
    static_cast<void>(kept.release());
  }

  static bool settled(wsg_status status) {
    return status != WSG_ERR_TICKET_SETTLED && detail::check(status) == WSG_OK;
  }

  /// What the C handlers get as userdata.
  class running {
   public:
    running(server &self, handlers handlers) : self_(self), on_(std::move(handlers)) {
      if (self_.inline_ != nullptr) self_.inline_->listen(on_.failed);
    }
    running(const running &) = delete;
    running &operator=(const running &) = delete;
    ~running() {
      if (self_.inline_ != nullptr) self_.inline_->unlisten(on_.failed);
    }

    wsg_handlers table() const {
      wsg_handlers table{};
      table.size = sizeof table;
      if (on_.event) table.event = [](void *u, wsg_server *, const wsg_event *e) { return call(u, &handlers::event, *e); };
      if (on_.upgrade)
        table.upgrade = [](void *u, wsg_server *, const wsg_upgrade *e) { return call(u, &handlers::upgrade, *e); };
      if (on_.open)
        table.open = [](void *u, wsg_server *, conn_id c, const wsg_open *e) { return call(u, &handlers::open, c, *e); };
      if (on_.message)
        table.message = [](void *u, wsg_server *, conn_id c, const wsg_message *e) {
          return call(u, &handlers::message, c, *e);
        };
      if (on_.text)
        table.text = [](void *u, wsg_server *, conn_id c, const char *data, std::size_t len) {
          return call(u, &handlers::text, c, std::string_view(data, len));
        };
      if (on_.binary)
        table.binary = [](void *u, wsg_server *, conn_id c, const char *data, std::size_t len) {
          return call(u, &handlers::binary, c, std::string_view(data, len));
        };
      if (on_.close)
        table.close = [](void *u, wsg_server *, conn_id c, const wsg_close *e) {
          return call(u, &handlers::close, c, *e);
        };
      if (on_.violation)
        table.violation = [](void *u, wsg_server *, conn_id c, const wsg_violation *e) {
          return call(u, &handlers::violation, c, *e);
        };
      if (on_.drained) table.drained = [](void *u, wsg_server *, conn_id c) { return call(u, &handlers::drained, c); };
      if (on_.pong)
        table.pong = [](void *u, wsg_server *, conn_id c, const wsg_pong *e) { return call(u, &handlers::pong, c, *e); };
      if (on_.upgrade_gone)
        table.upgrade_gone = [](void *u, wsg_server *, std::uint64_t t) { return call(u, &handlers::upgrade_gone, t); };
      if (on_.pipe_ready)
        table.pipe_ready = [](void *u, wsg_server *, const wsg_pipe *e) { return call(u, &handlers::pipe_ready, *e); };
      if (on_.pipe_room)
        table.pipe_room = [](void *u, wsg_server *, const wsg_pipe *e) { return call(u, &handlers::pipe_room, *e); };
      if (on_.adoption_ended)
        table.adoption_ended = [](void *u, wsg_server *, const wsg_adoption_ended *e) {
          return call(u, &handlers::adoption_ended, *e);
        };
      if (on_.ping_frame)
        table.ping_frame = [](void *u, wsg_server *, conn_id c, const char *data, std::size_t len) {
          return call(u, &handlers::ping_frame, c, std::string_view(data, len));
        };
      if (on_.pong_frame)
        table.pong_frame = [](void *u, wsg_server *, conn_id c, const char *data, std::size_t len) {
          return call(u, &handlers::pong_frame, c, std::string_view(data, len));
        };
      if (on_.closing) table.closing = [](void *u, wsg_server *, conn_id c) { return call(u, &handlers::closing, c); };
      return table;
    }

   private:
    /// Calls a handler; no exception leaves.
    template <typename Handler, typename... Arguments>
    static int call(void *userdata, Handler handlers::*handler, Arguments &&...arguments) {
      const running &run = *static_cast<const running *>(userdata);
      const bool fine = detail::caught([&] { (run.on_.*handler)(run.self_, std::forward<Arguments>(arguments)...); },
                                       [&](const std::exception_ptr &failure) { run.fail(failure); });
      return fine ? 0 : 1;
    }

    void fail(const std::exception_ptr &failure) const {
      detail::log_failure(failure);
      if (on_.failed) {
        detail::caught([&] { on_.failed(self_, failure); },
                       [](const std::exception_ptr &second) { detail::log_failure(second); });
      }
    }

    server &self_;
    handlers on_;
  };

  // In this order: the server ends before the handler that its threads call.
  std::unique_ptr<detail::inline_calls> inline_;
  std::unique_ptr<wsg_server, detail::deleter> raw_;
};

/// Sends the log to standard error.
inline void log_to_stderr() { detail::check(wsg_log_to_stderr()); }
/// The same as JSON, one object in each line.
inline void log_to_stderr_json() { detail::check(wsg_log_to_stderr_json()); }

/// The header of this name, in any case.
inline std::optional<std::string_view> header(const wsg_upgrade &upgrade, std::string_view name) {
  return maybe(wsg_upgrade_header(&upgrade, name.data(), name.size()));
}

/// The part of a JSON text that a JSON Pointer leads to, as JSON text.
inline std::optional<std::string_view> json_get(std::string_view json, std::string_view pointer) {
  wsg_str value{};
  const wsg_status status =
      detail::check(wsg_json_get(json.data(), json.size(), pointer.data(), pointer.size(), &value));
  if (status == WSG_NOTHING) return std::nullopt;
  return view(value);
}

/// What a JSON string says.
inline std::string json_string(std::string_view json) {
  std::string text(json.size() + 1, '\0');
  std::size_t len = 0;
  detail::check(wsg_json_string(json.data(), json.size(), text.data(), text.size(), &len));
  text.resize(len);
  return text;
}

/// A text as a JSON string.
inline std::string json_quote(std::string_view text) {
  std::string json(6 * text.size() + 3, '\0');
  std::size_t len = 0;
  detail::check(wsg_json_quote(text.data(), text.size(), json.data(), json.size(), &len));
  json.resize(len);
  return json;
}

#if !WSGUARD_EXCEPTIONS
}  // namespace without_exceptions
#endif
}  // namespace wsguard

#endif  // WSGUARD_HPP

// wsguard for C++17: RAII over wsguard.h, std::string_view for texts, std::function for handlers. Header only.
//
// Ownership is in the types: what is moved from is empty, what goes out of scope is freed. A call that fails throws
// wsguard::error, whose status says which of wsguard.h's it was; sending to a connection that has just closed is part of
// normal life and is a result instead. Exceptions of handlers end at the boundary: they close the connection they were
// working for with 1011 (a handshake answers 503) and go to `handlers.failed`.
#ifndef WSGUARD_HPP
#define WSGUARD_HPP

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "wsguard.h"

namespace wsguard {

/// A connection; unique for the server's life.
using conn_id = std::uint64_t;

/// A view of the library's, for as long as it says.
inline std::string_view view(const wsg_str &text) { return {text.data == nullptr ? "" : text.data, text.len}; }

/// The same where there may be none.
inline std::optional<std::string_view> maybe(const wsg_str &text) {
  if (text.data == nullptr) return std::nullopt;
  return view(text);
}

/// What a call failed with.
class error : public std::runtime_error {
 public:
  error(wsg_status status, const std::string &message, std::string option = {})
      : std::runtime_error(message), status_(status), option_(std::move(option)) {}

  wsg_status status() const noexcept { return status_; }
  /// The stable name: `unknown_option`.
  std::string_view code() const noexcept { return view(wsg_status_name(status_)); }
  /// The option at fault; empty where there is none.
  const std::string &option() const noexcept { return option_; }

 private:
  wsg_status status_;
  std::string option_;
};

namespace detail {

struct deleter {
  void operator()(wsg_options *options) const noexcept { wsg_options_free(options); }
  void operator()(wsg_server *server) const noexcept { wsg_server_free(server); }
  void operator()(wsg_error *error) const noexcept { wsg_error_free(error); }
};

inline wsg_status check(wsg_status status, wsg_error *raw = nullptr) {
  std::unique_ptr<wsg_error, deleter> owned(raw);
  if (status >= 0) return status;
  const std::string_view message = raw != nullptr ? view(wsg_error_message(raw)) : view(wsg_status_name(status));
  throw error(status, std::string(message), raw != nullptr ? std::string(view(wsg_error_option(raw))) : std::string());
}

inline const char *data(const std::optional<std::string_view> &text) {
  return !text ? nullptr : text->data() == nullptr ? "" : text->data();
}

inline std::size_t size(const std::optional<std::string_view> &text) { return text ? text->size() : 0; }

}  // namespace detail

/// What became of a message.
enum class sent {
  on_its_way,
  /// It waits behind what the peer has not read; `handlers.drained` tells when all was written.
  queued,
  /// The connection is closed.
  closed,
};

/// The answers of an inline handler, during its call.
class replies {
 public:
  explicit replies(wsg_replies *raw) noexcept : raw_(raw) {}
  void text(std::string_view text) const { detail::check(wsg_replies_text(raw_, text.data(), text.size())); }
  void binary(std::string_view bytes) const { detail::check(wsg_replies_binary(raw_, bytes.data(), bytes.size())); }
  void emit(std::string_view event, std::string_view json, std::optional<std::string_view> id = {}) const {
    detail::check(wsg_replies_emit(raw_, event.data(), event.size(), json.data(), json.size(), detail::data(id),
                                   detail::size(id)));
  }

 private:
  wsg_replies *raw_;
};

/// Answers on the library's own threads; it must not block. `false` passes the message on to the application.
using inline_handler = std::function<bool(conn_id, const wsg_inline_message &, const replies &)>;

/// The policy to start servers with.
class options {
 public:
  options() {
    wsg_options *raw = nullptr;
    detail::check(wsg_options_new(&raw));
    raw_.reset(raw);
  }

  static options from_json(std::string_view json) {
    wsg_options *raw = nullptr;
    wsg_error *error = nullptr;
    const wsg_status status = wsg_options_from_json(json.data(), json.size(), &raw, &error);
    detail::check(status, error);
    return options(raw);
  }

  /// Sets any option to a JSON text.
  options &set(std::string_view name, std::string_view json) {
    wsg_error *error = nullptr;
    const wsg_status status = wsg_options_set(get(), name.data(), name.size(), json.data(), json.size(), &error);
    detail::check(status, error);
    return *this;
  }

  options &listen(std::string_view address) {
    detail::check(wsg_options_set_listen(get(), address.data(), address.size()));
    return *this;
  }

  options &threads(std::size_t threads) {
    detail::check(wsg_options_set_threads(get(), threads));
    return *this;
  }

  options &origin(std::string_view origin) {
    detail::check(wsg_options_add_origin(get(), origin.data(), origin.size()));
    return *this;
  }

  options &token(std::string_view token, std::string_view user) {
    detail::check(wsg_options_add_token(get(), token.data(), token.size(), user.data(), user.size()));
    return *this;
  }

  options &auth_callback() {
    detail::check(wsg_options_set_auth_callback(get()));
    return *this;
  }

  options &auth_none() {
    detail::check(wsg_options_set_auth_none(get()));
    return *this;
  }

  options &tls(std::string_view cert, std::string_view key) {
    detail::check(wsg_options_set_tls(get(), cert.data(), cert.size(), key.data(), key.size()));
    return *this;
  }

  options &event(std::string_view name, std::optional<std::string_view> schema = {}) {
    detail::check(
        wsg_options_add_event(get(), name.data(), name.size(), detail::data(schema), detail::size(schema)));
    return *this;
  }

  /// Called from several threads at once.
  options &on_inline(inline_handler handler) {
    inline_ = std::make_shared<inline_handler>(std::move(handler));
    detail::check(wsg_options_set_inline(get(), &options::call_inline, inline_.get()));
    return *this;
  }

  wsg_options *get() const noexcept { return raw_.get(); }

 private:
  friend class server;

  explicit options(wsg_options *raw) noexcept : raw_(raw) {}

  static int call_inline(void *userdata, std::uint64_t conn, const wsg_inline_message *message, wsg_replies *raw) noexcept {
    try {
      return (*static_cast<inline_handler *>(userdata))(conn, *message, replies(raw)) ? WSG_INLINE_DONE : WSG_INLINE_PASS;
    } catch (...) {
      return WSG_INLINE_FAIL;
    }
  }

  std::unique_ptr<wsg_options, detail::deleter> raw_;
  std::shared_ptr<inline_handler> inline_;
};

class server;

/// What `server::run` calls; leave empty what is of no interest. Views are valid during the call.
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
  /// A handler above threw this.
  std::function<void(server &, std::exception_ptr)> failed;
};

/// A running server. Its functions may be called from any thread; destroying it stops it and waits for its threads.
class server {
 public:
  explicit server(const options &options) : inline_(options.inline_) {
    wsg_server *raw = nullptr;
    wsg_error *error = nullptr;
    const wsg_status status = wsg_server_start(options.get(), &raw, &error);
    detail::check(status, error);
    raw_.reset(raw);
  }

  wsg_server *get() const noexcept { return raw_.get(); }
  /// The address it listens on, with the real port.
  std::string address() const { return std::string(view(wsg_server_address(get()))); }

  /// Calls the handlers on this thread until the server has stopped.
  void run(handlers handlers) {
    running running{*this, std::move(handlers)};
    const wsg_handlers table = running.table();
    detail::check(wsg_server_run(get(), &table, &running));
  }

  /// Takes the next events and calls `each` with them; without a timeout it waits for ever. Whether the server goes on.
  template <typename Each>
  bool next(std::optional<std::chrono::milliseconds> timeout, Each &&each) {
    struct batch {
      wsg_batch *raw = nullptr;
      ~batch() {
        if (raw != nullptr) wsg_batch_free(raw);
      }
    } batch;
    const wsg_status status = detail::check(wsg_server_next(get(), timeout ? timeout->count() : -1, &batch.raw));
    if (status == WSG_STOPPED) return false;
    const wsg_event *events = nullptr;
    std::size_t count = 0;
    if (status == WSG_OK) detail::check(wsg_batch_events(batch.raw, &events, &count));
    for (std::size_t i = 0; i < count; i++) each(events[i]);
    return true;
  }

  /// Readable when there may be events; then call `next` with timeout 0 until it calls `each` no more.
  int fd() const {
    int fd = -1;
    detail::check(wsg_server_fd(get(), &fd));
    return fd;
  }

  void drain(std::chrono::milliseconds timeout, std::chrono::milliseconds jitter = {}) {
    detail::check(wsg_server_drain(get(), static_cast<std::uint64_t>(timeout.count()),
                                   static_cast<std::uint64_t>(jitter.count())));
  }

  void stop() { detail::check(wsg_server_stop(get())); }

  void reload_tls() {
    wsg_error *error = nullptr;
    const wsg_status status = wsg_server_reload_tls(get(), &error);
    detail::check(status, error);
  }

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

  /// Answers a ticket; `false`: it was answered, its time is over, or its peer has left.
  bool accept(std::uint64_t ticket, std::optional<std::string_view> user = {}, std::uint64_t expires_at_ms = 0) {
    return settled(wsg_server_accept(get(), ticket, detail::data(user), detail::size(user), expires_at_ms));
  }
  bool reject(std::uint64_t ticket, std::uint16_t http_status = 401) {
    return settled(wsg_server_reject(get(), ticket, http_status));
  }
  bool unavailable(std::uint64_t ticket) { return settled(wsg_server_unavailable(get(), ticket)); }

  sent send_text(conn_id conn, std::string_view text) {
    return result(wsg_server_send_text(get(), conn, text.data(), text.size()));
  }
  sent send_binary(conn_id conn, std::string_view bytes) {
    return result(wsg_server_send_binary(get(), conn, bytes.data(), bytes.size()));
  }
  sent emit(conn_id conn, std::string_view event, std::string_view json) {
    return result(wsg_server_emit(get(), conn, event.data(), event.size(), json.data(), json.size()));
  }
  /// In reply to a message, by its `id`.
  sent reply(conn_id conn, const wsg_str &id, std::string_view event, std::string_view json) {
    return result(
        wsg_server_reply(get(), conn, id.data, id.len, event.data(), event.size(), json.data(), json.size()));
  }

  sent close(conn_id conn, std::uint16_t code = 1000, std::string_view reason = {}) {
    return result(wsg_server_close(get(), conn, code, reason.data(), reason.size()));
  }
  sent fail(conn_id conn) { return result(wsg_server_fail(get(), conn)); }
  sent join(conn_id conn, std::string_view room) {
    return result(wsg_server_join(get(), conn, room.data(), room.size()));
  }
  sent leave(conn_id conn, std::string_view room) {
    return result(wsg_server_leave(get(), conn, room.data(), room.size()));
  }

  /// To a room, or to every connection; `except` is left out.
  void broadcast(std::optional<std::string_view> room, std::string_view event, std::string_view json,
                 conn_id except = 0) {
    detail::check(wsg_server_broadcast(get(), detail::data(room), detail::size(room), event.data(), event.size(),
                                       json.data(), json.size(), except));
  }
  void broadcast_text(std::optional<std::string_view> room, std::string_view text, conn_id except = 0) {
    detail::check(wsg_server_broadcast_text(get(), detail::data(room), detail::size(room), text.data(), text.size(),
                                            except));
  }
  void broadcast_binary(std::optional<std::string_view> room, std::string_view bytes, conn_id except = 0) {
    detail::check(wsg_server_broadcast_binary(get(), detail::data(room), detail::size(room), bytes.data(),
                                              bytes.size(), except));
  }
  void disconnect_user(std::string_view user) {
    detail::check(wsg_server_disconnect_user(get(), user.data(), user.size()));
  }

 private:
  static sent result(wsg_status status) {
    if (status == WSG_ERR_CONNECTION_CLOSED) return sent::closed;
    return detail::check(status) == WSG_QUEUED ? sent::queued : sent::on_its_way;
  }

  static bool settled(wsg_status status) {
    return status != WSG_ERR_TICKET_SETTLED && detail::check(status) == WSG_OK;
  }

  /// What the C handlers get as userdata.
  struct running {
    server &self;
    handlers on;

    /// Calls a handler; no exception leaves.
    template <typename Handler, typename... Arguments>
    static int call(void *userdata, Handler handlers::*handler, Arguments &&...arguments) noexcept {
      running &run = *static_cast<running *>(userdata);
      try {
        (run.on.*handler)(run.self, std::forward<Arguments>(arguments)...);
        return 0;
      } catch (...) {
        try {
          if (run.on.failed) run.on.failed(run.self, std::current_exception());
        } catch (...) {
        }
        return 1;
      }
    }

    wsg_handlers table() const {
      wsg_handlers table{};
      if (on.event) table.event = [](void *u, wsg_server *, const wsg_event *e) { return call(u, &handlers::event, *e); };
      if (on.upgrade)
        table.upgrade = [](void *u, wsg_server *, const wsg_upgrade *e) { return call(u, &handlers::upgrade, *e); };
      if (on.open)
        table.open = [](void *u, wsg_server *, conn_id c, const wsg_open *e) { return call(u, &handlers::open, c, *e); };
      if (on.message)
        table.message = [](void *u, wsg_server *, conn_id c, const wsg_message *e) {
          return call(u, &handlers::message, c, *e);
        };
      if (on.text)
        table.text = [](void *u, wsg_server *, conn_id c, const char *data, std::size_t len) {
          return call(u, &handlers::text, c, std::string_view(data, len));
        };
      if (on.binary)
        table.binary = [](void *u, wsg_server *, conn_id c, const char *data, std::size_t len) {
          return call(u, &handlers::binary, c, std::string_view(data, len));
        };
      if (on.close)
        table.close = [](void *u, wsg_server *, conn_id c, const wsg_close *e) {
          return call(u, &handlers::close, c, *e);
        };
      if (on.violation)
        table.violation = [](void *u, wsg_server *, conn_id c, const wsg_violation *e) {
          return call(u, &handlers::violation, c, *e);
        };
      if (on.drained) table.drained = [](void *u, wsg_server *, conn_id c) { return call(u, &handlers::drained, c); };
      return table;
    }
  };

  // In this order: the server ends before the handler that its threads call.
  std::shared_ptr<inline_handler> inline_;
  std::unique_ptr<wsg_server, detail::deleter> raw_;
};

/// Sends the log to standard error.
inline void log_to_stderr() { detail::check(wsg_log_to_stderr()); }

/// The header of this name, in any case.
inline std::optional<std::string_view> header(const wsg_upgrade &upgrade, std::string_view name) {
  return maybe(wsg_upgrade_header(&upgrade, name.data(), name.size()));
}

}  // namespace wsguard

#endif  // WSGUARD_HPP

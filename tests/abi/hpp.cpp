// The C++ face: exceptions cost one connection and are told, what is owned stays where it is, and the types take what C++
// programs have.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "wsguard.hpp"

extern "C" {
#include "check.h"
#include "client.h"
}

static_assert(!std::is_copy_constructible_v<wsguard::server> && !std::is_move_constructible_v<wsguard::server>);
static_assert(!std::is_copy_assignable_v<wsguard::server> && !std::is_move_assignable_v<wsguard::server>);
// Neither a missing room nor a missing user compiles.
using maybe_text = std::optional<std::string_view>;
template <typename Room, typename = void>
constexpr bool broadcasts_to = false;
template <typename Room>
constexpr bool broadcasts_to<Room, std::void_t<decltype(std::declval<wsguard::server &>().broadcast_text(
                                       std::declval<Room>(), std::string_view()))>> = true;
static_assert(broadcasts_to<std::string> && !broadcasts_to<maybe_text>);

static std::atomic<int> logged{0};

static void keep_log(void *, const wsg_log_record *record) {
  const auto text = wsguard::view(record->text);
  if (wsguard::view(record->target) == "wsguard::handler" && text.find("deliberate") != text.npos) logged++;
}

static wsguard::options open_policy(const char *protocol) {
  wsguard::options options;
  options.set_listen("127.0.0.1:0").add_origin("https://app.example.com").set_auth_none();
  options.set("protocol", wsguard::json_quote(protocol)).set("threads", "2");
  options.set("rate_limit", "null").set("handshakes_per_ip", "null").set("max_message_bytes", "4096");
  return options;
}

static std::unique_ptr<wsguard::server> make_server(const wsguard::options &options) {
  return std::make_unique<wsguard::server>(options);
}

static wsguard::server returned(const wsguard::options &options) { return wsguard::server(options); }

// Each of three: a handler's exception, one of something that is no std::exception, and one of `failed` itself.
static void handlers_that_throw() {
  const auto server = make_server(open_policy("raw"));
  const std::string address = server->address();
  int failures = 0, closes = 0, served = 0;
  wsguard::handlers on;
  on.text = [&](wsguard::server &s, wsguard::conn_id conn, std::string_view text) {
    if (text == "a") throw std::runtime_error("deliberate\nfailure");
    if (text == "b") throw 7;
    served++;
    s.send_text(conn, "fine");
  };
  on.failed = [&](wsguard::server &, std::exception_ptr) {
    if (failures++ == 1) throw std::runtime_error("deliberate, of failed");
  };
  on.close = [&](wsguard::server &s, wsguard::conn_id, const wsg_close &close) {
    CHECK(close.code == 1011 || closes == 2);
    if (++closes == 3) s.stop();
  };
  std::thread peers([&] {
    for (const char *frames : {"\x81\x81\0\0\0\0a", "\x81\x81\0\0\0\0b"}) {
      later gone{};
      gone.address = address.c_str(), gone.headers = "", gone.frames = frames, gone.len = 7;
      CHECK(client_join(client_later(&gone), &gone) >= 4 && std::string_view(gone.received + 2, 2) == "\x03\xf3");
    }
    const int honest = client_open(address.c_str());
    CHECK(honest >= 0 && client_send(honest, "hello") == 0 && client_expect(honest, "fine") == 0);
    close(honest);
  });
  const int before = logged;
  CHECK(server->run(on));
  peers.join();
  CHECK(failures == 2 && served == 1);
  while (logged - before < 2) std::this_thread::yield(); // the log has a thread of its own
}

// Runs a server on a thread of its own, and answers when it does: `failed` hears what inline handlers throw from here on, and
// no open that waits for the application keeps a message from them. They pass "pass" on.
static std::thread run_beside(wsguard::server &server, wsguard::failure_handler failed) {
  std::atomic<bool> runs{false};
  std::thread running([&server, &runs, failed = std::move(failed)] {
    wsguard::handlers on;
    on.failed = failed;
    on.text = [&runs](wsguard::server &, wsguard::conn_id, std::string_view) { runs = true; };
    CHECK(server.run(on));
  });
  const int peer = client_open(server.address().c_str());
  CHECK(peer >= 0 && client_send(peer, "pass") == 0);
  while (!runs) std::this_thread::yield();
  close(peer);
  return running;
}

static void inline_handlers_that_throw() {
  auto options = open_policy("raw");
  std::atomic<int> told{0};
  options.set_inline([](wsguard::conn_id, const wsg_inline_message &message, const wsguard::replies &replies) {
    const auto text = wsguard::view(message.data);
    if (text == "a") throw std::runtime_error("deliberate");
    if (text == "pass") return false;
    replies.send_text(text);
    return text != "twice"; // an answer, and then it is passed on: refused
  });
  const auto server = make_server(options);
  const std::string address = server->address();
  std::thread running = run_beside(*server, [&](wsguard::server &s, std::exception_ptr) {
    CHECK(&s == server.get());
    told++;
  });
  for (const char *frames : {"\x81\x81\0\0\0\0a", "\x81\x85\0\0\0\0twice"}) {
    later gone{};
    gone.address = address.c_str(), gone.headers = "", gone.frames = frames, gone.len = frames[1] == '\x81' ? 7 : 11;
    CHECK(client_join(client_later(&gone), &gone) >= 4 && std::string_view(gone.received + 2, 2) == "\x03\xf3");
  }
  CHECK(told == 1);
  server->drain(std::chrono::milliseconds(1000));
  running.join();
}

// Two servers of the same options: each hears of its own failures. Whoever runs a server that runs already hears of none,
// and takes nothing from the other.
static void inline_handlers_of_two_servers() {
  auto options = open_policy("raw");
  options.set_inline([](wsguard::conn_id, const wsg_inline_message &message, const wsguard::replies &) {
    if (wsguard::view(message.data) != "pass") throw std::runtime_error("deliberate");
    return false;
  });
  const auto first = make_server(options), second = make_server(options);
  std::atomic<int> told_first{0}, told_second{0};
  std::vector<std::thread> running;
  for (auto [server, told] : {std::pair{first.get(), &told_first}, std::pair{second.get(), &told_second}}) {
    running.push_back(run_beside(*server, [server = server, told = told](wsguard::server &s, std::exception_ptr) {
      CHECK(&s == server);
      // From a thread of the library's nobody runs a server, nor hears of anything for having tried.
      try {
        s.run({});
        CHECK(false);
      } catch (const wsguard::error &error) {
        CHECK(error.status() == WSG_ERR_REENTRANT);
      }
      ++*told;
    }));
  }
  for (int round = 0; round < 3; round++)
    for (const auto *server : {first.get(), second.get()}) {
      const std::string address = server->address();
      later gone{};
      gone.address = address.c_str(), gone.headers = "", gone.frames = "\x81\x81\0\0\0\0a", gone.len = 7;
      CHECK(client_join(client_later(&gone), &gone) >= 4 && std::string_view(gone.received + 2, 2) == "\x03\xf3");
      try {
        wsguard::handlers on;
        on.failed = [](wsguard::server &, std::exception_ptr) { CHECK(false); };
        first->run(on);
        CHECK(false);
      } catch (const wsguard::error &error) {
        CHECK(error.status() == WSG_ERR_BUSY);
      }
    }
  CHECK(told_first == 3 && told_second == 3);
  for (const auto &server : {first.get(), second.get()}) server->drain(std::chrono::milliseconds(1000));
  for (auto &thread : running) thread.join();
}

static void violations_say_what_was_wrong() {
  auto options = open_policy("json");
  options.add_event("say", R"({"type": "string"})");
  const auto server = make_server(options);
  const std::string address = server->address();
  std::string said;
  wsguard::handlers on;
  on.violation = [&](wsguard::server &s, wsguard::conn_id, const wsg_violation &violation) {
    said = wsguard::view(violation.detail);
    s.stop();
  };
  const int peer = client_open(address.c_str());
  CHECK(peer >= 0 && client_send(peer, R"({"event":"say","data":7})") == 0);
  CHECK(server->run(on) && said.find("type") != said.npos);
  close(peer);
}

// The rest of a batch is handled, whatever an event throws.
static void next_that_throws() {
  const auto server = make_server(open_policy("raw"));
  const std::string address = server->address();
  later gone{};
  gone.address = address.c_str(), gone.headers = "", gone.frames = "\x81\x81\0\0\0\0a\x81\x81\0\0\0\0b", gone.len = 14;
  const auto peer = client_later(&gone);
  int events = 0, texts = 0, thrown = 0;
  for (bool closed = false; !closed;) {
    try {
      server->next(std::nullopt, [&](const wsg_event &event) {
        events++;
        if (event.kind == WSG_EVENT_CLOSE) closed = true;
        if (event.kind == WSG_EVENT_TEXT) texts++;
        if (event.kind == WSG_EVENT_TEXT) throw std::runtime_error("deliberate");
      });
    } catch (const std::runtime_error &) {
      thrown++;
    }
  }
  CHECK(thrown == 1 && texts == 1 && events >= 3);
  CHECK(client_join(peer, &gone) >= 4 && std::string_view(gone.received + 2, 2) == "\x03\xf3");
}

// Who has failed stays so, also for what comes in the batches behind; others are not meant.
static void next_that_throws_before_more_comes() {
  const auto server = make_server(open_policy("raw").set("threads", "1"));
  const std::string address = server->address();
  const auto arrived = [&](std::uint64_t count) {
    wsg_stats stats{};
    while (wsg_server_stats(server->get(), &stats, sizeof stats) == WSG_OK && stats.messages_in < count) usleep(1000);
  };
  const int bad = client_open(address.c_str()), honest = client_open(address.c_str());
  CHECK(bad >= 0 && honest >= 0 && client_send(bad, "a") == 0);
  std::string texts;
  int closes = 0, thrown = 0;
  while (closes == 0 || texts.size() < 2) {
    try {
      server->next(std::nullopt, [&](const wsg_event &event) {
        if (event.kind == WSG_EVENT_CLOSE) closes++;
        if (event.kind != WSG_EVENT_TEXT) return;
        texts += wsguard::view(event.body.payload);
        if (texts != "a") return;
        CHECK(client_send(bad, "b") == 0 && client_send(bad, "c") == 0 && client_send(honest, "z") == 0);
        arrived(4);
        throw std::runtime_error("deliberate");
      });
    } catch (const std::runtime_error &) {
      thrown++;
    }
  }
  CHECK(thrown == 1 && texts == "az");
  close(bad), close(honest);
}

static void types() {
  wsguard::server server = returned(open_policy("raw"));
  const std::vector<std::uint8_t> octets{1, 2, 3};
  const std::vector<std::byte> raw(3);
  CHECK(server.send_binary(1, octets) == wsguard::sent::closed && server.send_binary(1, raw) == wsguard::sent::closed);
  CHECK(server.send_binary(1, std::string("abc")) == wsguard::sent::closed && server.send_binary(1, "abc") == wsguard::sent::closed);
  server.broadcast_all_binary(std::vector<std::uint8_t>{});
  // Whom a broadcast leaves out: nobody, one, several.
  const std::vector<wsguard::conn_id> some{1, 2};
  CHECK(wsguard::except().size() == 0 && wsguard::except(some).data() == some.data() && wsguard::except(some).size() == 2);
  CHECK(wsguard::except(7).size() == 1 && *wsguard::except(7).data() == 7);
  CHECK(wsguard::except({7, 8}).size() == 2 && wsguard::except({7, 8}).data()[1] == 8);
  CHECK(server.broadcast_text("room", "x", 7) == wsguard::sent::sent);
  CHECK(server.broadcast_text("room", "x", {7, 8}) == wsguard::sent::sent);
  CHECK(server.broadcast_text("room", "x", some) == wsguard::sent::sent);
  static_assert(wsguard::default_drain_timeout == std::chrono::seconds(10) && wsguard::default_drain_jitter.count() == 0);
  CHECK(!server.accept(77, "alice", std::chrono::system_clock::now() + std::chrono::hours(1)));
  CHECK(!server.accept_anonymous(77) && !server.is_open(1));
  const auto refuses = [](wsg_status status, auto &&call) {
    try {
      call();
    } catch (const wsguard::error &error) {
      return error.status() == status && std::string_view(error.what()).size() > 0;
    }
    return false;
  };
  using namespace std::chrono_literals;
  CHECK(refuses(WSG_ERR_ARGUMENT, [&] { server.drain(-1ms, -1ms); }));
  CHECK(refuses(WSG_ERR_ARGUMENT, [&] { server.next(-1ms, [](const wsg_event &) {}); }));
  CHECK(refuses(WSG_ERR_NULL, [&] { server.accept(77, std::string_view()); }));
  CHECK(refuses(WSG_ERR_ARGUMENT, [&] { server.accept(77, "alice", std::chrono::system_clock::from_time_t(-1)); }));
  CHECK(refuses(WSG_ERR_NULL, [] { wsguard::options().set_inline({}); }));
  CHECK(refuses(WSG_ERR_NULL, [&] { server.broadcast_text({}, "x"); }));
  CHECK(refuses(WSG_ERR_ARGUMENT, [&] { server.broadcast_all("event", "1"); }));
  CHECK(refuses(WSG_ERR_INVALID_OPTION, [] { wsguard::options().set_listen("nonsense"); }));
  CHECK(refuses(WSG_ERR_CONTRADICTION, [] { wsguard::options().set_auth_callback().add_token("a-token-of-some-length", "alice"); }));
  wsguard::handlers on;
  on.message = [](auto &, auto, const wsg_message &) {};
  CHECK(refuses(WSG_ERR_ARGUMENT, [&] { server.run(on); }));
  server.interrupt();
  CHECK(!server.run({}));
  bool corked = false;
  try {
    server.cork([&] {
      corked = true;
      throw std::runtime_error("deliberate");
    });
    CHECK(false);
  } catch (const std::runtime_error &) {
  }
  CHECK(corked);
  bool plain = false;
  server.plain([&] { plain = true; });
  CHECK(plain);
  CHECK(wsguard::json_string(*wsguard::json_get(R"({"a":"\u0062\n"})", "/a")) == "b\n");
  CHECK(wsguard::json_quote("a\"b") == R"("a\"b")" && !wsguard::json_get("{}", "/a"));
}

// Other options, bans and numbers of a running server.
static void policy_that_lives() {
  const auto server = make_server(open_policy("raw"));
  CHECK(server->reload(open_policy("raw").set("max_message_bytes", "100")) == 2);
  try {
    server->reload(open_policy("json"));
    CHECK(false);
  } catch (const wsguard::error &error) {
    CHECK(error.status() == WSG_ERR_NOT_RELOADABLE && error.option() == "protocol" && error.code() == "not_reloadable");
  }
  CHECK(server->bans().empty() && !server->unban_user("alice"));
  server->ban_user("alice", std::chrono::minutes(1), "why");
  server->ban_ip("2001:db8::1");
  const auto bans = server->bans();
  CHECK(bans.size() == 2 && bans[0].user == "alice" && bans[0].reason == "why" && !bans[0].is_automatic);
  CHECK(bans[1].ip == "2001:db8::/64" && bans[1].ends_at_ms == WSG_NEVER && server->unban_ip("2001:db8::2"));
  CHECK(server->metrics().find("wsguard_policy_generation 2") != std::string::npos && server->admin_address().empty());
  CHECK(!server->accept(77, "alice", wsguard::accept_with{wsguard::never, {"admin"}}));
  CHECK(!server->accept(77, std::nullopt, wsguard::accept_with{}));
  CHECK(!server->reject(77, wsguard::reject_with{418, {{"X-Reason", "teapot"}}, "short and stout"}));
}

// Whom to reach, on a server with one connection.
static void reach() {
  const auto server = make_server(open_policy("raw"));
  const int peer = client_open(server->address().c_str());
  wsguard::conn_id conn = 0;
  while (conn == 0)
    server->next(std::chrono::seconds(5), [&](const wsg_event &event) { conn = event.kind == WSG_EVENT_OPEN ? event.conn : conn; });
  CHECK(server->join(conn, "a") == wsguard::sent::sent && server->join(conn, "b") == wsguard::sent::sent);
  CHECK(server->room_members("a") == std::vector<wsguard::conn_id>{conn} && server->room_size("a") == 1);
  std::vector<std::size_t> there;
  const auto counted = [&](std::optional<wsguard::everywhere> now) { there.push_back(now ? now->connections + now->missing : 77); };
  server->rooms_everywhere({"a", "b"}, std::chrono::seconds(1), counted);
  server->rooms_everywhere({"a"}, std::chrono::seconds(1), counted, conn);
  server->user_everywhere("nobody", std::chrono::seconds(1), counted);
  server->all_everywhere(std::chrono::seconds(1), counted);
  CHECK((there == std::vector<std::size_t>{1, 0, 0, 1}));
  CHECK(server->connections().size() == 1 && server->user_connections("alice").empty() && server->rooms(conn).size() == 2);
  CHECK(server->broadcast_rooms_text({"a", "b"}, "once") != wsguard::sent::closed && client_expect(peer, "once") == 0);
  CHECK(server->broadcast_rooms_binary({"b"}, "x", conn) != wsguard::sent::closed);
  CHECK(server->broadcast_user_text("alice", "x") != wsguard::sent::closed);
  CHECK(server->broadcast_user_binary("alice", "x") != wsguard::sent::closed);
  server->room_clear("a");
  CHECK(server->room_size("a") == 0 && server->buffered_bytes(conn) < 1000 && server->ping(conn) != wsguard::sent::closed);
  for (const auto &call : {std::function<void()>([&] { server->request(conn, "1", "e", "1"); }),
                           std::function<void()>([&] { server->broadcast_user("alice", "e", "1"); }),
                           std::function<void()>([&] { server->broadcast_rooms({"a"}, "e", "1"); })}) {
    try {
      call();
      CHECK(false);
    } catch (const wsguard::error &error) {
      CHECK(error.status() == WSG_ERR_ARGUMENT); // events, on a raw server
    }
  }
  server->room_close("b", 4000, "over");
  CHECK(server->terminate(conn) == wsguard::sent::closed && server->rooms(conn).empty());
  close(peer);
}

static const std::string upgrade_head =
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.example.com\r\n\r\n";

// A session over a pipe, whose handlers do all there is to do; then one whose handler throws.
static void pipes() {
  using namespace std::string_literals;
  auto options = open_policy("raw");
  options.set_start(WSG_START_CONSULT | WSG_START_WITHOUT_LISTENER | WSG_START_WITHOUT_AUTO_PONG);
  const auto server = make_server(options);
  CHECK(server->address().empty());
  wsguard::adoption with;
  with.received = upgrade_head, with.peer = "203.0.113.7:4711", with.local = "203.0.113.1:443", with.is_secure = true, with.tag = 5;
  std::uint64_t pipe = 0;
  std::string got, told;
  bool is_ended = false;
  wsguard::handlers on;
  on.upgrade = [&](wsguard::server &s, const wsg_upgrade &upgrade) {
    CHECK(upgrade.adopted == 5 && upgrade.identity != nullptr && wsguard::view(upgrade.local) == "203.0.113.1:443");
    wsguard::accept_with wrong;
    wrong.roles = {"admin"};
    try {
      s.pass(upgrade.ticket, wrong);
      CHECK(false);
    } catch (const wsguard::error &error) {
      CHECK(error.status() == WSG_ERR_ARGUMENT);
    }
    CHECK(s.pass(upgrade.ticket) && !s.pass(upgrade.ticket));
  };
  on.open = [&](wsguard::server &s, wsguard::conn_id conn, const wsg_open &open) {
    CHECK(open.adopted == 5 && wsguard::view(open.peer) == "203.0.113.7:4711");
    CHECK(s.send_fragment(conn, WSG_OPCODE_TEXT, false, "a") != wsguard::sent::closed);
    CHECK(s.send_fragment(conn, WSG_OPCODE_CONTINUATION, true, "b") != wsguard::sent::closed);
    CHECK(s.send_ping(conn, "p") != wsguard::sent::closed && s.queued(conn) >= s.written(conn));
  };
  on.pipe_ready = [&](wsguard::server &s, const wsg_pipe &ready) {
    CHECK(ready.id == pipe && ready.tag == 5);
    char buffer[64];
    wsguard::taken taken{};
    do {
      taken = s.pipe_take(pipe, buffer, sizeof buffer);
      got.append(buffer, taken.size);
    } while (taken.size == sizeof buffer);
    is_ended |= taken.is_ended;
    if (told.empty() && got.find("\x89\x01p") != got.npos) {
      told = "pinged";
      CHECK(s.pipe_push(pipe, "\x8a\x81\0\0\0\0p\x89\x81\0\0\0\0q"s));
    }
  };
  on.pong_frame = [&](wsguard::server &, wsguard::conn_id, std::string_view payload) { told += payload; };
  on.ping_frame = [&](wsguard::server &s, wsguard::conn_id conn, std::string_view payload) {
    told += payload;
    CHECK(s.send_pong(conn, payload) != wsguard::sent::closed && s.set_auto_pong(conn, true) != wsguard::sent::closed);
    s.close(conn, 4000, "over");
    s.pipe_push(pipe, "\x88\x80\0\0\0\0"s);
  };
  // It was closed by a call: nothing but the close is told.
  on.closing = [&](wsguard::server &, wsguard::conn_id) { CHECK(false); };
  on.close = [&](wsguard::server &s, wsguard::conn_id, const wsg_close &close) {
    CHECK(close.code == 4000 && close.clean && close.peer_code == 1005 && close.fault == WSG_FAULT_NONE);
    s.stop();
  };
  pipe = server->adopt_pipe(with);
  CHECK(server->run(on));
  while (!is_ended) {
    char buffer[64];
    const wsguard::taken taken = server->pipe_take(pipe, buffer, sizeof buffer);
    got.append(buffer, taken.size);
    is_ended = taken.is_ended;
  }
  CHECK(told == "pingedpq" && got.find("\x01\x01" "a\x80\x01" "b") != got.npos);
  CHECK(got.find("\x8a\x01q\x88\x06\x0f\xa0over") != got.npos);
  CHECK(got.find("\x8a\x01q") == got.rfind("\x8a\x01q")); // the handler's, and none of the server's
  server->pipe_end(pipe);
  server->pipe_free(pipe);
  try {
    server->pipe_free(pipe);
    CHECK(false);
  } catch (const wsguard::error &error) {
    CHECK(error.status() == WSG_ERR_HANDLE);
  }

  const auto second = make_server(open_policy("raw").set_start(WSG_START_WITHOUT_LISTENER));
  const std::uint64_t thrown = second->adopt_pipe({upgrade_head});
  int closes = 0, throws = 0;
  while (closes == 0) {
    try {
      second->next(std::chrono::milliseconds(5000), [&](const wsg_event &event) {
        if (event.kind == WSG_EVENT_PIPE_READY) throw std::runtime_error("deliberate");
        closes += event.kind == WSG_EVENT_CLOSE && event.body.close->code == 1006;
      });
    } catch (const std::runtime_error &) {
      throws++;
    }
  }
  CHECK(throws == 1);
  second->pipe_abort(thrown);
  try {
    second->adopt_fd(-1);
    CHECK(false);
  } catch (const wsguard::error &error) {
    CHECK(error.status() == WSG_ERR_ARGUMENT);
  }
}

// A ticket and a tag come back, though what they were for was over before it could be told.
static void next_without_an_open() {
  wsguard::options options;
  options.set_listen("127.0.0.1:0").add_origin("https://app.example.com").set_auth_callback().set("protocol", R"("raw")");
  const auto server = make_server(options);
  wsguard::adoption adoption;
  adoption.received = upgrade_head;
  adoption.tag = 77;
  server->adopt_pipe(adoption);
  std::uint64_t ticket = 0;
  std::vector<wsg_event_kind> told;
  while (told.size() < 3) {
    CHECK(server->next(std::nullopt, [&](const wsg_event &event) {
      if (event.kind != WSG_EVENT_PIPE_READY && event.kind != WSG_EVENT_VIOLATION) told.push_back(event.kind);
      if (event.kind == WSG_EVENT_UPGRADE_GONE) CHECK(event.body.upgrade_gone->ticket == ticket);
      if (event.kind == WSG_EVENT_ADOPTION_ENDED) CHECK(event.body.adoption_ended->tag == 77);
      if (event.kind != WSG_EVENT_UPGRADE) return;
      ticket = event.body.upgrade->ticket;
      CHECK(server->accept(ticket, "alice"));
      while (server->stats().opened_total < 1) std::this_thread::yield();
      server->disconnect_user("alice");
    }));
  }
  CHECK((told == std::vector<wsg_event_kind>{WSG_EVENT_UPGRADE, WSG_EVENT_UPGRADE_GONE, WSG_EVENT_ADOPTION_ENDED}));
  server->stop();
  while (server->next(std::nullopt, [](const wsg_event &event) { CHECK(event.kind != WSG_EVENT_CLOSE); })) {}
}

int main() {
  next_without_an_open();
  policy_that_lives();
  pipes();
  reach();
  CHECK(wsg_log_to_callback(nullptr, nullptr, WSG_LOG_ERROR) == WSG_ERR_NULL);
  CHECK(wsg_log_to_callback(keep_log, nullptr, 99) == WSG_ERR_ARGUMENT);
  CHECK(wsg_log_to_callback(keep_log, nullptr, WSG_LOG_ERROR) == WSG_OK);
  CHECK(wsg_log_to_callback(keep_log, nullptr, WSG_LOG_ERROR) == WSG_ERR_BUSY && wsg_log_to_stderr() == WSG_ERR_BUSY);
  handlers_that_throw();
  inline_handlers_that_throw();
  inline_handlers_of_two_servers();
  violations_say_what_was_wrong();
  next_that_throws();
  next_that_throws_before_more_comes();
  types();
  std::puts("hpp: exceptions cost one connection, and are told");
  return 0;
}

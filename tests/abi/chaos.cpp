// Everything at once through the C++ API: random peers, handlers that throw, threads that call every command, two servers of
// the same options. Afterwards everything that was taken is given back, nothing was handled of a connection that had failed,
// every failure was told to its own server, and both end. chaos [SECONDS] [SEED]
#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "wsguard.hpp"

extern "C" {
#include "check.h"
#include "crowd.h"
}

using namespace std::chrono_literals;

// What a handler throws, of all kinds.
static void throw_something(dice &any) {
  switch (roll(&any, 4)) {
    case 0: throw std::runtime_error("deliberate");
    case 1: throw 7;
    case 2: throw std::string("deliberate");
    default:
      try {
        throw std::logic_error("deliberate");
      } catch (...) {
        std::throw_with_nested(std::runtime_error("deliberate, of another"));
      }
  }
}

// In how many plays everything has happened: a slow machine may miss it in one.
static int happened = 0;

// One server, and the thread that takes its events.
class play {
 public:
  play(const wsguard::options &options, bool is_raw, bool is_run, std::uint64_t seed)
      : server(options), is_raw_(is_raw), dice_(dice_of(seed, 1)), address_(server.address()) {
    crowd_come(&crowd_, address_.c_str(), seed, is_raw);
    application_ = std::thread([this, is_run] { is_run ? run() : take(); });
    for (std::uint64_t i = 0; i < 2; i++)
      commanders_.emplace_back([this, seed, i] { give_commands(dice_of(seed, 10 + i)); });
  }

  // Everybody leaves, and everything is given back.
  void end() {
    crowd_go(&crowd_);
    over_ = true;
    for (auto &thread : commanders_) thread.join();
    for (const std::uint64_t until = crowd_now_ms(CLOCK_MONOTONIC) + 60000; left() != 0; crowd_pause(5))
      CHECK(crowd_now_ms(CLOCK_MONOTONIC) < until);
    server.drain(1000ms);
    application_.join();
    CHECK(members_.empty());
    happened += crowd_.opened > 0 && opens_ > 0 && messages_ > 0 && thrown_ > 0;
    std::printf("chaos: %lu let in, %lu opens, %lu messages, %lu thrown, %lu told, %lu commands\n", crowd_.opened, opens_,
                messages_, thrown_, told_.load(), commands_.load());
  }

  wsguard::server server;

 private:
  struct member {
    bool failed = false;
    std::string user;
  };

  std::uint64_t left() const {
    const wsg_stats now = server.stats();
    return now.connections + now.open + now.inbox_bytes + now.outbox_bytes + now.delayed + now.pending_auth +
           now.upgrades_in_inbox + now.refusing + now.rooms + now.room_memberships;
  }

  // --- the application's thread

  // Throws now and then; from there on nothing of this connection is handled.
  void maybe_throw(wsguard::conn_id conn, std::uint64_t sides) {
    if (roll(&dice_, sides) != 0) return;
    thrown_++;
    if (const auto found = members_.find(conn); found != members_.end()) found->second.failed = true;
    throw_something(dice_);
  }

  void on_upgrade(const wsg_upgrade &upgrade) {
    const std::string token(wsguard::view(upgrade.token));
    CHECK(wsguard::header(upgrade, "X-Auth-Token") == token);
    maybe_throw(0, 40);
    if (token == "hang") return;
    if (token == "boom") throw_something(dice_);
    if (token == "reject") {
      server.reject(upgrade.ticket, 418);
    } else if (token == "late") {
      const std::lock_guard<std::mutex> lock(late_mutex_);
      late_.push_back(upgrade.ticket);
    } else if (token == "anonymous") {
      server.accept_anonymous(upgrade.ticket);
    } else if (token == "soon") {
      server.accept(upgrade.ticket, "user-0", std::chrono::system_clock::now() + std::chrono::milliseconds(1 + roll(&dice_, 200)));
    } else {
      server.accept(upgrade.ticket, token == "twice" ? "user-1" : token);
      CHECK(!server.accept(upgrade.ticket, "user-1"));
    }
  }

  void on_open(wsguard::conn_id conn, const wsg_open &open) {
    opens_++;
    CHECK(members_.emplace(conn, member{false, std::string(wsguard::view(open.user))}).second);
    recent_[roll(&dice_, recent_.size())] = conn;
    server.join(conn, "hall");
    maybe_throw(conn, 40);
  }

  void on_message(wsguard::conn_id conn) {
    messages_++;
    const auto found = members_.find(conn);
    CHECK(found != members_.end() && !found->second.failed);
    command(dice_, conn);
    maybe_throw(conn, 60);
    if (roll(&dice_, 60) == 0 && !found->second.user.empty()) {
      server.disconnect_user(found->second.user);
      for (auto &[other, known] : members_)
        if (known.user == found->second.user) known.failed = true;
      CHECK(!server.is_open(conn));
    } else if (roll(&dice_, 80) == 0) {
      found->second.failed = true;
      roll(&dice_, 2) == 0 ? server.close(conn, 4000, "enough") : server.fail(conn);
      CHECK(!server.is_open(conn));
    }
  }

  void on_close(wsguard::conn_id conn) {
    CHECK(members_.erase(conn) == 1);
    maybe_throw(conn, 40);
  }

  void on_violation(wsguard::conn_id conn, const wsg_violation &violation) {
    CHECK(!wsguard::view(violation.detail).empty());
    maybe_throw(conn, 40);
  }

  void run() {
    wsguard::handlers on;
    on.upgrade = [this](auto &, const wsg_upgrade &upgrade) { on_upgrade(upgrade); };
    on.open = [this](auto &, auto conn, const wsg_open &open) { on_open(conn, open); };
    if (is_raw_) on.text = on.binary = [this](auto &, auto conn, std::string_view) { on_message(conn); };
    else on.message = [this](auto &, auto conn, const wsg_message &) { on_message(conn); };
    on.close = [this](auto &, auto conn, const wsg_close &) { on_close(conn); };
    on.violation = [this](auto &, auto conn, const wsg_violation &violation) { on_violation(conn, violation); };
    on.drained = [this](auto &, auto conn) { maybe_throw(conn, 40); };
    on.failed = [this](wsguard::server &told, std::exception_ptr failure) {
      CHECK(&told == &server && failure);
      if (told_++ % 16 == 0) throw std::runtime_error("deliberate, of failed");
    };
    while (!server.run(on)) continue; // interrupted
    CHECK(told_ >= thrown_);
  }

  void handle(const wsg_event &event) {
    switch (event.kind) {
      case WSG_EVENT_UPGRADE: return on_upgrade(*event.body.upgrade);
      case WSG_EVENT_OPEN: return on_open(event.conn, *event.body.open);
      case WSG_EVENT_TEXT: case WSG_EVENT_BINARY: case WSG_EVENT_MESSAGE: return on_message(event.conn);
      case WSG_EVENT_CLOSE: return on_close(event.conn);
      case WSG_EVENT_VIOLATION: return on_violation(event.conn, *event.body.violation);
      case WSG_EVENT_DRAINED: return maybe_throw(event.conn, 40);
      case WSG_EVENT_PONG: case WSG_EVENT_UPGRADE_GONE: return;
      case WSG_EVENT_PIPE_READY: case WSG_EVENT_PIPE_ROOM: case WSG_EVENT_ADOPTION_ENDED: CHECK(false); return; // nothing is adopted
      case WSG_EVENT_PING_FRAME: case WSG_EVENT_PONG_FRAME: case WSG_EVENT_CLOSING: CHECK(false); return; // nor heeded
    }
  }

  // By batches: the first of what is thrown comes out of `next`, the rest was handled.
  void take() {
    for (bool goes_on = true; goes_on;) {
      try {
        goes_on = server.next(20ms, [this](const wsg_event &event) { handle(event); });
      } catch (const wsguard::error &) {
        throw; // none of ours
      } catch (...) {
      }
    }
  }

  // --- commands, of any thread

  void command(dice &any, wsguard::conn_id conn) {
    try {
      switch (roll(&any, 20)) {
        case 0: server.send_text(conn, "hello"); break;
        case 1: server.send_binary(conn, std::vector<std::uint8_t>(roll(&any, 30000))); break;
        case 2: server.emit(conn, "news", "[1,2]"); break;
        case 3: server.reply(conn, wsg_str{"7", 1}, "answer", "1"); break;
        case 4: server.reply_error(conn, wsg_str{"7", 1}, "answer", "null"); break;
        case 5: server.join(conn, "kitchen"); break;
        case 6: server.leave(conn, "hall"); break;
        case 7: server.broadcast("hall", "news", "1", conn); break;
        case 8: server.broadcast_text("hall", "news"); break;
        case 9: server.broadcast_all_binary(std::string(roll(&any, 3000), 'x')); break;
        case 10: server.pause(conn); break;
        case 11: case 12: server.resume(conn); break;
        case 13: server.flush(); break;
        case 14: server.set_data(conn, this); break;
        case 15: CHECK(server.data(conn) == nullptr || server.data(conn) == this); break;
        case 16: server.cork([&] { server.broadcast_all_text("corked"); server.broadcast_all("corked", "1"); }); break;
        default: is_raw_ ? server.send_text(conn, "again") : server.emit(conn, "again", "{}");
      }
    } catch (const wsguard::error &error) {
      // Of the other protocol, too large, or the server has ended.
      CHECK(error.status() == WSG_ERR_ARGUMENT || error.status() == WSG_ERR_STOPPED);
    }
  }

  void give_commands(dice any) {
    for (; !over_; commands_++, crowd_pause(roll(&any, 3))) {
      const wsguard::conn_id conn = recent_[roll(&any, recent_.size())];
      std::uint64_t ticket = 0;
      switch (roll(&any, 40)) {
        case 0: case 1: {
          const std::lock_guard<std::mutex> lock(late_mutex_);
          if (late_.empty()) break;
          ticket = late_.back();
          late_.pop_back();
          break;
        }
        case 2: server.close(conn); break;
        case 3: server.fail(conn); break;
        case 4: if (roll(&any, 8) == 0) server.disconnect_user("user-2"); break;
        case 5: if (!is_raw_) server.report_invalid_data(conn, "any"); break;
        case 6: server.interrupt(); break;
        case 7: CHECK(server.verdicts(WSG_VERDICT_BAD_FRAME) <= server.stats().opened_total); break;
        default: command(any, conn);
      }
      if (ticket == 0) continue;
      if (roll(&any, 2) == 0) server.accept(ticket, "user-3");
      else server.unavailable(ticket);
      CHECK(!server.reject(ticket));
    }
  }

  const bool is_raw_;
  dice dice_;
  const std::string address_;
  crowd crowd_;
  std::unordered_map<wsguard::conn_id, member> members_; // of the application's thread
  unsigned long opens_ = 0, messages_ = 0, thrown_ = 0;
  std::atomic<unsigned long> told_{0}, commands_{0};
  std::array<std::atomic<wsguard::conn_id>, 32> recent_{};
  std::mutex late_mutex_;
  std::vector<std::uint64_t> late_;
  std::atomic<bool> over_{false};
  std::thread application_;
  std::vector<std::thread> commanders_;
};

static wsguard::options policy(bool is_raw, std::uint64_t seed, std::atomic<unsigned long> &inlines) {
  auto options = wsguard::options::from_json(is_raw ? "{" CROWD_LIMITS ", \"protocol\": \"raw\"}"
                                                    : "{" CROWD_LIMITS ", \"events\": {\"any\": {}, \"echo\": {\"schema\": {\"type\": \"object\"}}}}");
  options.set_inline([seed, &inlines](wsguard::conn_id, const wsg_inline_message &message, const wsguard::replies &replies) {
    dice any = dice_of(seed, 1000 + inlines++);
    roll(&any, 2);
    if (roll(&any, 4) == 0) return false;
    if (roll(&any, 12) == 0) throw_something(any);
    if (message.kind == WSG_EVENT_MESSAGE) replies.reply(message.id, "echo", wsguard::view(message.data));
    else replies.send_text("echo");
    return roll(&any, 30) != 0;
  });
  return options;
}

int main(int argc, char **argv) {
  const std::uint64_t seconds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 10;
  const std::uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : crowd_now_ms(CLOCK_REALTIME) % 1000000;
  std::printf("chaos: seed %lu\n", static_cast<unsigned long>(seed));
  std::fflush(stdout);
  unsigned long all_inlines = 0;
  for (std::uint64_t round = 0; round < 2; round++) {
    std::atomic<unsigned long> inlines{0};
    const auto options = policy(round == 1, seed + round, inlines);
    play run(options, round == 1, true, seed + round), take(options, round == 1, false, seed + 100 + round);
    crowd_pause(seconds * 1000 / 2);
    run.end();
    take.end();
    all_inlines += inlines;
  }
  CHECK(happened > 0 && all_inlines > 0);
  std::puts("chaos: everything that was taken is given back");
  return 0;
}

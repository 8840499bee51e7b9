// Exceptions out of functions that C hands over: whichever it is, and whoever would catch them behind the library, the process
// ends with one clear message. (wsguard.hpp catches before that: hpp.cpp.)
#include <csignal>
#include <cstring>
#include <stdexcept>

#include "wsguard.hpp"

extern "C" {
#include "child.h"
#include "client.h"
}

[[noreturn]] static void fail() { throw std::runtime_error("deliberate"); }

static int on_event(void *, wsg_server *, const wsg_event *) { fail(); }
static int on_upgrade(void *, wsg_server *, const wsg_upgrade *) { fail(); }
static int on_open(void *, wsg_server *, uint64_t, const wsg_open *) { fail(); }
static int on_text(void *, wsg_server *, uint64_t, const char *, size_t) { fail(); }
static int on_message(void *, wsg_server *, uint64_t, const wsg_message *) { fail(); }
static int on_close(void *, wsg_server *, uint64_t, const wsg_close *) { fail(); }
static int on_violation(void *, wsg_server *, uint64_t, const wsg_violation *) { fail(); }
static int on_inline(void *, uint64_t, const wsg_inline_message *, wsg_replies *) { fail(); }
static void on_log(void *, const wsg_log_record *) { fail(); }
static void corked(void *) { fail(); }

// A server that all of this happens to: a peer that says a text which is no message, and then is closed.
static void serve(const wsg_handlers &handlers, const char *protocol, const char *auth, const char *text, wsg_inline_fn inlined) {
  wsg_options *options = open_options(protocol, strlen(protocol));
  wsg_server *server = nullptr;
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("auth"), auth, strlen(auth), nullptr));
  if (strcmp(protocol, "json") == 0)
    ANSWERS(WSG_OK, wsg_options_set(options, TEXT("events"), TEXT("{\"say\": {}}"), nullptr));
  if (inlined != nullptr) ANSWERS(WSG_OK, wsg_options_set_inline(options, inlined, nullptr));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, nullptr));
  std::string frame = "\x81";
  frame += char(0x80 | strlen(text));
  frame.append(4, '\0').append(text);
  frame.append("\x88\x80\0\0\0\0", 6);
  later peer{};
  peer.address = wsg_server_address(server).data, peer.headers = "", peer.frames = frame.data(), peer.len = frame.size();
  client_later(&peer);
  try {
    wsg_server_run(server, &handlers, nullptr, nullptr);
  } catch (...) {
    fputs("caught behind wsg_server_run\n", stderr);
  }
}

template <auto Member, auto Function>
static void handler() {
  wsg_handlers handlers{};
  handlers.size = sizeof handlers;
  handlers.*Member = Function;
  const bool is_upgrade = std::is_same_v<decltype(Function), decltype(&on_upgrade)>;
  const bool is_text = std::is_same_v<decltype(Function), decltype(&on_text)>;
  const bool is_violation = std::is_same_v<decltype(Function), decltype(&on_violation)>;
  serve(handlers, is_text ? "raw" : "json", is_upgrade ? "\"callback\"" : "\"none\"",
        is_violation ? "no message" : "{\"event\":\"say\"}", nullptr);
}

static void inline_handler() {
  wsg_handlers handlers{};
  handlers.size = sizeof handlers;
  serve(handlers, "json", "\"none\"", "{\"event\":\"say\"}", on_inline);
}

static void log_function() {
  try {
    wsg_log_to_callback(on_log, nullptr, WSG_LOG_INFO);
    wsg_log_failure(TEXT("said"));
    sleep(10); // the log has a thread of its own, which ends this long before
  } catch (...) {
    fputs("caught behind wsg_log_failure\n", stderr);
  }
}

static void cork() {
  wsg_options *options = open_options("raw", 3);
  wsg_server *server = nullptr;
  ANSWERS(WSG_OK, wsg_server_start(options, &server, nullptr));
  try {
    wsg_server_cork(server, corked, nullptr);
  } catch (...) {
    fputs("caught behind wsg_server_cork\n", stderr);
  }
}

int main() {
  const struct {
    const char *name;
    void (*body)();
  } programs[] = {
      {"event", handler<&wsg_handlers::event, &on_event>},
      {"upgrade", handler<&wsg_handlers::upgrade, &on_upgrade>},
      {"open", handler<&wsg_handlers::open, &on_open>},
      {"message", handler<&wsg_handlers::message, &on_message>},
      {"text", handler<&wsg_handlers::text, &on_text>},
      {"close", handler<&wsg_handlers::close, &on_close>},
      {"violation", handler<&wsg_handlers::violation, &on_violation>},
      {"inline", inline_handler},
      {"cork", cork},
      {"log", log_function},
  };
  for (const auto &program : programs) {
    char said[8192];
    const int ended = in_child(program.body, said, sizeof said);
    const bool is_clear = strstr(said, "left by an exception or pthread_exit; callbacks must return") != nullptr;
    if (!WIFSIGNALED(ended) || WTERMSIG(ended) != SIGABRT || !is_clear || strstr(said, "caught") != nullptr) {
      fprintf(stderr, "%s: status %d, said: %s\n", program.name, ended, said);
      return 1;
    }
  }
  puts("exceptions: one clear end, whatever they come out of");
}

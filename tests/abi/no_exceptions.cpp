// wsguard.hpp without exceptions: what fails ends the process with its words, everything else is as it was.
#include <sys/wait.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "wsguard.hpp"

extern "C" {
#include "check.h"
#include "client.h"
}

static_assert(WSGUARD_EXCEPTIONS == 0, "compile it with -fno-exceptions");

static wsguard::options open_policy() {
  wsguard::options options;
  options.set_listen("127.0.0.1:0").add_origin("https://app.example.com").set_auth_none();
  options.set("protocol", "\"raw\"").set("threads", "1");
  return options;
}

// In a child: what it wrote to standard error, and that it was aborted.
static std::string aborted(void (*fail)()) {
  int fds[2], ended = 0;
  CHECK(pipe(fds) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(fds[1], 2);
    fail();
    _exit(0);
  }
  close(fds[1]);
  std::string said;
  char part[256];
  for (ssize_t got; (got = read(fds[0], part, sizeof part)) > 0;) said.append(part, static_cast<std::size_t>(got));
  close(fds[0]);
  CHECK(waitpid(child, &ended, 0) == child && WIFSIGNALED(ended) && WTERMSIG(ended) == SIGABRT);
  return said;
}

// Its handler destroys the server that runs.
static void destroy_in_a_handler() {
  auto server = std::make_unique<wsguard::server>(open_policy());
  wsguard::handlers on;
  on.open = [&](wsguard::server &, wsguard::conn_id, const wsg_open &) { server.reset(); };
  later peer{};
  const std::string address = server->address();
  peer.address = address.c_str(), peer.headers = "", peer.frames = "";
  client_later(&peer);
  server->run(on);
}

int main() {
  CHECK(aborted(destroy_in_a_handler).find("must not be destroyed in one of its handlers") != std::string::npos);
  CHECK(aborted([] { open_policy().set_listen("nonsense"); }).find("invalid_option") != std::string::npos);
  CHECK(aborted([] { open_policy().set_inline({}); }).find("must not be empty") != std::string::npos);
  auto options = open_policy();
  std::atomic<int> inlines{0};
  options.set_inline([&](wsguard::conn_id, const wsg_inline_message &, const wsguard::replies &) {
    inlines++;
    return false;
  });
  wsguard::server server(options);
  const std::string address = server.address();
  std::thread peer([&] {
    const int fd = client_open(address.c_str());
    CHECK(fd >= 0 && client_send(fd, "hello") == 0 && client_expect(fd, "hello") == 0);
    CHECK(client_send(fd, "hello") == 0 && client_expect(fd, "hello") == 0);
    close(fd);
  });
  wsguard::handlers on;
  on.text = [](wsguard::server &s, wsguard::conn_id conn, std::string_view text) {
    CHECK(s.send_text(conn, text) == wsguard::sent::sent);
  };
  on.close = [](wsguard::server &s, wsguard::conn_id conn, const wsg_close &) {
    CHECK(s.send_text(conn, "late") == wsguard::sent::closed);
    s.cork([&] { s.stop(); });
  };
  CHECK(server.run(on));
  peer.join();
  CHECK(inlines > 0 && !server.next(std::nullopt, [](const wsg_event &) {}));
  std::puts("no exceptions: failures end the process with their words");
  return 0;
}

// C++ with JSON Web Tokens: the library checks signature, algorithm, expiry, issuer and audience before the upgrade.
//
//   c++ -std=c++17 jwt.cpp -o jwt $(pkg-config --cflags --libs wsguard) && ./jwt
#include <iostream>
#include <string>
#include <wsguard.hpp>

int main(int argc, char **argv) try {
  auto options = wsguard::options::from_json(R"({
    "listen": "127.0.0.1:8080",
    "origins": ["http://localhost:3000"],
    "auth": {"jwt": {"algorithms": ["HS256"], "key": "a-secret-of-at-least-32-bytes-of-yours",
                     "issuer": "https://login.example.com", "audience": "chat"}},
    "token_sources": ["subprotocol", "bearer"],
    "events": {"say": {"schema": {"type": "string", "maxLength": 500}}}
  })");
  if (argc > 1) options.set_listen(argv[1]);
  wsguard::log_to_stderr();
  wsguard::server server(options);
  std::cout << "listening on " << server.address() << std::endl;

  wsguard::handlers on;
  on.open = [](auto &server, auto conn, const wsg_open &open) {
    std::cout << wsguard::view(open.user) << " has come" << std::endl;
    server.join(conn, "lobby");
  };
  on.message = [](auto &server, auto, const wsg_message &message) {
    server.broadcast("lobby", "said", wsguard::view(message.data));
  };
  on.violation = [](auto &, auto, const wsg_violation &violation) {
    std::cout << "refused: " << wsguard::view(wsg_verdict_name(violation.code)) << std::endl;
  };
  // What a handler throws closes its connection and is in the log; `on.failed` would hear of it, too.
  server.drain_on_signals();
  server.run(on);
  return 0;
} catch (const wsguard::error &error) {
  std::cerr << error.code() << ": " << error.what() << '\n';
  return 1;
}

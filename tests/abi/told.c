/* What events tell: what was wrong with a message, the cookies of a handshake, and of a handshake only while it matters. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

static bool holds(wsg_str text, const char *word) { return memmem(text.data, text.len, word, strlen(word)) != NULL; }

static int on_violation(void *userdata, wsg_server *server, uint64_t conn, const wsg_violation *violation) {
  CHECK(conn != 0 && violation->code == WSG_VERDICT_SCHEMA_MISMATCH && holds(violation->event, "say"));
  /* Where and why, and nothing of what the peer said. */
  CHECK(holds(violation->detail, "/text") && !holds(violation->detail, "hidden") && violation->detail.len <= 256);
  ++*(int *)userdata;
  return wsg_server_stop(server);
}

static void what_was_wrong(void) {
  static const char schema[] = "{\"type\": \"object\", \"properties\": {\"text\": {\"type\": \"integer\"}}}";
  static const char said[] = "{\"event\":\"say\",\"data\":{\"text\":\"hidden\"}}";
  wsg_handlers handlers = {.size = sizeof handlers, .violation = on_violation};
  wsg_options *options = open_options(TEXT("json"));
  wsg_server *server = NULL;
  int violations = 0;
  ANSWERS(WSG_OK, wsg_options_add_event(options, TEXT("say"), TEXT(schema), NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  int peer = client_open(wsg_server_address(server).data);
  CHECK(peer >= 0 && client_send(peer, said) == 0);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &violations, NULL));
  CHECK(violations == 1);
  close(peer);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

struct door {
  const char *address;
  int upgrades, opens;
};

/* Asks to be let in, and does not wait for the answer. */
static int knock(const char *address, const char *cookies) {
  static char request[16384];
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(strrchr(address, ':') + 1))};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int len = snprintf(request, sizeof request,
                     "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.example.com\r\nCookie: %s\r\n\r\n",
                     address, cookies);
  CHECK(len < (int)sizeof request && connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
  CHECK(send(fd, request, (size_t)len, MSG_NOSIGNAL) == len);
  return fd;
}

/* While the first of three is decided on, the second knocks and leaves. The third brings ever so many cookies. */
static int on_upgrade(void *userdata, wsg_server *server, const wsg_upgrade *upgrade) {
  static char many[2 * 5000 + 16];
  struct door *door = userdata;
  wsg_stats stats = {0};
  switch (door->upgrades++) {
    case 0: {
      CHECK(upgrade->cookies_len == 2 && holds(upgrade->cookies[1].name, "b") && holds(upgrade->cookies[1].value, "2"));
      int gone = knock(door->address, "gone=1");
      while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.upgrades_in_inbox < 2) usleep(1000);
      close(gone);
      while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.connections > 1) usleep(1000);
      for (size_t i = 0; i < 5000; i++) memcpy(many + 2 * i, "=;", 2);
      CHECK(knock(door->address, many) >= 0);
      return 0; /* the first is never answered, and leaves with the server */
    }
    case 1:
      CHECK(upgrade->cookies_len == 1024 && wsg_upgrade_header(upgrade, TEXT("cookie")).len >= 9999);
      return wsg_server_stop(server);
    default: CHECK(false); return 1;
  }
}

static void handshakes(void) {
  wsg_handlers handlers = {.size = sizeof handlers, .upgrade = on_upgrade};
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  struct door door = {0};
  ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"listen\": \"127.0.0.1:0\", \"origins\": [\"https://app.example.com\"],"
                                             "\"auth\": \"callback\", \"threads\": 1}"), &options, NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  door.address = wsg_server_address(server).data;
  CHECK(knock(door.address, "a=1; b=2") >= 0);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &door, NULL));
  CHECK(door.upgrades == 2);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

int main(void) {
  what_was_wrong();
  handshakes();
  puts("told: details, cookies, and handshakes that still matter");
  return 0;
}

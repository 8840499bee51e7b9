/* Closed is closed; what was said before is delivered; what is widest is said by name; nothing is accepted in silence. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

enum end { CLOSE, FAIL, RETURN, DISCONNECT };

struct story {
  enum end end;
  int messages, closes, failures;
  uint64_t other;
};

static int on_upgrade(void *userdata, wsg_server *server, const wsg_upgrade *upgrade) {
  (void)userdata;
  wsg_str user = wsg_upgrade_header(upgrade, TEXT("x-user"));
  /* What is missing is nobody only where that is said. */
  ANSWERS(WSG_ERR_NULL, wsg_server_accept(server, upgrade->ticket, NULL, 0, WSG_NEVER));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_accept(server, upgrade->ticket, TEXT("alice"), 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_accept(server, upgrade->ticket, TEXT("alice"), (uint64_t)-1000));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_accept_anonymous(server, upgrade->ticket, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_accept(server, upgrade->ticket, TEXT(""), WSG_NEVER));
  CHECK(upgrade->token.data == NULL);
  if (user.data == NULL) ANSWERS(WSG_OK, wsg_server_accept_anonymous(server, upgrade->ticket, WSG_NEVER));
  else ANSWERS(WSG_OK, wsg_server_accept(server, upgrade->ticket, user.data, user.len, WSG_NEVER));
  return 0;
}

static int on_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  struct story *story = userdata;
  (void)text, (void)len;
  story->messages++;
  CHECK(wsg_conn_is_open(server, conn));
  ANSWERS(WSG_OK, wsg_conn_set_data(server, conn, story));
  ANSWERS(WSG_OK, wsg_server_send_text(server, conn, TEXT("before")));
  switch (story->end) {
    case CLOSE: ANSWERS(WSG_OK, wsg_server_close(server, conn, 4000, TEXT("out"))); break;
    case FAIL: ANSWERS(WSG_OK, wsg_server_fail(server, conn)); break;
    case RETURN: return 1;
    case DISCONNECT: ANSWERS(WSG_OK, wsg_server_disconnect_user(server, TEXT("alice"))); break;
  }
  /* At once, and for every way to say something. */
  CHECK(!wsg_conn_is_open(server, conn));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_server_send_text(server, conn, TEXT("after")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_server_send_binary(server, conn, TEXT("after")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_server_close(server, conn, 1000, NULL, 0));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_server_join(server, conn, TEXT("room")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_set_data(server, conn, NULL));
  return 0;
}

static int on_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  struct story *story = userdata;
  static const unsigned codes[] = {[CLOSE] = 4000, [FAIL] = 1011, [RETURN] = 1011, [DISCONNECT] = 1008};
  CHECK(closed->code == codes[story->end]);
  CHECK(wsg_conn_data(server, conn) == story); /* still there, to be let go of */
  story->closes++;
  wsg_server_stop(server);
  return 0;
}

/* An `event` handler that fails on an end: `close` is called all the same. */
static int fail_on_close(void *userdata, wsg_server *server, const wsg_event *event) {
  struct story *story = userdata;
  (void)server;
  if (event->kind != WSG_EVENT_CLOSE) return 0;
  story->failures++;
  return 1;
}

/* Three messages in one write; at the first the connection is ended. */
static void ended_in_the_middle_of_a_batch(enum end end) {
  static const char three[] = "\x81\x81\0\0\0\0a\x81\x81\0\0\0\0b\x81\x81\0\0\0\0c";
  struct story story = {.end = end};
  wsg_handlers handlers = {.size = sizeof handlers, .event = fail_on_close, .upgrade = on_upgrade, .text = on_text,
                           .close = on_close};
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  wsg_error *error = NULL;
  ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"listen\": \"127.0.0.1:0\", \"origins\": [\"https://app.example.com\"],"
                                             "\"auth\": \"callback\", \"protocol\": \"raw\", \"threads\": 1}"),
                                        &options, &error));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, &error));
  struct later later = {.address = wsg_server_address(server).data, .headers = "X-User: alice\r\n", .frames = three,
                        .len = sizeof three - 1};
  pthread_t peer = client_later(&later);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &story, &error));
  CHECK(error == NULL && story.messages == 1 && story.closes == 1 && story.failures == 1);
  CHECK(client_join(peer, &later) > 8 && memcmp(later.received, "\x81\x06" "before", 8) == 0);
  CHECK(memmem(later.received, later.received_len, "after", 5) == NULL);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

/* What an application has heard of, with a user who is disconnected before her open was taken. */
struct early {
  const char *address;
  int opens, closes, texts, first, second;
};

static int on_early_open(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *opened) {
  CHECK(opened->user.data != NULL && wsg_conn_is_open(server, conn));
  ((struct early *)userdata)->opens++;
  return 0;
}

static int on_early_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  (void)server, (void)conn, (void)closed;
  ((struct early *)userdata)->closes++;
  return 0;
}

/* At bob's message alice comes and speaks, is disconnected, and comes again. */
static int on_early_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  struct early *early = userdata;
  wsg_stats stats = {0};
  (void)conn, (void)len;
  early->texts++;
  if (text[0] == 'z') return wsg_server_stop(server);
  CHECK(text[0] == 'k');
  early->first = client_open_with(early->address, "X-Auth-Token: the-token-of-alice\r\n");
  CHECK(early->first >= 0 && client_send(early->first, "a") == 0);
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.messages_in < 2) usleep(1000);
  ANSWERS(WSG_OK, wsg_server_disconnect_user(server, TEXT("alice")));
  early->second = client_open_with(early->address, "X-Auth-Token: the-token-of-alice\r\n");
  CHECK(early->second >= 0 && client_send(early->second, "z") == 0);
  return 0;
}

/* Closed is closed before it was open, and whoever is let in afterwards is not meant. */
static void disconnected_before_the_open_was_taken(void) {
  wsg_handlers handlers = {.size = sizeof handlers, .open = on_early_open, .text = on_early_text, .close = on_early_close};
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  struct early early = {0};
  ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"listen\": \"127.0.0.1:0\", \"origins\": [\"https://app.example.com\"],"
                                             "\"protocol\": \"raw\", \"threads\": 1}"), &options, NULL));
  ANSWERS(WSG_OK, wsg_options_add_token(options, TEXT("the-token-of-alice"), TEXT("alice"), NULL));
  ANSWERS(WSG_OK, wsg_options_add_token(options, TEXT("the-token-of-bob"), TEXT("bob"), NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  early.address = wsg_server_address(server).data;
  int bob = client_open_with(early.address, "X-Auth-Token: the-token-of-bob\r\n");
  CHECK(bob >= 0 && client_send(bob, "k") == 0);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &early, NULL));
  CHECK(early.texts == 2 && early.opens == 2); /* bob, and alice's second */
  CHECK(early.closes <= 2);
  close(bob), close(early.first), close(early.second);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

struct left {
  enum end end;
  int texts;
};

static int on_text_of_one_who_left(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  struct left *left = userdata;
  (void)text, (void)len;
  left->texts++;
  if (left->end == CLOSE) ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_server_close(server, conn, 4000, NULL, 0));
  if (left->end == FAIL) ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_server_fail(server, conn));
  return left->end == RETURN;
}

/* What is left of a connection whose peer has gone is not handled either, once it was closed. */
static void ended_when_the_peer_had_left(enum end end) {
  wsg_handlers handlers = {.size = sizeof handlers, .text = on_text_of_one_who_left};
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  wsg_stats stats = {0};
  struct left left = {.end = end};
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  int client = client_open(wsg_server_address(server).data);
  CHECK(client >= 0 && client_send(client, "a") == 0 && client_send(client, "b") == 0 && client_send(client, "c") == 0);
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.messages_in < 3) usleep(1000);
  close(client);
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.open > 0) usleep(1000);
  ANSWERS(WSG_OK, wsg_server_drain(server, 1000, 0));
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &left, NULL));
  CHECK(left.texts == 1);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

static int stop_at_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  (void)text, (void)len;
  ++*(int *)userdata;
  ANSWERS(WSG_OK, wsg_server_send_text(server, conn, TEXT("before")));
  ANSWERS(WSG_OK, wsg_server_stop(server));
  CHECK(!wsg_conn_is_open(server, conn));
  CHECK(wsg_server_send_text(server, conn, TEXT("after")) < 0);
  return 0;
}

/* Of two connections with two messages each, all of them here, one is handled: it stops the server. */
static void stopped_in_the_middle_of_a_batch(void) {
  wsg_handlers handlers = {.size = sizeof handlers, .text = stop_at_text};
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  wsg_stats stats = {0};
  int texts = 0, clients[2];
  ANSWERS(WSG_OK, wsg_options_set_threads(options, 1, NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  for (int i = 0; i < 2; i++) {
    clients[i] = client_open(wsg_server_address(server).data);
    CHECK(clients[i] >= 0 && client_send(clients[i], "a") == 0 && client_send(clients[i], "b") == 0);
  }
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.messages_in < 4) usleep(1000);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &texts, NULL));
  CHECK(texts == 1);
  close(clients[0]), close(clients[1]);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

struct pressed {
  int client, drained;
  volatile int reads;
  pthread_t reader;
};

static char much[1 << 20];

static void press(wsg_server *server, uint64_t conn) {
  int queued = 0;
  for (int i = 0; i < 24; i++) {
    int sent = wsg_server_send_binary(server, conn, much, sizeof much);
    CHECK(sent >= 0);
    queued |= sent == WSG_QUEUED;
  }
  CHECK(queued);
}

static void read_all(int client) {
  static char sink[1 << 16];
  for (size_t left = 24 * (sizeof much + 10); left > 0;) {
    ssize_t got = recv(client, sink, left < sizeof sink ? left : sizeof sink, 0);
    CHECK(got > 0);
    left -= (size_t)got;
  }
}

static void *read_later(void *userdata) {
  static char sink[1 << 16];
  struct pressed *pressed = userdata;
  usleep(300000);
  pressed->reads = 1;
  while (recv(pressed->client, sink, sizeof sink, 0) > 0) continue;
  return NULL;
}

/* In one turn: much, all of which is read, then much that is not. */
static int press_twice(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  struct pressed *pressed = userdata;
  (void)text, (void)len;
  press(server, conn);
  ANSWERS(WSG_OK, wsg_server_flush(server));
  read_all(pressed->client);
  usleep(50000); /* so that this is told by now */
  press(server, conn);
  CHECK(pthread_create(&pressed->reader, NULL, read_later, pressed) == 0);
  return 0;
}

static int stop_when_drained(void *userdata, wsg_server *server, uint64_t conn) {
  struct pressed *pressed = userdata;
  CHECK(conn != 0 && pressed->reads); /* not the one that was on its way */
  pressed->drained++;
  return wsg_server_stop(server);
}

static void drained_speaks_of_what_was_said_last(void) {
  wsg_handlers handlers = {.size = sizeof handlers, .text = press_twice, .drained = stop_when_drained};
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  struct pressed pressed = {0};
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("max_outbox_bytes"), TEXT("67108864"), NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  pressed.client = client_open(wsg_server_address(server).data);
  CHECK(pressed.client >= 0 && client_send(pressed.client, "a") == 0);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &pressed, NULL));
  CHECK(pressed.drained == 1);
  pthread_join(pressed.reader, NULL);
  close(pressed.client);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

struct inside {
  wsg_server *server;
  int calls;
};

static int close_inside(void *userdata, uint64_t conn, const wsg_inline_message *message, wsg_replies *replies) {
  struct inside *inside = userdata;
  (void)message, (void)replies;
  if (inside->calls++ == 0) ANSWERS(WSG_OK, wsg_server_close(inside->server, conn, 4000, NULL, 0));
  return WSG_INLINE_DONE;
}

static int stop_at_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  CHECK(userdata == NULL && conn != 0 && closed->code == 4000);
  return wsg_server_stop(server);
}

/* An inline handler closes the connection at the first of three messages. */
static void ended_by_an_inline_handler(void) {
  static const char three[] = "\x81\x81\0\0\0\0a\x81\x81\0\0\0\0b\x81\x81\0\0\0\0c";
  wsg_handlers handlers = {.size = sizeof handlers, .close = stop_at_close};
  wsg_options *options = open_options(TEXT("raw"));
  wsg_batch *batch = NULL;
  struct inside inside = {0};
  ANSWERS(WSG_OK, wsg_options_set_inline(options, close_inside, &inside));
  ANSWERS(WSG_OK, wsg_server_start(options, &inside.server, NULL));
  int client = client_open(wsg_server_address(inside.server).data);
  ANSWERS(WSG_OK, wsg_server_next(inside.server, 5000, &batch)); /* the open */
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_NOTHING, wsg_server_next(inside.server, 0, &batch));
  CHECK(client >= 0 && send(client, three, sizeof three - 1, MSG_NOSIGNAL) == sizeof three - 1);
  ANSWERS(WSG_OK, wsg_server_run(inside.server, &handlers, NULL, NULL));
  CHECK(inside.calls == 1);
  close(client);
  ANSWERS(WSG_OK, wsg_server_free(inside.server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

static int last_words(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  (void)text, (void)len;
  ANSWERS(WSG_OK, wsg_server_send_text(server, conn, TEXT("last words")));
  if (*(int *)userdata == 0) ANSWERS(WSG_OK, wsg_server_stop(server));
  if (*(int *)userdata == 1) ANSWERS(WSG_OK, wsg_server_drain(server, 1000, 0));
  if (*(int *)userdata == 2) {
    /* The answer goes out while the handler still works: the peer's next word comes during it. */
    ANSWERS(WSG_OK, wsg_server_flush(server));
    while (wsg_server_stats(server, &(wsg_stats){0}, sizeof(wsg_stats)) == WSG_OK) {
      wsg_stats stats;
      wsg_server_stats(server, &stats, sizeof stats);
      if (stats.bytes_out >= 12) break;
      usleep(1000);
    }
    ANSWERS(WSG_OK, wsg_server_stop(server));
  }
  return 0;
}

/* What a handler sends before it stops, drains or works on arrives. */
static void what_was_said_before_arrives(int how) {
  wsg_options *options = open_options(TEXT("raw"));
  wsg_handlers handlers = {.size = sizeof handlers, .text = last_words};
  wsg_server *server = NULL;
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  struct later later = {.address = wsg_server_address(server).data, .headers = "", .frames = "\x81\x81\0\0\0\0a", .len = 7};
  pthread_t peer = client_later(&later);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &how, NULL));
  CHECK(client_join(peer, &later) >= 12 && memcmp(later.received, "\x81\x0a" "last words", 12) == 0);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

static int any_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  return (void)userdata, (void)server, (void)conn, (void)text, len == 0;
}

static int any_message(void *userdata, wsg_server *server, uint64_t conn, const wsg_message *message) {
  return (void)userdata, (void)server, (void)conn, message == NULL;
}

static void refused_run(wsg_server *server, const wsg_handlers *handlers, const char *word) {
  wsg_error *error = (wsg_error *)&error;
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_run(server, handlers, NULL, &error));
  CHECK(strstr(wsg_error_message(error).data, word) != NULL);
  ANSWERS(WSG_OK, wsg_error_free(error));
}

/* Handlers that could never be called, and structs of another version. */
static void handlers_that_cannot_be(void) {
  struct {
    wsg_handlers known;
    void *unknown;
  } newer = {.known = {.size = sizeof newer}};
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  wsg_error *error;
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  refused_run(server, &(wsg_handlers){.size = sizeof(wsg_handlers), .message = any_message}, "protocol is raw");
  refused_run(server, &(wsg_handlers){.size = sizeof(wsg_handlers), .upgrade = on_upgrade}, "auth is not callback");
  refused_run(server, &(wsg_handlers){.text = any_text}, "not accepted"); /* no size */
  ANSWERS(WSG_OK, wsg_server_interrupt(server));
  ANSWERS(WSG_NOTHING, wsg_server_run(server, &newer.known, NULL, &error));
  newer.unknown = &newer;
  refused_run(server, &newer.known, "not accepted");
  ANSWERS(WSG_ERR_NULL, wsg_server_run(server, NULL, NULL, &error));
  ANSWERS(WSG_OK, wsg_error_free(error));
  /* Events of the other protocol, rooms and users that are no names. */
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_all(server, TEXT("e"), TEXT("1"), 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast_text(server, NULL, 0, TEXT("x"), 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast_binary(server, NULL, 0, TEXT("x"), 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_disconnect_user(server, NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_disconnect_user(server, TEXT("")));
  static char long_name[257];
  memset(long_name, 'x', sizeof long_name);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_disconnect_user(server, long_name, sizeof long_name));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_leave(server, 1, long_name, sizeof long_name));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));

  options = open_options(TEXT("json"));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  refused_run(server, &(wsg_handlers){.size = sizeof(wsg_handlers), .text = any_text}, "protocol is json");
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_send_text(server, 1, TEXT("x")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_all_text(server, TEXT("x"), 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_emit(server, 1, TEXT("e"), TEXT("}{")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_emit(server, 1, TEXT("e"), TEXT("1,\"event\":\"admin\"")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_reply(server, 1, TEXT("1,\"status\":\"error\""), TEXT("e"), TEXT("1")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_reply(server, 1, TEXT(""), TEXT("e"), TEXT("1")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_emit(server, 1, TEXT(""), TEXT("1")));
  ANSWERS(WSG_ERR_NULL, wsg_server_emit(server, 1, NULL, 0, TEXT("1")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_server_emit(server, 1, TEXT("e"), NULL, 0));
  ANSWERS(WSG_OK, wsg_server_broadcast_all(server, TEXT("e"), NULL, 0, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast(server, NULL, 0, TEXT("e"), TEXT("1"), 0));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

/* What only two options get wrong together is the start's to find, whichever is stated first; what one of them gets right
 * with the other is never refused. */
static void setters_in_both_orders(void) {
  static const struct {
    const char *one, *its, *other, *others;
    int start;
  } pairs[] = {
      {"idle_timeout_ms", "500", "ping_interval_ms", "60000", WSG_ERR_CONTRADICTION},
      {"idle_timeout_ms", "0", "ping_interval_ms", "0", WSG_OK},
      {"events", "{\"e\": {\"cost\": 500}}", "rate_limit", "{\"per_second\": 1, \"burst\": 2}", WSG_ERR_CONTRADICTION},
      {"events", "{\"e\": {\"cost\": 500}}", "rate_limit", "{\"per_second\": 1, \"burst\": 600}", WSG_OK},
      {"trusted_proxies", "[\"0.0.0.0/0\", \"::/0\"]", "listen", "\"0.0.0.0:0\"", WSG_ERR_CONTRADICTION},
      {"trusted_proxies", "[\"10.0.0.0/8\"]", "proxy_protocol", "true", WSG_OK},
      {"proxy_protocol", "true", "trusted_proxies", "[]", WSG_ERR_CONTRADICTION},
      {"unix_mode", "\"0600\"", "listen", "\"127.0.0.1:0\"", WSG_ERR_CONTRADICTION},
      {"unix_mode", "\"0600\"", "listen", "\"unix:/tmp/wsguard-abi-setters.sock\"", WSG_OK},
      {"reuse_port", "true", "listen", "\"unix:/tmp/wsguard-abi-setters.sock\"", WSG_ERR_CONTRADICTION},
      {"reuse_port", "true", "listen", "\"127.0.0.1:0\"", WSG_OK},
      {"drain_close_code", "1001", "listen", "\"127.0.0.1:0\"", WSG_OK},
      {"protocol", "\"raw\"", "events", "{\"e\": {}}", WSG_ERR_CONTRADICTION},
      {"max_message_bytes", "1048576", "rate_limit", "{\"per_second\": 1, \"burst\": 1, \"bytes_per_second\": 1}", WSG_OK},
  };
  for (size_t i = 0; i < 2 * (sizeof pairs / sizeof *pairs); i++) {
    const char *name[] = {pairs[i / 2].one, pairs[i / 2].other}, *json[] = {pairs[i / 2].its, pairs[i / 2].others};
    wsg_options *options = NULL;
    wsg_server *server = NULL;
    wsg_error *error = NULL;
    ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"origins\": [\"https://app.example.com\"], \"auth\": \"none\","
                                               "\"listen\": \"127.0.0.1:0\"}"), &options, NULL));
    for (size_t step = 0; step < 2; step++) {
      size_t at = i % 2 ^ step;
      wsg_status set = wsg_options_set(options, name[at], strlen(name[at]), json[at], strlen(json[at]), &error);
      if (set != WSG_OK) fprintf(stderr, "%s: %s\n", name[at], wsg_error_message(error).data);
      ANSWERS(WSG_OK, set);
    }
    wsg_status started = wsg_server_start(options, &server, &error);
    if (started != (wsg_status)pairs[i / 2].start) fprintf(stderr, "%s, %s\n", name[0], name[1]);
    ANSWERS((wsg_status)pairs[i / 2].start, started);
    if (started == WSG_OK) ANSWERS(WSG_OK, wsg_server_free(server));
    else ANSWERS(WSG_OK, wsg_error_free(error));
    ANSWERS(WSG_OK, wsg_options_free(options));
  }
}

/* Every setter says what is wrong where it is said, and writes its error whatever happens. */
static void setters(void) {
  static const char secret[] = "SECRET-of-some-length";
  wsg_options *options = NULL, *stale = NULL;
  wsg_error *error = (wsg_error *)&error;
#define REFUSES(status, option, call)                                  \
  do {                                                                 \
    error = (wsg_error *)&error; /* as a program would leave it */     \
    ANSWERS(status, call);                                             \
    CHECK(strncmp(wsg_error_option(error).data, option, sizeof option - 1) == 0 && \
          (sizeof option > 1) == (wsg_error_option(error).len > 0));   \
    CHECK(wsg_error_message(error).len > 0);                           \
    CHECK(strstr(wsg_error_message(error).data, "SECRET") == NULL);    \
    ANSWERS(WSG_OK, wsg_error_free(error));                            \
  } while (0)
  ANSWERS(WSG_OK, wsg_options_new(&options));
  ANSWERS(WSG_OK, wsg_options_new(&stale));
  ANSWERS(WSG_OK, wsg_options_free(stale));
  REFUSES(WSG_ERR_INVALID_OPTION, "listen", wsg_options_set_listen(options, TEXT("nonsense"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "listen", wsg_options_set_listen(options, "127.0.0.1:0", 3, &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "threads", wsg_options_set_threads(options, SIZE_MAX, &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "origins", wsg_options_add_origin(options, TEXT("*"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "max_message_bytes", wsg_options_set_max_message_bytes(options, 0, &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "protocol", wsg_options_set_protocol(options, TEXT("xml"), &error));
  error = (wsg_error *)&error;
  ANSWERS(WSG_ERR_INVALID_OPTION, wsg_options_add_event(options, TEXT("e"), TEXT("{\"type\": \"nonsense\"}"), &error));
  CHECK(strncmp(wsg_error_option(error).data, "events.e", 8) == 0);
  ANSWERS(WSG_OK, wsg_error_free(error));
  REFUSES(WSG_ERR_INVALID_OPTION, "unix_mode", wsg_options_set(options, TEXT("unix_mode"), TEXT("\"0999\""), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "reuse_port", wsg_options_set(options, TEXT("reuse_port"), TEXT("1"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "drain_close_code", wsg_options_set(options, TEXT("drain_close_code"), TEXT("1000"), &error));
  /* What is wrong with an event is found although its cost alone would be too much for the rate limit. */
  REFUSES(WSG_ERR_INVALID_OPTION, "events.e",
          wsg_options_set(options, TEXT("events"), TEXT("{\"e\": {\"cost\": 1000, \"schema\": {\"type\": \"nonsense\"}}}"), &error));
  REFUSES(WSG_ERR_NULL, "", wsg_options_set_listen(options, NULL, 0, &error));
  REFUSES(WSG_ERR_UTF8, "", wsg_options_set_listen(options, TEXT("\xff"), &error));
  REFUSES(WSG_ERR_NULL, "", wsg_options_set_listen(NULL, TEXT("127.0.0.1:0"), &error));
  REFUSES(WSG_ERR_HANDLE, "", wsg_options_set_listen(stale, TEXT("127.0.0.1:0"), &error));
  REFUSES(WSG_ERR_HANDLE, "", wsg_options_set(stale, TEXT("listen"), TEXT("1"), &error));
  REFUSES(WSG_ERR_UTF8, "", wsg_options_set(options, TEXT("listen"), TEXT("\xff"), &error));
  REFUSES(WSG_ERR_NULL, "", wsg_options_from_json(NULL, 0, &stale, &error));
  REFUSES(WSG_ERR_UTF8, "", wsg_options_from_json(TEXT("\xff"), &stale, &error));
  REFUSES(WSG_ERR_HANDLE, "", wsg_server_start((wsg_options *)&options, &(wsg_server *){NULL}, &error));
  REFUSES(WSG_ERR_NULL, "", wsg_server_start(options, NULL, &error));
  REFUSES(WSG_ERR_HANDLE, "", wsg_server_reload_tls((wsg_server *)&options, &error));
  /* Of a key that is given twice one would be forgotten; no schema is NULL, not a text. */
  REFUSES(WSG_ERR_INVALID_OPTION, "events.e",
          wsg_options_add_event(options, TEXT("e"), TEXT("{\"type\": \"string\", \"type\": \"number\"}"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "events.e", wsg_options_add_event(options, TEXT("e"), TEXT("null"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "events",
          wsg_options_set(options, TEXT("events"),
                          TEXT("{\"e\": {\"schema\": {\"required\": [\"a\"], \"required\": []}}}"), &error));
  /* `null` states nothing: what is added afterwards is not lost. */
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("origins"), TEXT("null"), &error));
  ANSWERS(WSG_OK, wsg_options_add_origin(options, TEXT("https://app.example.com"), &error));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("auth"), TEXT("null"), &error));
  REFUSES(WSG_ERR_MISSING_OPTION, "auth", wsg_server_start(options, &(wsg_server *){NULL}, &error));
  /* A policy is not replaced by adding to it, nor by another way to say it. */
  ANSWERS(WSG_OK, wsg_options_set_auth_callback(options, &error));
  CHECK(error == NULL);
  REFUSES(WSG_ERR_CONTRADICTION, "auth", wsg_options_add_token(options, TEXT(secret), TEXT("alice"), &error));
  REFUSES(WSG_ERR_CONTRADICTION, "auth", wsg_options_set_auth_none(options, &error));
  ANSWERS(WSG_OK, wsg_options_set_auth_callback(options, &error));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("auth"),
                                  TEXT("{\"tokens\": [{\"token\": \"the-first-of-many\", \"user\": \"alice\"}]}"), &error));
  for (int i = 0; i < 2000; i++) {
    char token[32];
    ANSWERS(WSG_OK, wsg_options_add_token(options, token, (size_t)snprintf(token, sizeof token, "a-token-of-length-%d", i),
                                          TEXT("alice"), &error));
  }
  REFUSES(WSG_ERR_CONTRADICTION, "auth", wsg_options_set_auth_none(options, &error));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

/* A newer header's statistics: what the library does not know is 0. A readable descriptor before the first wait. */
static void small_promises(void) {
  struct {
    wsg_stats known;
    uint64_t unknown;
  } newer;
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL, *other = NULL;
  wsg_batch *batch = NULL;
  int fd = -1;
  memset(&newer, 0xff, sizeof newer);
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_OK, wsg_server_fd(server, &fd));
  CHECK(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1);
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 0, &batch));
  CHECK(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 0);
  ANSWERS(WSG_OK, wsg_server_stats(server, &newer.known, sizeof newer));
  CHECK(newer.unknown == 0 && newer.known.open == 0 && newer.known.rooms == 0 && newer.known.room_memberships == 0);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_stats(server, &newer.known, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_stats(server, &newer.known, SIZE_MAX));
  /* An interrupt is one return, before or during a wait. */
  ANSWERS(WSG_OK, wsg_server_interrupt(server));
  ANSWERS(WSG_NOTHING, wsg_server_next(server, -1, &batch));
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 1, &batch));
  ANSWERS(WSG_OK, wsg_server_start(options, &other, NULL));
  ANSWERS(WSG_OK, wsg_server_interrupt(other));
  ANSWERS(WSG_NOTHING, wsg_server_run_once(server, 1, &(wsg_handlers){.size = sizeof(wsg_handlers)}, NULL, NULL));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_interrupt(server));
  ANSWERS(WSG_OK, wsg_server_free(other));
  ANSWERS(WSG_OK, wsg_options_free(options));
  CHECK(strcmp(wsg_status_name(WSG_STOPPED).data, wsg_status_name(WSG_ERR_STOPPED).data) != 0);
  CHECK(wsg_status_message(WSG_ERR_UTF8).len > 0 && wsg_status_message(-1000).len == 0);
}

static void json(void) {
  static const char text[] = "{\"text\":\"room\",\"room\":\"kit\\u0063hen\",\"n\":[1,-2]}";
  char buffer[64];
  size_t len;
  int64_t number;
  wsg_str part;
  ANSWERS(WSG_OK, wsg_json_get(TEXT(text), TEXT("/room"), &part));
  ANSWERS(WSG_OK, wsg_json_string(part.data, part.len, buffer, sizeof buffer, &len));
  CHECK(len == 7 && strcmp(buffer, "kitchen") == 0);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_json_string(part.data, part.len, buffer, 7, &len));
  CHECK(len == 7);
  ANSWERS(WSG_OK, wsg_json_get(TEXT(text), TEXT("/n/1"), &part));
  ANSWERS(WSG_OK, wsg_json_integer(part.data, part.len, &number));
  CHECK(number == -2);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_json_integer(TEXT("1.5"), &number));
  ANSWERS(WSG_NOTHING, wsg_json_get(TEXT(text), TEXT("/kitchen"), &part));
  CHECK(part.data == NULL);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_json_get(TEXT("{\"a\":1"), TEXT("/a"), &part));
  ANSWERS(WSG_OK, wsg_json_quote(TEXT("a\"b\n"), buffer, sizeof buffer, &len));
  CHECK(strcmp(buffer, "\"a\\\"b\\n\"") == 0 && len == 8);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_json_quote(TEXT("abc"), NULL, 0, &len));
}

int main(void) {
  ended_in_the_middle_of_a_batch(CLOSE);
  ended_in_the_middle_of_a_batch(FAIL);
  ended_in_the_middle_of_a_batch(RETURN);
  ended_in_the_middle_of_a_batch(DISCONNECT);
  disconnected_before_the_open_was_taken();
  for (enum end end = CLOSE; end <= RETURN; end++) ended_when_the_peer_had_left(end);
  stopped_in_the_middle_of_a_batch();
  drained_speaks_of_what_was_said_last();
  ended_by_an_inline_handler();
  for (int i = 0; i < 10; i++) what_was_said_before_arrives(i % 3);
  handlers_that_cannot_be();
  setters();
  setters_in_both_orders();
  small_promises();
  json();
  puts("closed: closed is closed, and nothing is accepted in silence");
  return 0;
}

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
  CHECK(newer.unknown == 0 && newer.known.open == 0);
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
  for (int i = 0; i < 10; i++) what_was_said_before_arrives(i % 3);
  handlers_that_cannot_be();
  setters();
  small_promises();
  json();
  puts("closed: closed is closed, and nothing is accepted in silence");
  return 0;
}

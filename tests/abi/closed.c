/* Closed is closed: what was read of a connection that the application has closed is not handled. */
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
  ANSWERS(WSG_ERR_NULL, wsg_ticket_accept(server, upgrade->ticket, NULL, 0, WSG_NEVER));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept(server, upgrade->ticket, TEXT("alice"), 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept(server, upgrade->ticket, TEXT("alice"), (uint64_t)-1000));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept_anonymous(server, upgrade->ticket, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept(server, upgrade->ticket, TEXT(""), WSG_NEVER));
  CHECK(upgrade->token.data == NULL);
  if (user.data == NULL) ANSWERS(WSG_OK, wsg_ticket_accept_anonymous(server, upgrade->ticket, WSG_NEVER));
  else ANSWERS(WSG_OK, wsg_ticket_accept(server, upgrade->ticket, user.data, user.len, WSG_NEVER));
  return 0;
}

static int on_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  struct story *story = userdata;
  (void)text, (void)len;
  story->messages++;
  CHECK(wsg_conn_is_open(server, conn));
  ANSWERS(WSG_OK, wsg_conn_set_data(server, conn, story));
  ANSWERS(WSG_OK, wsg_conn_send_text(server, conn, TEXT("before")));
  switch (story->end) {
    case CLOSE: ANSWERS(WSG_OK, wsg_conn_close(server, conn, 4000, TEXT("out"))); break;
    case FAIL: ANSWERS(WSG_OK, wsg_conn_fail(server, conn)); break;
    case RETURN: return 1;
    case DISCONNECT: ANSWERS(WSG_OK, wsg_server_disconnect_user(server, TEXT("alice"))); break;
  }
  /* At once, and for every way to say something. */
  CHECK(!wsg_conn_is_open(server, conn));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_send_text(server, conn, TEXT("after")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_send_binary(server, conn, TEXT("after")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_close(server, conn, 1000, NULL, 0));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_join(server, conn, TEXT("room")));
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

struct left {
  enum end end;
  int texts;
};

static int on_text_of_one_who_left(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  struct left *left = userdata;
  (void)text, (void)len;
  left->texts++;
  if (left->end == CLOSE) ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_close(server, conn, 4000, NULL, 0));
  if (left->end == FAIL) ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_fail(server, conn));
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

struct inside {
  wsg_server *server;
  int calls;
};

static int close_inside(void *userdata, uint64_t conn, const wsg_inline_message *message, wsg_replies *replies) {
  struct inside *inside = userdata;
  (void)message, (void)replies;
  if (inside->calls++ == 0) ANSWERS(WSG_OK, wsg_conn_close(inside->server, conn, 4000, NULL, 0));
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

/* Alice is closed when she has left; what she said last comes in one batch with bob's open, who has her place. */
struct place {
  const char *address;
  int alice, bob, texts, closes;
  uint64_t conn;
};

static int leave_the_place(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  struct place *place = userdata;
  wsg_stats stats = {0};
  CHECK(len == 1 && text[0] == 'a');
  place->texts++, place->conn = conn;
  ANSWERS(WSG_OK, wsg_conn_set_data(server, conn, place));
  CHECK(client_send(place->alice, "b") == 0);
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.messages_in < 2) usleep(1000);
  close(place->alice);
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.connections > 0) usleep(1000);
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_close(server, conn, 4000, NULL, 0));
  CHECK((place->bob = client_open(place->address)) >= 0);
  return 0;
}

static int on_place_open(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *opened) {
  const struct place *place = userdata;
  (void)opened;
  /* The slot is the lower part of a number: or this test would say nothing. */
  CHECK(place->conn == 0 || (conn != place->conn && (conn & 0xffffff) == (place->conn & 0xffffff)));
  CHECK(wsg_conn_is_open(server, conn) && wsg_conn_data(server, conn) == NULL);
  return 0;
}

static int on_place_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  struct place *place = userdata;
  (void)closed;
  CHECK(conn == place->conn && wsg_conn_data(server, conn) == place);
  place->closes++;
  return wsg_server_stop(server);
}

static void ended_when_the_next_has_the_place(void) {
  wsg_handlers handlers = {.size = sizeof handlers, .open = on_place_open, .text = leave_the_place, .close = on_place_close};
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  struct place place = {0};
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("threads"), TEXT("1"), NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  place.address = wsg_server_address(server).data;
  place.alice = client_open(place.address);
  CHECK(place.alice >= 0 && client_send(place.alice, "a") == 0);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &place, NULL));
  CHECK(place.texts == 1 && place.closes == 1);
  close(place.bob);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

int main(void) {
  ended_when_the_next_has_the_place();
  ended_in_the_middle_of_a_batch(CLOSE);
  ended_in_the_middle_of_a_batch(FAIL);
  ended_in_the_middle_of_a_batch(RETURN);
  ended_in_the_middle_of_a_batch(DISCONNECT);
  for (enum end end = CLOSE; end <= RETURN; end++) ended_when_the_peer_had_left(end);
  ended_by_an_inline_handler();
  puts("closed: what was read of a connection that was closed is not handled");
  return 0;
}

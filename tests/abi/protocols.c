/* Nothing is accepted in silence: handlers that are never called, messages of the other protocol, names that are none. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

static int any_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  return (void)userdata, (void)server, (void)conn, (void)text, len == 0;
}

static int any_upgrade(void *userdata, wsg_server *server, const wsg_upgrade *upgrade) {
  return (void)userdata, (void)server, upgrade == NULL;
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
  refused_run(server, &(wsg_handlers){.size = sizeof(wsg_handlers), .upgrade = any_upgrade}, "auth is not callback");
  refused_run(server, &(wsg_handlers){.text = any_text}, "not accepted"); /* no size */
  ANSWERS(WSG_OK, wsg_server_interrupt(server));
  ANSWERS(WSG_NOTHING, wsg_server_run(server, &newer.known, NULL, &error));
  newer.unknown = &newer;
  refused_run(server, &newer.known, "not accepted");
  ANSWERS(WSG_ERR_NULL, wsg_server_run(server, NULL, NULL, &error));
  ANSWERS(WSG_OK, wsg_error_free(error));
  /* Events of the other protocol, rooms and users that are no names. */
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_all(server, TEXT("e"), TEXT("1"), NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast_text(server, NULL, 0, TEXT("x"), NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast_binary(server, NULL, 0, TEXT("x"), NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_disconnect_user(server, NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_disconnect_user(server, TEXT("")));
  static char long_name[257];
  memset(long_name, 'x', sizeof long_name);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_disconnect_user(server, long_name, sizeof long_name));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_leave(server, 1, long_name, sizeof long_name));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));

  options = open_options(TEXT("json"));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  refused_run(server, &(wsg_handlers){.size = sizeof(wsg_handlers), .text = any_text}, "protocol is json");
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_send_text(server, 1, TEXT("x")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_all_text(server, TEXT("x"), NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_emit(server, 1, TEXT("e"), TEXT("}{")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_emit(server, 1, TEXT("e"), TEXT("1,\"event\":\"admin\"")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_reply(server, 1, TEXT("1,\"status\":\"error\""), TEXT("e"), TEXT("1")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_reply(server, 1, TEXT(""), TEXT("e"), TEXT("1")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_emit(server, 1, TEXT(""), TEXT("1")));
  ANSWERS(WSG_ERR_NULL, wsg_conn_emit(server, 1, NULL, 0, TEXT("1")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_emit(server, 1, TEXT("e"), NULL, 0));
  ANSWERS(WSG_OK, wsg_server_broadcast_all(server, TEXT("e"), NULL, 0, NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast(server, NULL, 0, TEXT("e"), TEXT("1"), NULL, 0));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

/* Every way to say something in the other protocol, to a connection that is open and by an inline handler. */
static void say_it_wrong(wsg_server *server, uint64_t conn, bool is_raw) {
  if (is_raw) {
    ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_emit(server, conn, TEXT("e"), TEXT("1")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_reply(server, conn, TEXT("7"), TEXT("e"), TEXT("1")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_reply_error(server, conn, TEXT("7"), TEXT("e"), TEXT("1")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_reply_unchecked(server, conn, TEXT("7"), TEXT("e"), TEXT("1")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_report_invalid_data(server, conn, TEXT("e")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast(server, TEXT("room"), TEXT("e"), TEXT("1"), NULL, 0));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_all(server, TEXT("e"), TEXT("1"), NULL, 0));
  } else {
    ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_send_text(server, conn, TEXT("x")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_send_binary(server, conn, TEXT("x")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_text(server, TEXT("room"), TEXT("x"), NULL, 0));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_binary(server, TEXT("room"), TEXT("x"), NULL, 0));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_all_text(server, TEXT("x"), NULL, 0));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_all_binary(server, TEXT("x"), NULL, 0));
  }
}

struct crossed {
  wsg_server *server;
  char *large; /* one byte more than an outbox holds */
  int inlines;
};

enum { OUTBOX = 4096 };

static int reply_wrong(void *userdata, uint64_t conn, const wsg_inline_message *message, wsg_replies *replies) {
  struct crossed *crossed = userdata;
  bool is_raw = message->kind != WSG_EVENT_MESSAGE;
  crossed->inlines++;
  say_it_wrong(crossed->server, conn, is_raw);
  if (is_raw) {
    ANSWERS(WSG_ERR_ARGUMENT, wsg_replies_reply(replies, NULL, 0, TEXT("e"), TEXT("1")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_replies_send_text(replies, crossed->large, OUTBOX + 1));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_replies_send_binary(replies, crossed->large, OUTBOX + 1));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_send_text(crossed->server, conn, crossed->large, OUTBOX + 1));
  } else {
    ANSWERS(WSG_ERR_ARGUMENT, wsg_replies_send_text(replies, TEXT("x")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_replies_send_binary(replies, TEXT("x")));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_replies_emit(replies, TEXT("e"), crossed->large, OUTBOX + 1));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_emit(crossed->server, conn, TEXT("e"), crossed->large, OUTBOX + 1));
  }
  return WSG_INLINE_PASS; /* nothing was answered */
}

static int answer_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  (void)userdata;
  say_it_wrong(server, conn, true);
  ANSWERS(WSG_OK, wsg_conn_send_text(server, conn, text, len));
  return 0;
}

static int answer_message(void *userdata, wsg_server *server, uint64_t conn, const wsg_message *message) {
  (void)userdata, (void)message;
  say_it_wrong(server, conn, false);
  ANSWERS(WSG_OK, wsg_conn_emit(server, conn, TEXT("e"), TEXT("7")));
  return 0;
}

static int stop_at_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  (void)userdata, (void)conn, (void)closed;
  return wsg_server_stop(server);
}

/* Says a text to the server and expects an answer, on a thread of its own: none of the wrong ones came before it. */
struct asked {
  const char *address, *said, *answer;
};

static void *ask(void *userdata) {
  const struct asked *asked = userdata;
  int fd = client_open(asked->address);
  CHECK(fd >= 0 && client_send(fd, asked->said) == 0 && client_expect(fd, asked->answer) == 0);
  CHECK(client_send(fd, asked->said) == 0 && client_expect(fd, asked->answer) == 0);
  close(fd);
  return NULL;
}

static void messages_of_the_other_protocol(bool is_raw) {
  wsg_handlers handlers = {.size = sizeof handlers, .close = stop_at_close};
  if (is_raw) handlers.text = answer_text;
  else handlers.message = answer_message;
  struct crossed crossed = {.large = malloc(OUTBOX + 1)};
  memset(crossed.large, '1', OUTBOX + 1);
  wsg_options *options = is_raw ? open_options(TEXT("raw")) : open_options(TEXT("json"));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("max_outbox_bytes"), TEXT("4096"), NULL));
  if (!is_raw) ANSWERS(WSG_OK, wsg_options_add_event(options, TEXT("e"), NULL, 0, NULL));
  ANSWERS(WSG_OK, wsg_options_set_inline(options, reply_wrong, &crossed));
  ANSWERS(WSG_OK, wsg_server_start(options, &crossed.server, NULL));
  struct asked asked = {wsg_server_address(crossed.server).data, is_raw ? "hello" : "{\"event\":\"e\"}",
                        is_raw ? "hello" : "{\"event\":\"e\",\"data\":7,\"status\":\"ok\"}"};
  pthread_t peer;
  CHECK(pthread_create(&peer, NULL, ask, &asked) == 0);
  ANSWERS(WSG_OK, wsg_server_run(crossed.server, &handlers, NULL, NULL));
  pthread_join(peer, NULL);
  ANSWERS(WSG_OK, wsg_server_free(crossed.server));
  ANSWERS(WSG_OK, wsg_options_free(options));
  CHECK(crossed.inlines > 0);
  free(crossed.large);
}

int main(void) {
  messages_of_the_other_protocol(true);
  messages_of_the_other_protocol(false);
  handlers_that_cannot_be();
  puts("protocols: nothing is accepted in silence");
  return 0;
}

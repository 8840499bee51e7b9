/* What a C program can get wrong is answered by a status (THREATS S7, S8, S9). Run under AddressSanitizer as well. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

static wsg_replies *kept_replies;

static int keep_replies(void *userdata, uint64_t conn, const wsg_inline_message *message, wsg_replies *replies) {
  wsg_server *server = *(wsg_server **)userdata, *second = NULL;
  wsg_options *options = NULL;
  wsg_batch *batch = NULL;
  ANSWERS(WSG_ERR_REENTRANT, wsg_server_next(server, -1, &batch));
  ANSWERS(WSG_ERR_REENTRANT, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_new(&options));
  ANSWERS(WSG_ERR_REENTRANT, wsg_server_start(options, &second, NULL));
  ANSWERS(WSG_OK, wsg_options_free(options));
  ANSWERS(WSG_ERR_UTF8, wsg_replies_send_text(replies, TEXT("\xff")));
  ANSWERS(WSG_ERR_NULL, wsg_replies_send_text(replies, NULL, 1));
  ANSWERS(WSG_OK, wsg_replies_send_text(replies, message->data.data, message->data.len));
  kept_replies = replies;
  return conn == 0 ? WSG_INLINE_FAIL : WSG_INLINE_DONE;
}

static void names(void) {
  ANSWERS(WSG_OK, wsg_abi_check(WSG_ABI_VERSION));
  ANSWERS(WSG_ERR_ABI, wsg_abi_check(WSG_ABI_VERSION + 1));
  CHECK(wsg_abi_version() == WSG_ABI_VERSION && wsg_version().len > 0);
  CHECK(strcmp(wsg_verdict_name(WSG_VERDICT_ORIGIN_DENIED).data, "origin_denied") == 0);
  CHECK(wsg_verdict_http_status(WSG_VERDICT_ORIGIN_DENIED) == 403);
  CHECK(wsg_verdict_close_code(WSG_VERDICT_BAD_FRAME) == 1002);
  CHECK(wsg_verdict_name(UINT32_MAX).len == 0 && wsg_status_name(INT32_MIN).len == 0);
  CHECK(strcmp(wsg_status_name(WSG_ERR_PANIC).data, "panic") == 0);
}

static void nulls(void) {
  wsg_handlers handlers = {.size = sizeof handlers};
  wsg_stats stats;
  ANSWERS(WSG_ERR_NULL, wsg_options_new(NULL));
  ANSWERS(WSG_ERR_NULL, wsg_options_from_json(NULL, 0, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_options_set_listen(NULL, TEXT("x"), NULL));
  ANSWERS(WSG_ERR_NULL, wsg_options_set_inline(NULL, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_options_free(NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_start(NULL, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_free(NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_next(NULL, 0, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_run(NULL, &handlers, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_fd(NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_drain(NULL, 0, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_stop(NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_stats(NULL, &stats, sizeof stats));
  ANSWERS(WSG_ERR_NULL, wsg_conn_emit(NULL, 1, TEXT("e"), TEXT("1")));
  ANSWERS(WSG_ERR_NULL, wsg_server_cork(NULL, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_plain(NULL, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_flush(NULL));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_interrupt(NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_drain_on_signals(NULL, 0, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_set_interest(NULL, WSG_INTEREST_OPEN));
  ANSWERS(WSG_ERR_NULL, wsg_conn_pause(NULL, 1));
  CHECK(!wsg_conn_is_open(NULL, 1) && wsg_conn_data(NULL, 1) == NULL);
  ANSWERS(WSG_ERR_NULL, wsg_batch_events(NULL, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_batch_free(NULL));
  ANSWERS(WSG_ERR_NULL, wsg_error_free(NULL));
  ANSWERS(WSG_ERR_NULL, wsg_error_status(NULL));
  ANSWERS(WSG_ERR_NULL, wsg_replies_send_text(NULL, TEXT("x")));
  CHECK(wsg_error_message(NULL).len == 0 && wsg_server_address(NULL).len == 0);
  CHECK(wsg_upgrade_header(NULL, TEXT("x")).data == NULL);
}

static void wrong_options(void) {
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  wsg_error *error = NULL;
  ANSWERS(WSG_ERR_UNKNOWN_OPTION, wsg_options_from_json(TEXT("{\"orgins\": []}"), &options, &error));
  CHECK(options == NULL && strcmp(wsg_error_option(error).data, "orgins") == 0);
  ANSWERS(WSG_ERR_UNKNOWN_OPTION, wsg_error_status(error));
  ANSWERS(WSG_OK, wsg_error_free(error));
  ANSWERS(WSG_ERR_HANDLE, wsg_error_free(error));
  CHECK(wsg_error_message(error).len == 0);
  ANSWERS(WSG_ERR_INVALID_OPTION, wsg_options_from_json(TEXT("{"), &options, NULL));
  ANSWERS(WSG_ERR_INVALID_OPTION, wsg_options_from_json(TEXT("{\"threads\": 1, \"threads\": 2}"), &options, NULL));
  ANSWERS(WSG_ERR_UTF8, wsg_options_from_json(TEXT("\xff"), &options, NULL));
  ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"origins\": [\"https://a.example\"]}"), &options, &error));
  CHECK(error == NULL);
  ANSWERS(WSG_ERR_MISSING_OPTION, wsg_server_start(options, &server, &error));
  CHECK(server == NULL && strcmp(wsg_error_option(error).data, "auth") == 0);
  wsg_error_free(error);
  ANSWERS(WSG_ERR_INVALID_OPTION, wsg_options_set(options, TEXT("threads"), TEXT("1, \"auth\": \"none\""), NULL));
  ANSWERS(WSG_ERR_INVALID_OPTION, wsg_options_set(options, TEXT("threads"), TEXT("\"many\""), NULL));
  ANSWERS(WSG_ERR_UNKNOWN_OPTION, wsg_options_set(options, TEXT("thread"), TEXT("1"), NULL));
  ANSWERS(WSG_ERR_INVALID_OPTION, wsg_options_set(options, TEXT("protocol"), TEXT("\"xml\""), NULL));
  ANSWERS(WSG_OK, wsg_options_add_token(options, TEXT("a-token-of-some-length"), TEXT("alice"), NULL));
  ANSWERS(WSG_OK, wsg_options_add_event(options, TEXT("say"), TEXT("{\"type\": \"string\"}"), NULL));
  ANSWERS(WSG_ERR_INVALID_OPTION, wsg_options_add_event(options, TEXT("shout"), TEXT("{"), NULL));
  ANSWERS(WSG_OK, wsg_options_set_listen(options, TEXT("127.0.0.1:0"), NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, &error));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_free((wsg_server *)options));
  ANSWERS(WSG_ERR_HANDLE, wsg_options_free((wsg_options *)server));
  ANSWERS(WSG_ERR_HANDLE, wsg_options_free((wsg_options *)&options));
  ANSWERS(WSG_OK, wsg_options_free(options));
  ANSWERS(WSG_ERR_HANDLE, wsg_options_free(options));
  ANSWERS(WSG_ERR_HANDLE, wsg_options_set(options, TEXT("threads"), TEXT("1"), NULL));
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void stale(wsg_server *server, uint64_t conn) {
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_send_text(server, conn, TEXT("x")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_send_binary(server, conn, TEXT("x")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_emit(server, conn, TEXT("x"), TEXT("1")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_reply(server, conn, NULL, 0, TEXT("x"), TEXT("1")));
  CHECK(!wsg_conn_is_open(server, conn) && wsg_conn_data(server, conn) == NULL);
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_set_data(server, conn, server));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_pause(server, conn));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_join(server, conn, TEXT("x")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_leave(server, conn, TEXT("x")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_close(server, conn, 1000, NULL, 0));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_fail(server, conn));
}

static int never(void *userdata, wsg_server *server, const wsg_event *event) {
  wsg_batch *batch;
  (void)userdata, (void)event;
  /* The other thread may have freed it already. */
  wsg_status status = wsg_server_free(server);
  CHECK(status == WSG_ERR_REENTRANT || status == WSG_ERR_HANDLE);
  status = wsg_server_next(server, -1, &batch);
  CHECK(status == WSG_ERR_BUSY || status == WSG_ERR_HANDLE);
  return 0;
}

/* One life of a server, with a client, out of order wherever that is possible. */
static void one_life(void) {
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  wsg_batch *batch = NULL, *other = NULL;
  const wsg_event *events;
  size_t count;
  int fd = -1;
  ANSWERS(WSG_OK, wsg_options_set_inline(options, keep_replies, &server));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 0, &batch));
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 10, &batch));
  ANSWERS(WSG_OK, wsg_server_fd(server, &fd));
  stale(server, 0), stale(server, 1), stale(server, UINT64_MAX);
  ANSWERS(WSG_ERR_TICKET_SETTLED, wsg_ticket_accept_anonymous(server, 77, WSG_NEVER));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_reject(server, 77, 200));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_close(server, 1, 1005, NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_text(server, TEXT(""), TEXT("x"), NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_reload_tls(server, NULL));

  int client = client_open(wsg_server_address(server).data);
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  CHECK(client >= 0 && poll(&wait, 1, 5000) == 1);
  ANSWERS(WSG_OK, wsg_server_next(server, 5000, &batch));
  ANSWERS(WSG_ERR_BUSY, wsg_server_next(server, 0, &other));
  ANSWERS(WSG_OK, wsg_batch_events(batch, &events, &count));
  CHECK(count == 1 && events[0].kind == WSG_EVENT_OPEN && events[0].body.open->user.data == NULL);
  uint64_t conn = events[0].conn;
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_ERR_HANDLE, wsg_batch_free(batch));
  ANSWERS(WSG_ERR_HANDLE, wsg_batch_events(batch, &events, &count));
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 0, &batch));
  CHECK(poll(&wait, 1, 0) == 0);
  CHECK(client_send(client, "hi") == 0 && client_expect(client, "hi") == 0);
  ANSWERS(WSG_ERR_HANDLE, wsg_replies_send_text(kept_replies, TEXT("late")));
  CHECK(wsg_conn_send_text(server, conn, TEXT("again")) == WSG_OK && client_expect(client, "again") == 0);
  ANSWERS(WSG_OK, wsg_conn_close(server, conn, 1000, TEXT("bye")));
  close(client);
  ANSWERS(WSG_OK, wsg_server_next(server, 5000, &batch));
  stale(server, conn);

  ANSWERS(WSG_OK, wsg_server_stop(server));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_batch_events(batch, &events, &count));
  CHECK(count >= 1 && events[0].kind == WSG_EVENT_CLOSE && events[0].conn == conn);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_next(server, -1, &batch));
  ANSWERS(WSG_ERR_HANDLE, wsg_conn_send_text(server, conn, TEXT("x")));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

static void *free_it(void *server) {
  usleep(50000);
  ANSWERS(WSG_OK, wsg_server_free(server));
  return NULL;
}

/* Whoever waits for events hears of the end, whoever ends it. */
static void freed_while_waiting(void) {
  wsg_options *options = open_options(TEXT("raw"));
  wsg_handlers handlers = {.size = sizeof handlers, .event = never};
  wsg_server *server = NULL;
  wsg_batch *batch;
  pthread_t thread;
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  CHECK(pthread_create(&thread, NULL, free_it, server) == 0);
  ANSWERS(WSG_STOPPED, wsg_server_next(server, -1, &batch));
  pthread_join(thread, NULL);
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  CHECK(pthread_create(&thread, NULL, free_it, server) == 0);
  int client = client_open(wsg_server_address(server).data);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, NULL, NULL));
  pthread_join(thread, NULL);
  close(client);
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_OK, wsg_server_drain(server, 100, 0));
  ANSWERS(WSG_STOPPED, wsg_server_next(server, -1, &batch));
  ANSWERS(WSG_STOPPED, wsg_server_next(server, -1, &batch));
  ANSWERS(WSG_ERR_STOPPED, wsg_server_broadcast_all_text(server, TEXT("x"), NULL, 0));
  ANSWERS(WSG_ERR_STOPPED, wsg_server_disconnect_user(server, TEXT("x")));
  ANSWERS(WSG_OK, wsg_server_drain(server, 100, 0));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

static int stop_on_close(void *seen, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  CHECK(conn != 0 && closed->code == 1002);
  *(int *)seen += 1;
  wsg_server_stop(server);
  return 0;
}

/* Whoever has no handler for an open and a violation misses just those. */
static void without_some_handlers(void) {
  wsg_options *options = open_options(TEXT("raw"));
  wsg_handlers handlers = {.size = sizeof handlers, .close = stop_on_close};
  wsg_server *server = NULL;
  int seen = 0;
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  int client = client_open(wsg_server_address(server).data);
  CHECK(client >= 0 && send(client, "\x81", 2, MSG_NOSIGNAL) == 2); /* an unmasked frame */
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &seen, NULL));
  CHECK(seen == 1);
  close(client);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

/* A child has no threads of the parent: it is told so, and may start its own server. */
static void forked(void) {
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL, *own = NULL;
  wsg_batch *batch;
  int ended, fd = -1;
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 0, &batch));
  pid_t child = fork();
  if (child == 0) {
    ANSWERS(WSG_ERR_FORKED, wsg_server_next(server, -1, &batch));
    ANSWERS(WSG_ERR_FORKED, wsg_conn_send_text(server, 1, TEXT("x")));
    ANSWERS(WSG_ERR_FORKED, wsg_server_drain(server, 0, 0));
    ANSWERS(WSG_ERR_FORKED, wsg_server_interrupt(server)); /* Ctrl-C is for children, too */
    ANSWERS(WSG_OK, wsg_server_free(server));
    ANSWERS(WSG_OK, wsg_server_start(options, &own, NULL));
    int client = client_open(wsg_server_address(own).data);
    CHECK(client >= 0);
    ANSWERS(WSG_OK, wsg_server_next(own, 5000, &batch));
    _exit(0);
  }
  CHECK(waitpid(child, &ended, 0) == child && WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 0, &batch));
  ANSWERS(WSG_OK, wsg_server_fd(server, &fd));
  CHECK(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 0); /* or the parent would spin */
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

int main(void) {
  names();
  nulls();
  wrong_options();
  one_life();
  freed_while_waiting();
  without_some_handlers();
  forked();
  puts("misuse: every call answered by a status");
  return 0;
}

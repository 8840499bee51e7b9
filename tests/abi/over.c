/* Sessions that end by themselves, by a disconnect, or with the server: nothing that was read before is handled after it. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

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

static int stop_at_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  (void)text, (void)len;
  ++*(int *)userdata;
  ANSWERS(WSG_OK, wsg_conn_send_text(server, conn, TEXT("before")));
  ANSWERS(WSG_OK, wsg_server_stop(server));
  CHECK(!wsg_conn_is_open(server, conn));
  CHECK(wsg_conn_send_text(server, conn, TEXT("after")) < 0);
  return 0;
}

/* Of two connections with two messages each, all of them here, one is handled: it stops the server. */
static void stopped_in_the_middle_of_a_batch(void) {
  wsg_handlers handlers = {.size = sizeof handlers, .text = stop_at_text};
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  wsg_stats stats = {0};
  int texts = 0, clients[2];
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("threads"), TEXT("1"), NULL));
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

/* A session that ends while the application works on its first of three messages; by `run`, or by batches. */
struct session {
  uint64_t expires_at_ms;
  int opens, texts, closes, stale;
};

static const char three[] = "\x81\x81\0\0\0\0a\x81\x81\0\0\0\0b\x81\x81\0\0\0\0c";

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int accept_for_a_moment(void *userdata, wsg_server *server, const wsg_upgrade *upgrade) {
  struct session *session = userdata;
  session->expires_at_ms = now_ms() + 700;
  ANSWERS(WSG_OK, wsg_ticket_accept(server, upgrade->ticket, TEXT("alice"), session->expires_at_ms));
  return 0;
}

static int on_session_open(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *opened) {
  struct session *session = userdata;
  (void)server, (void)conn;
  CHECK(opened->expires_at_ms == session->expires_at_ms);
  session->opens++;
  return 0;
}

static int outlast_the_session(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  struct session *session = userdata;
  wsg_stats stats = {0};
  CHECK(len == 1 && text[0] == 'a');
  session->texts++;
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.messages_in < 3) usleep(1000);
  CHECK(wsg_conn_is_open(server, conn)); /* or the machine is too slow for this test */
  while (wsg_conn_is_open(server, conn)) usleep(1000);
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_send_text(server, conn, TEXT("after")));
  CHECK(now_ms() + 1 >= session->expires_at_ms);
  return 0;
}

static int on_session_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  (void)conn;
  CHECK(closed->code == 1008 && closed->reason.len == 15 && memcmp(closed->reason.data, "session expired", 15) == 0);
  ((struct session *)userdata)->closes++;
  return wsg_server_stop(server);
}

/* What `wsg_server_run` does, by hand. */
static void take_batches(wsg_server *server, const wsg_handlers *handlers, struct session *session) {
  wsg_batch *batch;
  const wsg_event *events;
  size_t count;
  wsg_status status;
  while ((status = wsg_server_next(server, -1, &batch)) == WSG_OK) {
    ANSWERS(WSG_OK, wsg_batch_events(batch, &events, &count));
    for (size_t i = 0; i < count; i++) {
      const wsg_event *event = &events[i];
      if (wsg_event_is_stale(server, event)) session->stale++;
      else if (event->kind == WSG_EVENT_UPGRADE) handlers->upgrade(session, server, event->body.upgrade);
      else if (event->kind == WSG_EVENT_OPEN) handlers->open(session, server, event->conn, event->body.open);
      else if (event->kind == WSG_EVENT_CLOSE) handlers->close(session, server, event->conn, event->body.close);
      else if (event->kind == WSG_EVENT_TEXT)
        handlers->text(session, server, event->conn, event->body.payload.data, event->body.payload.len);
    }
    ANSWERS(WSG_OK, wsg_batch_free(batch));
  }
  ANSWERS(WSG_STOPPED, status);
  CHECK(wsg_event_is_stale(NULL, NULL) && wsg_event_is_stale(server, NULL));
}

static void ended_by_its_expiry(bool by_hand) {
  wsg_handlers handlers = {.size = sizeof handlers, .upgrade = accept_for_a_moment, .open = on_session_open,
                           .text = outlast_the_session, .close = on_session_close};
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  struct session session = {0};
  ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"listen\": \"127.0.0.1:0\", \"origins\": [\"https://app.example.com\"],"
                                             "\"auth\": \"callback\", \"protocol\": \"raw\", \"threads\": 1}"), &options, NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  struct later later = {.address = wsg_server_address(server).data, .headers = "", .frames = three, .len = sizeof three - 1};
  pthread_t peer = client_later(&later);
  if (by_hand) take_batches(server, &handlers, &session);
  else ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &session, NULL));
  CHECK(session.opens == 1 && session.texts == 1 && session.closes == 1 && session.stale == (by_hand ? 2 : 0));
  CHECK(client_join(peer, &later) >= 4 && memmem(later.received, later.received_len, "after", 5) == NULL);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

static int disconnect_too_late(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  (void)conn, (void)text, (void)len;
  ++*(int *)userdata;
  CHECK(wsg_server_disconnect_user(server, TEXT("alice")) == WSG_ERR_STOPPED);
  return 0;
}

/* The server has ended, and of alice there are three messages: she is disconnected at the first. */
static void disconnected_behind_the_end(void) {
  wsg_handlers handlers = {.size = sizeof handlers, .text = disconnect_too_late};
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  wsg_stats stats = {0};
  int texts = 0;
  ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"listen\": \"127.0.0.1:0\", \"origins\": [\"https://app.example.com\"],"
                                             "\"protocol\": \"raw\", \"threads\": 1}"), &options, NULL));
  ANSWERS(WSG_OK, wsg_options_add_token(options, TEXT("the-token-of-alice"), TEXT("alice"), NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  int alice = client_open_with(wsg_server_address(server).data, "X-Auth-Token: the-token-of-alice\r\n");
  CHECK(alice >= 0 && send(alice, three, sizeof three - 1, MSG_NOSIGNAL) == sizeof three - 1);
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.messages_in < 3) usleep(1000);
  close(alice);
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.connections > 0) usleep(1000);
  ANSWERS(WSG_OK, wsg_server_drain(server, 1000, 0));
  while (wsg_server_disconnect_user(server, TEXT("bob")) != WSG_ERR_STOPPED) usleep(1000);
  /* Until the application has heard of the end, what it says to everybody reaches nobody, and is no error. */
  ANSWERS(WSG_OK, wsg_server_broadcast_all_text(server, TEXT("x"), NULL, 0));
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &texts, NULL));
  CHECK(texts == 1);
  ANSWERS(WSG_ERR_STOPPED, wsg_server_broadcast_all_text(server, TEXT("x"), NULL, 0));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

/* What was told of a handshake that was accepted, and of an adoption, whose opens were not taken in time. */
struct unopened {
  uint64_t ticket, gone, ended;
  int opens, closes, status;
};

static int on_unopened(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *opened) {
  (void)server, (void)conn, (void)opened;
  ((struct unopened *)userdata)->opens++;
  return 0;
}

static int on_unopened_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  (void)server, (void)conn, (void)closed;
  ((struct unopened *)userdata)->closes++;
  return 0;
}

/* Accepts alice, waits until she is in, and takes that back. */
static int accept_and_take_back(void *userdata, wsg_server *server, const wsg_upgrade *upgrade) {
  struct unopened *unopened = userdata;
  wsg_stats stats = {0};
  CHECK(upgrade->adopted == 77);
  unopened->ticket = upgrade->ticket;
  ANSWERS(WSG_OK, wsg_ticket_accept(server, upgrade->ticket, TEXT("alice"), WSG_NEVER));
  while (wsg_server_stats(server, &stats, sizeof stats) == WSG_OK && stats.opened_total < 1) usleep(1000);
  ANSWERS(WSG_OK, wsg_server_disconnect_user(server, TEXT("alice")));
  return 0;
}

static int on_unopened_gone(void *userdata, wsg_server *server, uint64_t ticket) {
  (void)server;
  ((struct unopened *)userdata)->gone = ticket;
  return 0;
}

static int on_unopened_ended(void *userdata, wsg_server *server, const wsg_adoption_ended *ended) {
  struct unopened *unopened = userdata;
  unopened->ended = ended->tag;
  unopened->status = ended->http_status;
  CHECK(ended->verdict == WSG_NO_VERDICT);
  return wsg_server_stop(server);
}

/* Ticket and tag come back all the same: the application keeps something for each. */
static void a_ticket_and_a_tag_come_back_without_an_open(void) {
  static const char head[] = "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example.com\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
  wsg_handlers handlers = {.size = sizeof handlers, .upgrade = accept_and_take_back, .open = on_unopened,
                           .close = on_unopened_close, .upgrade_gone = on_unopened_gone,
                           .adoption_ended = on_unopened_ended};
  wsg_adoption adoption = {.size = sizeof adoption, .received = {head, sizeof head - 1}, .tag = 77};
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  struct unopened unopened = {0};
  uint64_t pipe = 0;
  ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"listen\": \"127.0.0.1:0\", \"origins\": [\"https://app.example.com\"],"
                                             "\"auth\": \"callback\", \"protocol\": \"raw\", \"threads\": 1}"), &options, NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_OK, wsg_server_adopt_pipe(server, &adoption, &pipe, NULL));
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &unopened, NULL));
  CHECK(unopened.opens == 0 && unopened.closes == 0);
  CHECK(unopened.gone == unopened.ticket && unopened.ended == 77 && unopened.status == 101);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

int main(void) {
  ended_by_its_expiry(false);
  ended_by_its_expiry(true);
  disconnected_behind_the_end();
  disconnected_before_the_open_was_taken();
  stopped_in_the_middle_of_a_batch();
  a_ticket_and_a_tag_come_back_without_an_open();
  puts("over: nothing is handled after the end of a session");
  return 0;
}

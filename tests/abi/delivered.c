/* What an application says is delivered, and it hears when. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

struct pressed {
  int client, drained;
  volatile int reads;
  pthread_t reader;
};

static char much[1 << 20];

static void press(wsg_server *server, uint64_t conn) {
  int queued = 0;
  for (int i = 0; i < 24; i++) {
    int sent = wsg_conn_send_binary(server, conn, much, sizeof much);
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
  usleep(100000);
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
  while (wsg_conn_buffered_bytes(server, conn) > 0) usleep(1000); /* this is told by now */
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

static int last_words(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  (void)text, (void)len;
  ANSWERS(WSG_OK, wsg_conn_send_text(server, conn, TEXT("last words")));
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

/* More broadcasts than are carried out: here none is, while the thread holds them back. */
static void broadcast_much(void *userdata) {
  static char kilobyte[1000];
  int ok = 0, queued = 0;
  for (int i = 0; i < 20; i++) {
    wsg_status status = wsg_server_broadcast_all_binary(userdata, kilobyte, sizeof kilobyte, NULL, 0);
    CHECK(status == WSG_OK || status == WSG_QUEUED);
    *(status == WSG_OK ? &ok : &queued) += 1;
  }
  CHECK(ok == 4 && queued == 16);
  CHECK(wsg_server_broadcast_all_text(userdata, TEXT("x"), NULL, 0) == WSG_QUEUED);
}

static void broadcasts_that_pile_up(void) {
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("max_outbox_bytes"), TEXT("4096"), NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_OK, wsg_server_cork(server, broadcast_much, server));
  while (wsg_server_broadcast_text(server, TEXT("nobody's"), TEXT("x"), NULL, 0) == WSG_QUEUED) usleep(1000);
  ANSWERS(WSG_OK, wsg_server_broadcast_all_text(server, TEXT("x"), NULL, 0));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

/* A broadcast leaves out whom it is told to, one or several; the others get it. */
static void to_all_but_some(void) {
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  uint64_t conns[3];
  int peers[3];
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  for (int i = 0; i < 3; i++) {
    wsg_batch *batch;
    const wsg_event *events;
    size_t count;
    CHECK((peers[i] = client_open(wsg_server_address(server).data)) >= 0);
    ANSWERS(WSG_OK, wsg_server_next(server, 5000, &batch));
    ANSWERS(WSG_OK, wsg_batch_events(batch, &events, &count));
    CHECK(count == 1 && events[0].kind == WSG_EVENT_OPEN);
    conns[i] = events[0].conn;
    ANSWERS(WSG_OK, wsg_batch_free(batch));
    ANSWERS(WSG_OK, wsg_conn_join(server, conns[i], TEXT("room")));
  }
  ANSWERS(WSG_OK, wsg_server_broadcast_text(server, TEXT("room"), TEXT("to 2"), conns, 2));
  ANSWERS(WSG_OK, wsg_server_broadcast_all_text(server, TEXT("to 0, 2"), &conns[1], 1));
  ANSWERS(WSG_OK, wsg_server_broadcast_all_text(server, TEXT("to all"), NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast_all_text(server, TEXT("x"), NULL, 1));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_all_text(server, TEXT("x"), (uint64_t *)(void *)((char *)conns + 1), 1));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_all_text(server, TEXT("x"), conns, SIZE_MAX));
  CHECK(client_expect(peers[0], "to 0, 2") == 0 && client_expect(peers[0], "to all") == 0);
  CHECK(client_expect(peers[1], "to all") == 0);
  CHECK(client_expect(peers[2], "to 2") == 0 && client_expect(peers[2], "to 0, 2") == 0);
  CHECK(client_expect(peers[2], "to all") == 0);
  for (int i = 0; i < 3; i++) close(peers[i]);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

int main(void) {
  to_all_but_some();
  broadcasts_that_pile_up();
  /* The server may come to what was said last at any moment while the earlier event is looked at. */
  for (int i = 0; i < 5; i++) drained_speaks_of_what_was_said_last();
  for (int i = 0; i < 10; i++) what_was_said_before_arrives(i % 3);
  puts("delivered: what was said before an end arrives");
  return 0;
}

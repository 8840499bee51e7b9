/* Eight threads call everything at once, with clients, while servers come and go. For AddressSanitizer and ThreadSanitizer. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

enum { THREADS = 8 };

static _Atomic(wsg_server *) current;
static _Atomic(wsg_batch *) batches[4];
static _Atomic uint64_t last_conn;
static atomic_bool over;
static atomic_ulong calls, echoes;

static int echo(void *userdata, uint64_t conn, const wsg_inline_message *message, wsg_replies *replies) {
  wsg_server *server = atomic_load(&current);
  (void)userdata;
  atomic_store(&last_conn, conn);
  if (message->data.len % 2 == 0) {
    wsg_conn_join(server, conn, TEXT("room"));
    return WSG_INLINE_PASS;
  }
  CHECK(wsg_replies_send_text(replies, message->data.data, message->data.len) == WSG_OK);
  return WSG_INLINE_DONE;
}

static void corked(void *server) {
  wsg_conn_send_text(server, atomic_load(&last_conn), TEXT("corked"));
  wsg_server_broadcast_text(server, TEXT("room"), TEXT("corked"), NULL, 0);
}

static wsg_options *reloaded;

static void see_ban(void *userdata, const wsg_ban *ban) { CHECK(userdata != NULL && ban->reason.len == 3); }

static void see_text(void *userdata, const char *text, size_t len) { CHECK(userdata != NULL && text[len - 1] == '\n'); }

static void take(wsg_server *server, unsigned *seed) {
  wsg_batch *batch = NULL;
  const wsg_event *events;
  size_t count, bytes = 0;
  if (wsg_server_next(server, rand_r(seed) % 3, &batch) != WSG_OK) return;
  CHECK(wsg_batch_events(batch, &events, &count) == WSG_OK && count > 0);
  for (size_t i = 0; i < count; i++) {
    if (events[i].kind != WSG_EVENT_TEXT) continue;
    for (size_t at = 0; at < events[i].body.payload.len; at++) bytes += (unsigned char)events[i].body.payload.data[at];
    wsg_conn_send_text(server, events[i].conn, events[i].body.payload.data, events[i].body.payload.len);
  }
  atomic_fetch_add(&calls, bytes != 0);
  atomic_store(&batches[rand_r(seed) % 4], batch); /* for everyone to misuse */
  wsg_batch_free(batch);
}

static void call_something(wsg_server *server, unsigned *seed) {
  uint64_t conn = atomic_load(&last_conn);
  wsg_batch *batch = atomic_load(&batches[rand_r(seed) % 4]);
  wsg_stats stats;
  wsg_error *error = NULL;
  uint64_t count;
  int fd;
  switch (rand_r(seed) % 22) {
    case 0: case 1: case 2: take(server, seed); break;
    case 3: wsg_conn_send_text(server, conn, TEXT("hello")); break;
    case 4: wsg_conn_send_binary(server, conn, TEXT("hello")); break;
    case 5: wsg_conn_emit(server, conn, TEXT("e"), TEXT("1")); break;
    case 6: wsg_conn_reply(server, conn, TEXT("7"), TEXT("e"), TEXT("1")); break;
    case 7: wsg_conn_join(server, conn, TEXT("room")); break;
    case 8: wsg_conn_leave(server, conn, TEXT("room")); break;
    case 9: wsg_server_broadcast_text(server, TEXT("room"), TEXT("all"), &conn, 1); break;
    case 10: wsg_server_cork(server, corked, server); break;
    case 11: wsg_server_stats(server, &stats, sizeof stats); break;
    case 12: wsg_server_verdict_count(server, WSG_VERDICT_DRAINING, &count); break;
    case 13: wsg_server_fd(server, &fd); break;
    case 14: wsg_batch_free(batch); break;
    case 18: wsg_server_reload(server, reloaded, &count, NULL); break;
    case 19: wsg_server_ban_ip(server, TEXT("192.0.2.0/24"), 1 + rand_r(seed) % 9, TEXT("why"), NULL); break;
    case 20: wsg_server_bans(server, see_ban, seed), wsg_server_unban_ip(server, TEXT("192.0.2.0/24")); break;
    case 21: wsg_server_metrics(server, see_text, seed); break;
    case 15: wsg_server_disconnect_user(server, TEXT("nobody")); break;
    case 16: wsg_server_reload_tls(server, &error); wsg_error_free(error); break;
    default:
      if (rand_r(seed) % 4096 == 0) wsg_conn_close(server, conn, 1000, NULL, 0);
      if (rand_r(seed) % 4096 == 0) wsg_conn_fail(server, conn);
  }
}

static void *caller(void *number) {
  unsigned seed = (unsigned)(uintptr_t)number;
  for (; !atomic_load(&over); atomic_fetch_add(&calls, 1)) call_something(atomic_load(&current), &seed);
  return NULL;
}

static void *client(void *address) {
  while (!atomic_load(&over)) {
    int fd = client_open(address);
    for (int i = 0; fd >= 0 && i < 20 && client_send(fd, i % 2 ? "inline" : "inlined") == 0; i++) {
      char any[64];
      if (recv(fd, any, sizeof any, 0) <= 0) break;
      atomic_fetch_add(&echoes, 1);
    }
    if (fd >= 0) close(fd);
    if (wsg_server_address(atomic_load(&current)).len == 0) break;
  }
  return NULL;
}

int main(int argc, char **argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 10, ms = argc > 2 ? atoi(argv[2]) : 300;
  wsg_options *options = open_options(TEXT("raw"));
  reloaded = options;
  wsg_options_set_inline(options, echo, NULL);
  for (int round = 0; round < rounds; round++) {
    wsg_server *server = NULL;
    pthread_t threads[THREADS], clients[2];
    char address[64];
    ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
    snprintf(address, sizeof address, "%s", wsg_server_address(server).data);
    atomic_store(&current, server), atomic_store(&over, false);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, caller, (void *)(i + 1)) == 0);
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&clients[i], NULL, client, address) == 0);
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&pause, NULL);
    /* The server goes while all of them are still calling it. */
    if (round % 3 == 0) wsg_server_stop(server);
    if (round % 3 == 1) wsg_server_drain(server, 50, 20);
    ANSWERS(WSG_OK, wsg_server_free(server));
    atomic_store(&over, true);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) pthread_join(clients[i], NULL);
  }
  ANSWERS(WSG_OK, wsg_options_free(options));
  CHECK(atomic_load(&calls) > 0 && atomic_load(&echoes) > 0);
  printf("threads: %lu calls and %lu messages, no crash\n", atomic_load(&calls), atomic_load(&echoes));
  return 0;
}

/* Hostile arguments, from several threads, seeded and bounded, while honest connections check that every byte they get is
 * their own: whatever is wrong leaves nothing behind. fuzz [SEED] [CALLS] */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "client.h"

enum { HOSTILE = 3, HONEST = 4, VICTIMS = 2, PIPES = 8 };

static wsg_server *served; /* that of the honest */
static _Atomic(wsg_server *) other;
static wsg_server *freed;
static wsg_options *options, *json_options;
static _Atomic uint64_t victims[VICTIMS];
static _Atomic uint64_t honest_conn; /* of `served`; means nothing to `other` */
static _Atomic uint64_t pipes[PIPES];
static atomic_bool over;
static atomic_ulong calls, refused, echoes;
static char *large;
enum { LARGE = 1 << 20 };

struct text {
  const char *data;
  size_t len;
};

static struct text any_text(unsigned *seed) {
  const struct text texts[] = {
      {"x", 1},           {"", 0},          {NULL, 0},        {NULL, 5},          {"\xff", 1},    {"\xed\xa0\x80", 3},
      {"a\0b", 3},        {"x", SIZE_MAX},  {"x", (SIZE_MAX >> 1) + 1},           {large, LARGE}, {large, 257},
      {"victims", 7},     {"{", 1},         {"}{", 2},        {"1,\"event\":1", 11}, {"[[[[[[", 6}, {"\"\\ud800\"", 8},
      {"{\"a\":1}", 7},   {"null", 4},      {"7", 1},         {"\"id\"", 4},      {"\xf4\x90\x80\x80", 4}};
  return texts[rand_r(seed) % (sizeof texts / sizeof *texts)];
}

static wsg_server *any_server(unsigned *seed) {
  wsg_server *servers[] = {served,          served, served, atomic_load(&other), freed, NULL,
                           (wsg_server *)8, (wsg_server *)options, (wsg_server *)(uintptr_t)rand_r(seed)};
  return servers[rand_r(seed) % (sizeof servers / sizeof *servers)];
}

/* No connection of the honest on their own server: what is sent there would be theirs. */
static uint64_t any_conn(unsigned *seed) {
  const uint64_t conns[] = {0, 1, UINT64_MAX, atomic_load(&victims[0]), atomic_load(&victims[1]), (uint64_t)rand_r(seed) << 24};
  return conns[rand_r(seed) % (sizeof conns / sizeof *conns)];
}

static uint64_t any_pipe(unsigned *seed) {
  const uint64_t own = atomic_load(&pipes[rand_r(seed) % PIPES]);
  return rand_r(seed) % 4 ? own : own + 1;
}

static void see_conn(void *userdata, uint64_t conn) { CHECK(userdata != NULL && conn != 0); }

static void see_text(void *userdata, const char *text, size_t len) { CHECK(userdata != NULL && text != NULL && len > 0); }

static void corked(void *seed) {
  struct text text = any_text(seed);
  wsg_conn_send_text(served, any_conn(seed), text.data, text.len);
}

static int call(unsigned *seed) {
  wsg_server *server = any_server(seed);
  uint64_t conn = any_conn(seed), count;
  struct text a = any_text(seed), b = any_text(seed), c = any_text(seed);
  char buffer[64];
  wsg_str part;
  wsg_stats stats;
  wsg_error *error = (wsg_error *)buffer;
  wsg_batch *batch;
  int status;
  size_t len;
  bool flag;
  int64_t number;
  switch (rand_r(seed) % 53) {
    case 0: return wsg_conn_send_text(server, conn, a.data, a.len);
    case 1: return wsg_conn_send_binary(server, conn, a.data, a.len);
    case 2: return wsg_conn_emit(server, conn, a.data, a.len, b.data, b.len);
    case 3: return wsg_conn_reply(server, conn, c.data, c.len, a.data, a.len, b.data, b.len);
    case 4: return wsg_conn_reply_error(server, conn, c.data, c.len, a.data, a.len, b.data, b.len);
    case 5: return wsg_conn_reply_unchecked(server, conn, c.data, c.len, a.data, a.len, b.data, b.len);
    case 6: return wsg_conn_close(server, rand_r(seed) % 64 ? 1 : conn, (uint16_t)rand_r(seed), a.data, a.len);
    case 7: return wsg_conn_fail(server, rand_r(seed) % 64 ? 1 : conn);
    case 8: return wsg_conn_join(server, conn, a.data, a.len);
    case 9: return wsg_conn_leave(server, conn, a.data, a.len);
    case 10: return wsg_server_broadcast(server, a.data, a.len, b.data, b.len, c.data, c.len, &conn, 1);
    case 11: return wsg_server_broadcast_text(server, a.data, a.len, b.data, b.len, &conn, 1);
    case 12: return wsg_server_broadcast_binary(server, a.data, a.len, b.data, b.len, &conn, 1);
    case 13: return wsg_server_disconnect_user(server, a.data, a.len);
    case 14: return wsg_ticket_accept(server, (uint64_t)rand_r(seed) % 8, a.data, a.len, (uint64_t)rand_r(seed) % 3);
    case 15: return wsg_ticket_reject(server, (uint64_t)rand_r(seed) % 8, (uint16_t)rand_r(seed));
    case 16: return wsg_conn_set_data(server, conn, seed);
    case 17: return wsg_conn_data(server, conn) == NULL ? WSG_ERR_CONNECTION_CLOSED : WSG_OK;
    case 18: return wsg_conn_is_open(server, conn) ? WSG_OK : WSG_ERR_CONNECTION_CLOSED;
    case 19: return wsg_server_stats(server, &stats, (size_t)rand_r(seed) % (sizeof stats + 1));
    case 20: return wsg_server_verdict_count(server, (uint32_t)rand_r(seed) % 64, &count);
    case 21: return wsg_server_cork(server, corked, seed);
    case 22: return wsg_server_flush(server);
    case 23: return wsg_server_next(server == served ? server : NULL, 0, &batch); /* busy */
    case 24: status = wsg_options_set(options, a.data, a.len, b.data, b.len, &error); break;
    case 25: status = wsg_options_from_json(a.data, a.len, (wsg_options **)&batch, &error); break;
    case 26: status = wsg_options_add_event((wsg_options *)server, a.data, a.len, b.data, b.len, &error); break;
    case 27: status = wsg_server_run(NULL, (wsg_handlers *)(void *)large, NULL, &error); break;
    case 28: return wsg_json_get(a.data, a.len, b.data, b.len, &part);
    case 29: return wsg_json_string(a.data, a.len, buffer, rand_r(seed) % (sizeof buffer + 1), &len);
    case 30: return wsg_json_integer(a.data, a.len, &number);
    case 31: return wsg_json_quote(a.data, a.len, buffer, rand_r(seed) % (sizeof buffer + 1), &len);
    /* A connection of one server means nothing to another. */
    case 32: return wsg_conn_send_text(freed, atomic_load(&honest_conn), TEXT("not yours"));
    case 33: return rand_r(seed) % 2 ? wsg_server_unban_user(server, a.data, a.len) : wsg_server_unban_ip(server, a.data, a.len);
    case 34: status = wsg_server_ban_user(server, a.data, a.len, (uint64_t)rand_r(seed) % 3, b.data, b.len, &error); break;
    case 35: status = wsg_server_reload(server, (wsg_options *)server, &count, &error); break;
    case 36: status = wsg_ticket_accept_with(server, (uint64_t)rand_r(seed) % 8, &(wsg_accept){.size = sizeof(wsg_accept),
             .user = {a.data, a.len}, .roles = (const wsg_str[]){{b.data, b.len}}, .roles_len = (size_t)rand_r(seed) % 2,
             .expires_at_ms = (uint64_t)rand_r(seed) % 2}, &error); break;
    case 37: return wsg_conn_request(server, conn, a.data, a.len, b.data, b.len, c.data, c.len);
    case 38: return wsg_server_broadcast_rooms_text(server, (const wsg_str[]){{a.data, a.len}, {TEXT("victims")}}, (size_t)rand_r(seed) % 3,
                                                    b.data, b.len, &conn, 1);
    case 39: return wsg_server_broadcast_user_binary(server, a.data, a.len, b.data, b.len, &conn, 1);
    case 40: return wsg_server_room_members(server, a.data, a.len, see_conn, seed);
    case 41: return wsg_conn_ping(server, conn), wsg_conn_rooms(server, conn, see_text, seed);
    case 42: status = wsg_ticket_reject_with(server, (uint64_t)rand_r(seed) % 8, &(wsg_reject){.size = sizeof(wsg_reject),
             .http_status = (uint16_t)rand_r(seed), .headers = (const wsg_field[]){{{a.data, a.len}, {b.data, b.len}}},
             .headers_len = (size_t)rand_r(seed) % 2, .body = {c.data, c.len}}, &error); break;
    case 43: status = wsg_server_adopt_pipe(server, &(wsg_adoption){.size = sizeof(wsg_adoption), .received = {a.data, a.len},
             .peer = {b.data, b.len}, .tag = (uint64_t)rand_r(seed) % 2}, &count, &error);
             if (status == WSG_OK) atomic_store(&pipes[rand_r(seed) % PIPES], count);
             break;
    /* No number of a descriptor that somebody may have. */
    case 44: status = wsg_server_adopt_fd(server, -1 - (int)(rand_r(seed) % 8), &(wsg_adoption){.size = rand_r(seed) % (sizeof(wsg_adoption) + 1)},
             &error); break;
    case 45: return wsg_pipe_push(server, any_pipe(seed), a.data, a.len);
    case 46: return wsg_pipe_take(server, any_pipe(seed), buffer, rand_r(seed) % (sizeof buffer + 1), &len, &flag);
    case 47: return rand_r(seed) % 2 ? wsg_pipe_end(server, any_pipe(seed)) : wsg_pipe_abort(server, any_pipe(seed));
    case 48: return wsg_pipe_free(server, any_pipe(seed));
    case 49: return wsg_conn_send_ping(server, conn, a.data, a.len), wsg_conn_send_pong(server, conn, b.data, b.len);
    case 50: return wsg_conn_send_fragment(server, rand_r(seed) % 64 ? 1 : conn, (uint32_t)rand_r(seed) % 4, rand_r(seed) % 2, a.data, a.len);
    case 51: return wsg_conn_set_auto_pong(server, conn, rand_r(seed)), wsg_server_heed_control(server, rand_r(seed) % 2), wsg_server_heed_closing(server, rand_r(seed) % 2);
    case 52: return wsg_ticket_pass(server, (uint64_t)rand_r(seed) % 8),
                    wsg_conn_written(server, conn) <= wsg_conn_queued(server, conn) ? WSG_OK : WSG_ERR_ARGUMENT;
    default: return wsg_conn_pause(server, 1), wsg_conn_resume(server, conn);
  }
  CHECK((status < 0) == (error != NULL));
  wsg_error_free(error);
  return status;
}

static void *hostile(void *start) {
  unsigned seed = *(unsigned *)start;
  for (unsigned long mine = 0; !atomic_load(&over); mine++) {
    atomic_fetch_add(&refused, call(&seed) < 0);
    atomic_fetch_add(&calls, 1);
    if (mine % 4096 == 4095) {
      /* The other server comes and goes. */
      wsg_server *fresh = NULL;
      if (wsg_server_start(json_options, &fresh, NULL) == WSG_OK) wsg_server_free(atomic_exchange(&other, fresh));
    }
  }
  return NULL;
}

static int on_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  (void)userdata;
  if (len == 7 && memcmp(text, "victim", 6) == 0) {
    atomic_store(&victims[text[6] - '0'], conn);
    return wsg_conn_join(server, conn, TEXT("victims")) < 0;
  }
  atomic_store(&honest_conn, conn);
  return wsg_conn_send_text(server, conn, text, len) < 0;
}

static void *honest(void *number) {
  int fd = client_open(wsg_server_address(served).data);
  CHECK(fd >= 0);
  for (unsigned long i = 0; !atomic_load(&over); i++) {
    char mine[64];
    snprintf(mine, sizeof mine, "%d says %lu %.*s", (int)(uintptr_t)number, i, (int)(i % 30), "..............................");
    CHECK(client_send(fd, mine) == 0 && client_expect(fd, mine) == 0);
    atomic_fetch_add(&echoes, 1);
  }
  close(fd);
  return NULL;
}

/* Takes whatever it gets, is thrown out, and comes again. */
static void *victim(void *number) {
  char name[8] = "victim0", any[4096];
  name[6] = (char)(name[6] + (int)(uintptr_t)number);
  while (!atomic_load(&over)) {
    int fd = client_open(wsg_server_address(served).data);
    if (fd < 0) continue;
    struct timeval patience = {0, 100000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t got = client_send(fd, name);
    while (got >= 0 && !atomic_load(&over) && (got = recv(fd, any, sizeof any, 0)) > 0) {}
    close(fd);
  }
  return NULL;
}

static void *run(void *unused) {
  wsg_handlers handlers = {.size = sizeof handlers, .text = on_text};
  ANSWERS(WSG_OK, wsg_server_run(served, &handlers, NULL, NULL));
  return unused;
}

int main(int argc, char **argv) {
  unsigned seed = argc > 1 ? (unsigned)atoi(argv[1]) : (unsigned)time(NULL), seeds[HOSTILE];
  unsigned long most = argc > 2 ? (unsigned long)atol(argv[2]) : 60000;
  pthread_t runner, threads[HOSTILE + HONEST + VICTIMS];
  wsg_server *first = NULL;
  printf("fuzz: seed %u\n", seed), fflush(stdout);
  large = malloc(LARGE);
  memset(large, 'x', LARGE);
  options = open_options(TEXT("raw")), json_options = open_options(TEXT("json"));
  /* The honest compare every byte: no ping between them, however long this takes. */
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("ping_interval_ms"), TEXT("0"), NULL));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("idle_timeout_ms"), TEXT("0"), NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &freed, NULL));
  ANSWERS(WSG_OK, wsg_server_free(freed));
  ANSWERS(WSG_OK, wsg_server_start(options, &served, NULL));
  ANSWERS(WSG_OK, wsg_server_start(json_options, &first, NULL));
  atomic_store(&other, first);
  int at = 0;
  CHECK(pthread_create(&runner, NULL, run, NULL) == 0);
  for (uintptr_t i = 0; i < HONEST; i++) CHECK(pthread_create(&threads[at++], NULL, honest, (void *)i) == 0);
  /* The runner must have the events before the hostile ask for them. */
  while (atomic_load(&echoes) == 0) usleep(1000);
  for (uintptr_t i = 0; i < VICTIMS; i++) CHECK(pthread_create(&threads[at++], NULL, victim, (void *)i) == 0);
  for (int i = 0; i < HOSTILE; i++) {
    seeds[i] = seed + (unsigned)i;
    CHECK(pthread_create(&threads[at++], NULL, hostile, &seeds[i]) == 0);
  }
  while (atomic_load(&calls) < most || atomic_load(&echoes) < 100) usleep(1000);
  atomic_store(&over, true);
  while (at > 0) pthread_join(threads[--at], NULL);
  ANSWERS(WSG_OK, wsg_server_drain(served, 1000, 0));
  pthread_join(runner, NULL);
  ANSWERS(WSG_OK, wsg_server_free(served));
  ANSWERS(WSG_OK, wsg_server_free(atomic_load(&other)));
  ANSWERS(WSG_OK, wsg_options_free(options));
  ANSWERS(WSG_OK, wsg_options_free(json_options));
  free(large);
  CHECK(atomic_load(&refused) > 0);
  printf("fuzz: %lu calls, %lu refused, %lu echoes, every one its own\n", calls, refused, echoes);
  return 0;
}

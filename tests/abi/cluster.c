/* Two nodes over a real Redis: what is counted on both, what is closed and cleared on both, and how questions end.
 *     cluster PORT_OF_REDIS */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

enum { MANY = 100 };

static const char *redis;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct told {
  wsg_server *server;
  int calls;
  wsg_status status;
  size_t connections;
  uint32_t missing;
};

static void told(void *userdata, wsg_status status, size_t connections, uint32_t missing) {
  struct told *told = userdata;
  wsg_batch *batch;
  /* The server may wait for this thread. */
  ANSWERS(WSG_ERR_REENTRANT, wsg_server_free(told->server));
  const wsg_status next = wsg_server_next(told->server, 0, &batch);
  CHECK(next == WSG_ERR_REENTRANT || next == WSG_ERR_HANDLE);
  pthread_mutex_lock(&mutex);
  told->calls++, told->status = status, told->connections = connections, told->missing = missing;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

static struct told wait_for(struct told *told) {
  pthread_mutex_lock(&mutex);
  while (told->calls == 0) pthread_cond_wait(&changed, &mutex);
  struct told now = *told;
  pthread_mutex_unlock(&mutex);
  CHECK(now.calls == 1);
  return now;
}

static struct told in_lobby(wsg_server *server, uint64_t timeout_ms) {
  static const wsg_str rooms[] = {{TEXT("lobby")}, {TEXT("other")}};
  struct told asked = {.server = server};
  ANSWERS(WSG_OK, wsg_server_rooms_everywhere(server, rooms, 2, NULL, 0, timeout_ms, told, &asked));
  return wait_for(&asked);
}

/* Until the nodes know of each other. */
static void there_are(wsg_server *server, size_t connections) {
  struct told now;
  while ((now = in_lobby(server, 1000)).connections != connections) CHECK(now.status == WSG_OK && now.missing == 0);
}

static wsg_server *node(const char *name) {
  char json[512];
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  int len = snprintf(json, sizeof json,
                     "{\"listen\": \"127.0.0.1:0\", \"threads\": 1, \"origins\": [\"https://app.example.com\"], \"protocol\": \"raw\","
                     "\"auth\": {\"tokens\": [{\"token\": \"alice\", \"user\": \"alice\"}]},"
                     "\"cluster\": {\"url\": \"redis://127.0.0.1:%s\", \"name\": \"%s\"}}", redis, name);
  ANSWERS(WSG_OK, wsg_options_from_json(json, (size_t)len, &options, NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_OK, wsg_options_free(options));
  return server;
}

static int member(wsg_server *server, uint64_t *conn) {
  wsg_batch *batch;
  int peer = client_open_with(wsg_server_address(server).data, "X-Auth-Token: alice\r\n");
  CHECK(peer >= 0);
  *conn = next_of(server, WSG_EVENT_OPEN, &batch)->conn;
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_conn_join(server, *conn, TEXT("lobby")));
  return peer;
}

static void closed(int peer, unsigned code) {
  unsigned char frame[4];
  CHECK(recv(peer, frame, sizeof frame, MSG_WAITALL) == sizeof frame);
  CHECK(frame[0] == 0x88 && (unsigned)(frame[2] << 8 | frame[3]) == code);
  close(peer);
}

static void crosses(void) {
  wsg_server *one = node("crosses"), *two = node("crosses");
  uint64_t conns[2];
  size_t size = 77;
  int peers[2] = {member(one, &conns[0]), member(two, &conns[1])};
  there_are(one, 2), there_are(two, 2);
  struct told user = {.server = one}, all = {.server = two};
  ANSWERS(WSG_OK, wsg_server_user_everywhere(one, TEXT("alice"), &conns[0], 1, 1000, told, &user));
  ANSWERS(WSG_OK, wsg_server_all_everywhere(two, NULL, 0, 1000, told, &all));
  CHECK(wait_for(&user).connections == 1 && wait_for(&all).connections == 2);
  ANSWERS(WSG_OK, wsg_server_room_size(one, TEXT("lobby"), &size));
  CHECK(size == 1);
  ANSWERS(WSG_OK, wsg_server_broadcast_text(one, TEXT("lobby"), TEXT("hello"), NULL, 0));
  CHECK(client_expect(peers[0], "hello") == 0 && client_expect(peers[1], "hello") == 0);
  ANSWERS(WSG_OK, wsg_server_room_clear(one, TEXT("lobby")));
  there_are(one, 0), there_are(two, 0);
  ANSWERS(WSG_OK, wsg_conn_join(two, conns[1], TEXT("lobby")));
  there_are(one, 1);
  ANSWERS(WSG_OK, wsg_server_room_close(one, TEXT("lobby"), 4000, NULL, 0));
  closed(peers[1], 4000);
  ANSWERS(WSG_OK, wsg_server_disconnect_user(two, TEXT("alice")));
  closed(peers[0], 1008);
  ANSWERS(WSG_OK, wsg_server_free(one));
  ANSWERS(WSG_OK, wsg_server_free(two));
}

/* Hears every question of a room, and answers none. */
static int silent(const char *name) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  char said[256];
  int fd = socket(AF_INET, SOCK_STREAM, 0), len = snprintf(said, sizeof said, "SUBSCRIBE wsguard:%s:room:lobby\r\n", name);
  at.sin_port = htons((unsigned short)atoi(redis));
  CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0 && send(fd, said, (size_t)len, MSG_NOSIGNAL) == len);
  CHECK(recv(fd, said, sizeof said, 0) > 0);
  return fd;
}

static void questions_end(bool is_freed) {
  const char *name = is_freed ? "freed" : "stopped";
  static struct told asked[MANY];
  static const wsg_str lobby = {TEXT("lobby")};
  wsg_server *one = node(name), *two = node(name);
  int fd = silent(name);
  memset(asked, 0, sizeof asked);
  while (in_lobby(one, 50).missing == 0) continue;
  CHECK(in_lobby(one, 0).missing == 1);
  for (int i = 0; i < MANY; i++) {
    asked[i].server = one;
    ANSWERS(WSG_OK, wsg_server_rooms_everywhere(one, &lobby, 1, NULL, 0, 60000, told, &asked[i]));
  }
  if (is_freed) {
    ANSWERS(WSG_OK, wsg_server_free(one));
  } else {
    ANSWERS(WSG_OK, wsg_server_stop(one));
  }
  for (int i = 0; i < MANY; i++) CHECK(wait_for(&asked[i]).status == WSG_ERR_STOPPED);
  if (!is_freed) {
    wsg_batch *batch;
    wsg_status status;
    while ((status = wsg_server_next(one, 5000, &batch)) == WSG_OK) ANSWERS(WSG_OK, wsg_batch_free(batch));
    CHECK(status == WSG_STOPPED);
    ANSWERS(WSG_ERR_STOPPED, wsg_server_rooms_everywhere(one, &lobby, 1, NULL, 0, 1000, told, &asked[0]));
    ANSWERS(WSG_OK, wsg_server_free(one));
  }
  ANSWERS(WSG_OK, wsg_server_free(two));
  for (int i = 0; i < MANY; i++) CHECK(asked[i].calls == 1);
  close(fd);
}

static void misuse(void) {
  static const wsg_str none = {TEXT("")}, wrong = {NULL, 4};
  wsg_server *server = node("misuse");
  struct told never = {.server = server};
  ANSWERS(WSG_ERR_NULL, wsg_server_all_everywhere(server, NULL, 0, 1, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_all_everywhere(NULL, NULL, 0, 1, told, &never));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_rooms_everywhere(server, &none, 1, NULL, 0, 1, told, &never));
  ANSWERS(WSG_ERR_NULL, wsg_server_rooms_everywhere(server, &wrong, 1, NULL, 0, 1, told, &never));
  ANSWERS(WSG_ERR_UTF8, wsg_server_user_everywhere(server, TEXT("\xff"), NULL, 0, 1, told, &never));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_all_everywhere(server, NULL, 0, 1, told, &never));
  CHECK(never.calls == 0);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  redis = argv[1];
  crosses();
  questions_end(false);
  questions_end(true);
  misuse();
  puts("cluster: what reaches several nodes, and how questions to them end");
  return 0;
}

/* The C column of tests/faces.toml, by running it. faces.py makes faces.h of the table. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"
#include "faces.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool is(wsg_str text, const char *what) {
  return text.data != NULL && text.len == strlen(what) && memcmp(text.data, what, text.len) == 0;
}

static wsg_server *started(wsg_options *options) {
  wsg_server *server = NULL;
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_OK, wsg_options_free(options));
  return server;
}

static void sends(void) {
  static char large[1 << 16];
  wsg_server *server = started(open_options(TEXT("raw")));
  wsg_batch *batch;
  wsg_status status = WSG_OK;
  int peer = client_open(wsg_server_address(server).data);
  uint64_t conn = next_of(server, WSG_EVENT_OPEN, &batch)->conn;
  while (status == WSG_OK) status = wsg_conn_send_binary(server, conn, large, sizeof large);
  ANSWERS(FACE_send_waits, status);
  ANSWERS(WSG_OK, wsg_conn_close(server, conn, 1000, NULL, 0));
  ANSWERS(FACE_send_to_closed, wsg_conn_send_text(server, conn, TEXT("late")));
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
  close(peer);
}

static void constants(void) {
  CHECK(WSG_DEFAULT_DRAIN_TIMEOUT_MS == FACE_drain_timeout_ms && WSG_DEFAULT_DRAIN_JITTER_MS == FACE_drain_jitter_ms);
}

/* Nothing is written to standard error before the application says where the log goes. */
static void log_goes(void) {
  char path[] = "/tmp/wsguard-faces-XXXXXX";
  int log = mkstemp(path), before = dup(STDERR_FILENO);
  wsg_server *server = started(open_options(TEXT("raw")));
  uint64_t refused = 0;
  CHECK(log >= 0 && before >= 0 && dup2(log, STDERR_FILENO) >= 0);
  CHECK(client_open_at(wsg_server_address(server).data, "/", "https://evil.example.com", "") < 0);
  while (refused == 0) ANSWERS(WSG_OK, wsg_server_verdict_count(server, WSG_VERDICT_ORIGIN_DENIED, &refused));
  ANSWERS(WSG_OK, wsg_server_free(server));
  off_t written = lseek(log, 0, SEEK_END);
  dup2(before, STDERR_FILENO), close(before), close(log), unlink(path);
  CHECK(written == 0 && strcmp(FACE_log_default, "nowhere") == 0);
}

static void auth_is_stated(void) {
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"origins\": [\"https://app.example.com\"], \"listen\": \"127.0.0.1:0\"}"),
                                        &options, NULL));
  CHECK(is(wsg_status_name(wsg_server_start(options, &server, NULL)), FACE_callback_without_auth));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

/* Every verdict has a counter, also those that were never given; and there are no others. */
static void verdict_counters(void) {
  wsg_server *server = started(open_options(TEXT("raw")));
  uint64_t count = 1;
  uint32_t verdicts = 0;
  CHECK(strcmp(FACE_verdict_counters, "all") == 0);
  for (; wsg_verdict_name(verdicts).len > 0; verdicts++, count = 1) {
    ANSWERS(WSG_OK, wsg_server_verdict_count(server, verdicts, &count));
    CHECK(count == 0);
  }
  CHECK(verdicts == WSG_VERDICT_CLUSTER_UNAVAILABLE + 1);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_verdict_count(server, verdicts, &count));
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void *knock(void *target) {
  const char *const *to = target;
  close(client_open_at(to[0], to[1], "https://app.example.com", ""));
  return NULL;
}

static void query(const char *path, const char *wanted) {
  wsg_options *options = open_options(TEXT("raw"));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("auth"), TEXT("\"callback\""), NULL));
  wsg_server *server = started(options);
  const char *target[] = {wsg_server_address(server).data, path};
  pthread_t peer;
  wsg_batch *batch;
  CHECK(pthread_create(&peer, NULL, knock, target) == 0);
  const wsg_upgrade *upgrade = next_of(server, WSG_EVENT_UPGRADE, &batch)->body.upgrade;
  CHECK(wanted == NULL ? upgrade->query.data == NULL : is(upgrade->query, wanted));
  ANSWERS(WSG_OK, wsg_ticket_reject(server, upgrade->ticket, 401));
  pthread_join(peer, NULL);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
}

/* A peer whose close frame has a code and no reason. */
static void close_reason(void) {
  static const char bye[] = "\x88\x82\0\0\0\0\x03\xe8";
  wsg_server *server = started(open_options(TEXT("raw")));
  wsg_batch *batch;
  int peer = client_open(wsg_server_address(server).data);
  CHECK(peer >= 0 && send(peer, bye, sizeof bye - 1, MSG_NOSIGNAL) == sizeof bye - 1);
  const wsg_close *closed = next_of(server, WSG_EVENT_CLOSE, &batch)->body.close;
  CHECK(closed->code == 1000 && is(closed->reason, FACE_close_reason_absent) && closed->verdict == FACE_close_verdict_absent);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
  close(peer);
}

/* The members are these, in this order; what they say before the 101 and after it. */
static void violation_record(void) {
#define OFFSET(member) offsetof(wsg_violation, member),
  static const size_t members[] = {FACE_violation_record(OFFSET)};
  wsg_options *options = open_options(TEXT("json"));
  wsg_batch *batch;
  for (size_t i = 1; i < COUNT(members); i++) CHECK(members[0] == 0 && members[i - 1] < members[i]);
  ANSWERS(WSG_OK, wsg_options_add_event(options, TEXT("say"), TEXT("{\"type\": \"string\"}"), NULL));
  wsg_server *server = started(options);
  const char *address = wsg_server_address(server).data;

  CHECK(client_open_at(address, "/", "https://evil.example.com", "") < 0);
  const wsg_violation *before = next_of(server, WSG_EVENT_VIOLATION, &batch)->body.violation;
  CHECK(before->code == WSG_VERDICT_ORIGIN_DENIED && before->http_status == 403 && before->close_code == 0);
  CHECK(before->conn_id == 0 && is(before->ip, "127.0.0.1") && before->user.data == NULL && before->event.data == NULL);
  CHECK(before->detail.len > 0);
  ANSWERS(WSG_OK, wsg_batch_free(batch));

  int peer = client_open(address);
  CHECK(peer >= 0 && client_send(peer, "{\"event\":\"say\",\"data\":7}") == 0);
  const wsg_event *event = next_of(server, WSG_EVENT_VIOLATION, &batch);
  const wsg_violation *after = event->body.violation;
  CHECK(after->code == WSG_VERDICT_SCHEMA_MISMATCH && after->http_status == 0 && after->close_code == 1008);
  CHECK(after->conn_id == event->conn && event->conn != 0 && is(after->ip, "127.0.0.1") && is(after->event, "say"));
  CHECK(after->detail.len > 0);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
  close(peer);
}

/* The members are these and no others; one of them has counted. */
static void stats(void) {
#define PLACE(member) offsetof(wsg_stats, member),
  static const size_t members[] = {FACE_stats(PLACE)};
  wsg_server *server = started(open_options(TEXT("raw")));
  wsg_stats now;
  wsg_batch *batch;
  CHECK(sizeof now == COUNT(members) * sizeof(uint64_t));
  for (size_t i = 0; i < COUNT(members); i++) CHECK(members[i] == i * sizeof(uint64_t));
  int peer = client_open(wsg_server_address(server).data);
  next_of(server, WSG_EVENT_OPEN, &batch);
  ANSWERS(WSG_OK, wsg_server_stats(server, &now, sizeof now));
  CHECK(now.connections == 1 && now.open == 1 && now.opened_total == 1 && now.messages_in == 0 && now.rooms == 0);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
  close(peer);
}

/* What is told of everybody on all nodes: its members have these names, and there are no others. */
#define MEMBER(name) uint64_t name;
struct everywhere {
  FACE_everywhere(MEMBER)
};

static void told_everywhere(void *userdata, wsg_status status, size_t connections, uint32_t missing) {
  ANSWERS(WSG_OK, status);
  *(struct everywhere *)userdata = (struct everywhere){.connections = connections, .missing = missing};
}

static void everywhere(void) {
  wsg_server *server = started(open_options(TEXT("raw")));
  struct everywhere there = {77, 77};
  wsg_batch *batch;
  CHECK(sizeof there == 2 * sizeof(uint64_t));
  int peer = client_open(wsg_server_address(server).data);
  next_of(server, WSG_EVENT_OPEN, &batch);
  ANSWERS(WSG_OK, wsg_server_all_everywhere(server, NULL, 0, 1000, told_everywhere, &there));
  CHECK(there.connections == 1 && there.missing == 0);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
  close(peer);
}

/* Listens where nobody will; returns the port. */
static int listening(int *fd) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof at;
  *fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(*fd >= 0 && bind(*fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(*fd, 8) == 0);
  CHECK(getsockname(*fd, (struct sockaddr *)&at, &len) == 0);
  return ntohs(at.sin_port);
}

static wsg_options *clustered(int port) {
  char json[128];
  wsg_options *options = open_options(TEXT("raw"));
  int len = snprintf(json, sizeof json, "{\"url\": \"redis://:s3cret@127.0.0.1:%d\", \"on_outage\": \"closed\"}", port);
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("cluster"), json, (size_t)len, NULL));
  return options;
}

static void cluster_outage_verdict(void) {
  int fd, port = listening(&fd);
  uint64_t refused = 0;
  close(fd);
  wsg_server *server = started(clustered(port));
  CHECK(client_open(wsg_server_address(server).data) < 0);
  ANSWERS(WSG_OK, wsg_server_verdict_count(server, FACE_cluster_outage_verdict, &refused));
  CHECK(refused == 1);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

/* Answers as a Redis does to a wrong password. */
static void *refuse(void *listener) {
  static const char wrong[] = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
  char asked[256];
  int peer = accept(*(int *)listener, NULL, NULL);
  CHECK(peer >= 0 && recv(peer, asked, sizeof asked, 0) > 0);
  /* The node may have hung up at the first answer. */
  for (int i = 0; i < 8 && send(peer, wrong, sizeof wrong - 1, MSG_NOSIGNAL) > 0; i++) continue;
  while (recv(peer, asked, sizeof asked, 0) > 0) continue;
  close(peer);
  return NULL;
}

static void cluster_refused(void) {
  int fd, port = listening(&fd);
  pthread_t redis;
  wsg_options *options = clustered(port);
  wsg_server *server = NULL;
  wsg_error *error = NULL;
  CHECK(pthread_create(&redis, NULL, refuse, &fd) == 0);
  CHECK(is(wsg_status_name(wsg_server_start(options, &server, &error)), FACE_cluster_refused));
  CHECK(is(wsg_error_option(error), "cluster.url") && strstr(wsg_error_message(error).data, "s3cret") == NULL);
  pthread_join(redis, NULL);
  close(fd);
  wsg_error_free(error);
  ANSWERS(WSG_OK, wsg_options_free(options));
}

static void reload_of_what_stays(void) {
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL;
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("threads"), TEXT("3"), NULL));
  CHECK(is(wsg_status_name(wsg_server_reload(server, options, NULL, NULL)), FACE_reload_of_what_stays));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

static void message_size(void) {
  static const char said[] = "{\"event\":\"say\",\"data\":\"\xc3\xa9\"}";
  wsg_options *options = open_options(TEXT("json"));
  wsg_batch *batch;
  ANSWERS(WSG_OK, wsg_options_add_event(options, TEXT("say"), NULL, 0, NULL));
  wsg_server *server = started(options);
  int peer = client_open(wsg_server_address(server).data);
  CHECK(peer >= 0 && client_send(peer, said) == 0);
  CHECK(next_of(server, WSG_EVENT_MESSAGE, &batch)->body.message->FACE_message_size == sizeof said - 1);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
  close(peer);
}

int main(void) {
  sends();
  constants();
  log_goes();
  auth_is_stated();
  verdict_counters();
  query("/", FACE_query_absent);
  query("/?", "");
  query("/?a=b", "a=b");
  close_reason();
  violation_record();
  stats();
  everywhere();
  cluster_outage_verdict();
  cluster_refused();
  message_size();
  reload_of_what_stays();
  puts("faces: C does what tests/faces.toml says");
  return 0;
}

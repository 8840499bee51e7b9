/* Connections that another server accepted: the same session over TCP, a socket pair and a pipe; who owns what; consulting. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "client.h"

#define HEAD(origin, more)                                                                              \
  "GET /a?b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: " origin "\r\n" more "\r\n"
#define GOOD HEAD("https://app.example.com", "")
/* Frames of a client, masked with zeroes. */
#define FRAME(first, len, payload) first len "\0\0\0\0" payload
#define HELLO FRAME("\x81", "\x85", "hello")

/* A peer, as a test plays it over one transport. */
struct peer {
  wsg_server *server;
  int fd;          /* -1: a pipe */
  uint64_t pipe;
  uint64_t conn, ticket;
  bool is_ended, has_closed;
  int rooms, drained, fault_value;
  size_t payload_bytes;
  char got[1 << 21];
  size_t got_len;
  char told[8192];
};

static struct peer first, second, third;

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* Notes what was told, in words that are the same on every transport. */
#define TELL(peer, ...)                                                                       \
  do {                                                                                        \
    size_t at_ = strlen((peer)->told);                                                        \
    CHECK((size_t)snprintf((peer)->told + at_, sizeof(peer)->told - at_, __VA_ARGS__) <       \
          sizeof(peer)->told - at_);                                                          \
  } while (0)

#define OF(text) (int)(text).len, (text).data ? (text).data : "-"

static void take(struct peer *peer) {
  char buffer[1000];
  size_t len;
  bool is_ended;
  for (;;) {
    int status = wsg_pipe_take(peer->server, peer->pipe, buffer, sizeof buffer, &len, &is_ended);
    CHECK(status == (len ? WSG_OK : WSG_NOTHING) && peer->got_len + len <= sizeof peer->got);
    memcpy(peer->got + peer->got_len, buffer, len);
    peer->got_len += len;
    peer->is_ended |= is_ended;
    if (len < sizeof buffer) return;
  }
}

static void note(struct peer *peer, const wsg_event *event) {
  const wsg_str payload = event->body.payload;
  switch (event->kind) {
    case WSG_EVENT_UPGRADE:
      peer->ticket = event->body.upgrade->ticket;
      break;
    case WSG_EVENT_OPEN:
      peer->conn = event->conn;
      CHECK(event->body.open->reported == (strstr(peer->told, ", reported") != NULL));
      TELL(peer, "open %.*s %lu\n", OF(event->body.open->path), (unsigned long)event->body.open->adopted);
      break;
    case WSG_EVENT_TEXT:
      TELL(peer, "text %.*s\n", OF(payload));
      /* Queued where the answer before it is in the pipe still, untaken. */
      CHECK(wsg_conn_send_text(peer->server, event->conn, payload.data, payload.len) >= WSG_OK);
      break;
    case WSG_EVENT_BINARY:
      peer->payload_bytes += payload.len;
      break;
    case WSG_EVENT_PING_FRAME:
      TELL(peer, "ping %.*s\n", OF(payload));
      break;
    case WSG_EVENT_PONG_FRAME:
      TELL(peer, "pong %.*s\n", OF(payload));
      break;
    case WSG_EVENT_CLOSE: {
      const wsg_close *close = event->body.close;
      TELL(peer, "close %d %.*s clean %d, peer %d %.*s, fault %s\n", close->code, OF(close->reason), close->clean,
           close->peer_code, OF(close->peer_reason), wsg_fault_name(close->fault).data);
      peer->fault_value = close->fault_value;
      peer->has_closed = true;
      break;
    }
    case WSG_EVENT_CLOSING:
      CHECK(event->conn == peer->conn && !peer->has_closed);
      TELL(peer, "closing\n");
      break;
    case WSG_EVENT_VIOLATION:
      TELL(peer, "violation %s%s\n", wsg_verdict_name(event->body.violation->code).data,
           event->body.violation->reported ? ", reported" : "");
      break;
    case WSG_EVENT_ADOPTION_ENDED:
      CHECK(event->conn == 0);
      TELL(peer, "ended %lu %s %d\n", (unsigned long)event->body.adoption_ended->tag,
           wsg_verdict_name(event->body.adoption_ended->verdict).data, event->body.adoption_ended->http_status);
      break;
    case WSG_EVENT_PIPE_READY:
      CHECK(event->body.pipe->id == peer->pipe && event->conn == 0);
      take(peer);
      break;
    case WSG_EVENT_PIPE_ROOM:
      CHECK(event->body.pipe->id == peer->pipe);
      peer->rooms++;
      break;
    case WSG_EVENT_DRAINED:
      peer->drained++;
      break;
    default:
      break;
  }
}

/* Handles what the server tells, and receives what comes for the peer. */
static void pump(struct peer *peer) {
  const wsg_event *events;
  size_t count;
  wsg_batch *batch;
  int status = wsg_server_next(peer->server, 10, &batch);
  CHECK(status == WSG_OK || status == WSG_NOTHING);
  if (status == WSG_OK) {
    ANSWERS(WSG_OK, wsg_batch_events(batch, &events, &count));
    for (size_t i = 0; i < count; i++)
      if (!wsg_event_is_stale(peer->server, &events[i])) note(peer, &events[i]);
    ANSWERS(WSG_OK, wsg_batch_free(batch));
  }
  if (peer->fd < 0 || peer->is_ended) return;
  ssize_t got = recv(peer->fd, peer->got + peer->got_len, sizeof peer->got - peer->got_len, MSG_DONTWAIT);
  if (got > 0) peer->got_len += (size_t)got;
  if (got == 0) peer->is_ended = true;
}

#define UNTIL(peer, condition)                                                                               \
  for (double end_ = now() + 20; !(condition); pump(peer))                                                   \
  if (now() > end_) {                                                                                        \
    fprintf(stderr, "%s:%d: never: %s\ntold:\n%s", __FILE__, __LINE__, #condition, (peer)->told);             \
    exit(1);                                                                                                 \
  }

static bool told(const struct peer *peer, const char *what) { return strstr(peer->told, what) != NULL; }

static bool got(const struct peer *peer, const char *bytes, size_t len) {
  return memmem(peer->got, peer->got_len, bytes, len) != NULL;
}

static void says(struct peer *peer, const char *bytes, size_t len) {
  if (peer->fd < 0)
    ANSWERS(WSG_OK, wsg_pipe_push(peer->server, peer->pipe, bytes, len));
  else
    CHECK(send(peer->fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len);
}

static wsg_server *started(const char *more, uint32_t start) {
  static char json[1024];
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  wsg_error *error = NULL;
  int len = snprintf(json, sizeof json,
                     "{\"listen\": \"127.0.0.1:0\", \"threads\": 2, \"handshakes_per_ip\": null, \"rate_limit\": null,"
                     "\"protocol\": \"raw\", \"origins\": [\"https://app.example.com\"]%s}", more);
  if (wsg_options_from_json(json, (size_t)len, &options, &error) < 0) {
    fprintf(stderr, "%s\n", wsg_error_message(error).data);
    exit(1);
  }
  ANSWERS(WSG_OK, wsg_options_set_start(options, start));
  if (wsg_server_start(options, &server, &error) < 0) {
    fprintf(stderr, "%s\n", wsg_error_message(error).data);
    exit(1);
  }
  ANSWERS(WSG_OK, wsg_options_free(options));
  ANSWERS(WSG_OK, wsg_server_heed_control(server, 1));
  return server;
}

static wsg_adoption adoption(const char *received, size_t len, uint64_t tag) {
  wsg_adoption adoption;
  memset(&adoption, 0, sizeof adoption);
  adoption.size = sizeof adoption;
  adoption.received.data = received;
  adoption.received.len = len;
  adoption.tag = tag;
  return adoption;
}

static void by_pipe(struct peer *peer, wsg_server *server, wsg_adoption adoption) {
  memset(peer, 0, sizeof *peer);
  peer->server = server;
  peer->fd = -1;
  ANSWERS(WSG_OK, wsg_server_adopt_pipe(server, &adoption, &peer->pipe, NULL));
  CHECK(peer->pipe != 0);
}

/* Two ends of a TCP connection. */
static void tcp_pair(int ends[2]) {
  struct sockaddr_in at;
  socklen_t len = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  memset(&at, 0, sizeof at);
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(listener, 1) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
  ends[0] = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(ends[0], (struct sockaddr *)&at, sizeof at) == 0);
  ends[1] = accept(listener, NULL, NULL);
  CHECK(ends[1] >= 0 && close(listener) == 0);
}

static void by_fd(struct peer *peer, wsg_server *server, bool is_tcp, wsg_adoption adoption) {
  int ends[2];
  memset(peer, 0, sizeof *peer);
  if (is_tcp)
    tcp_pair(ends);
  else
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  peer->server = server;
  peer->fd = ends[0];
  ANSWERS(WSG_OK, wsg_server_adopt_fd(server, ends[1], &adoption, NULL));
  CHECK(fcntl(ends[1], F_GETFD) == -1 && errno == EBADF);
}

/* A session, from what came behind the head to both close frames. */
static void session(struct peer *peer) {
  static const char text[] = "\x81\x05hello";
  wsg_server *server = peer->server;
  UNTIL(peer, told(peer, "open /a 77\n") && got(peer, text, 7));
  says(peer, FRAME("\x89", "\x81", "p"), 7);
  UNTIL(peer, told(peer, "ping p\n") && got(peer, "\x8a\x01p", 3));
  CHECK(wsg_conn_send_ping(server, peer->conn, "q", 1) >= 0);
  UNTIL(peer, got(peer, "\x89\x01q", 3));
  says(peer, FRAME("\x8a", "\x81", "q"), 7);
  UNTIL(peer, told(peer, "pong q\n"));
  ANSWERS(WSG_OK, wsg_conn_set_auto_pong(server, peer->conn, 0));
  CHECK(wsg_conn_send_ping(server, peer->conn, "s", 1) >= 0);
  UNTIL(peer, got(peer, "\x89\x01s", 3));
  says(peer, FRAME("\x89", "\x81", "r"), 7);
  UNTIL(peer, told(peer, "ping r\n"));
  CHECK(wsg_conn_send_pong(server, peer->conn, "R", 1) >= 0);
  UNTIL(peer, got(peer, "\x8a\x01R", 3));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_send_fragment(server, peer->conn, WSG_OPCODE_CONTINUATION, 1, "b", 1));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_send_fragment(server, peer->conn, 8, 1, "b", 1));
  CHECK(wsg_conn_send_fragment(server, peer->conn, WSG_OPCODE_TEXT, 0, "a", 1) >= 0);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_send_fragment(server, peer->conn, WSG_OPCODE_BINARY, 1, "b", 1));
  CHECK(wsg_conn_send_text(server, peer->conn, "whole", 5) >= 0);
  CHECK(wsg_conn_send_fragment(server, peer->conn, WSG_OPCODE_CONTINUATION, 1, "b", 1) >= 0);
  UNTIL(peer, got(peer, "\x01\x01" "a\x80\x01" "b\x81\x05whole", 13));
  uint64_t said = wsg_conn_queued(server, peer->conn);
  CHECK(said >= 7 + 13);
  UNTIL(peer, wsg_conn_written(server, peer->conn) >= said);
  ANSWERS(WSG_OK, wsg_conn_close(server, peer->conn, 4001, TEXT("bye")));
  UNTIL(peer, got(peer, "\x88\x05\x0f\xa1" "bye", 7));
  says(peer, FRAME("\x88", "\x86", "\x0f\xa2" "well"), 12);
  UNTIL(peer, peer->has_closed && peer->is_ended);
  CHECK(told(peer, "close 4001 bye clean 1, peer 4002 well, fault \n"));
  CHECK(wsg_conn_queued(server, peer->conn) == 0 && wsg_conn_written(server, peer->conn) == 0);
}

static void over(struct peer *peer) {
  if (peer->fd >= 0)
    CHECK(close(peer->fd) == 0);
  else
    ANSWERS(WSG_OK, wsg_pipe_free(peer->server, peer->pipe));
}

static void a_session_is_the_same_on_every_transport(void) {
  wsg_server *server = started(", \"auth\": \"none\"", WSG_START_WITHOUT_LISTENER);
  static const char start[] = GOOD HELLO;
  CHECK(wsg_server_address(server).len == 0);
  by_fd(&first, server, true, adoption(start, sizeof start - 1, 77));
  session(&first);
  over(&first);
  by_fd(&second, server, false, adoption(start, sizeof start - 1, 77));
  session(&second);
  over(&second);
  by_pipe(&third, server, adoption(start, sizeof start - 1, 77));
  session(&third);
  over(&third);
  CHECK(first.got_len == second.got_len && memcmp(first.got, second.got, first.got_len) == 0);
  CHECK(first.got_len == third.got_len && memcmp(first.got, third.got, first.got_len) == 0);
  CHECK(strcmp(first.told, second.told) == 0 && strcmp(first.told, third.told) == 0);
  /* Nothing was read of it before. */
  by_fd(&first, server, true, adoption(NULL, 0, 77));
  says(&first, start, sizeof start - 1);
  session(&first);
  over(&first);
  by_pipe(&third, server, adoption(NULL, 0, 77));
  says(&third, start, 30);
  says(&third, start + 30, sizeof start - 31);
  session(&third);
  over(&third);
  CHECK(first.got_len == second.got_len && memcmp(first.got, second.got, first.got_len) == 0);
  CHECK(first.got_len == third.got_len && memcmp(first.got, third.got, first.got_len) == 0);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void ends_are_told(void) {
  static const char bad[] = HEAD("https://evil.example", "");
  wsg_server *server = started(", \"auth\": \"none\"", 0);
  by_pipe(&first, server, adoption(TEXT(GOOD), 1));
  says(&first, "\x81\x01x", 3);
  UNTIL(&first, first.has_closed && first.is_ended);
  CHECK(told(&first, "close 1002 ") && told(&first, "peer 0 , fault expected_mask\n"));
  CHECK(told(&first, "violation bad_frame\n") && first.fault_value == 0);
  over(&first);
  by_pipe(&first, server, adoption(TEXT(GOOD), 1));
  says(&first, FRAME("\x8b", "\x80", ""), 6);
  UNTIL(&first, first.has_closed);
  CHECK(told(&first, "fault invalid_opcode\n") && first.fault_value == 11 && !told(&first, "closing"));
  over(&first);
  ANSWERS(WSG_OK, wsg_server_heed_closing(server, 1));
  by_pipe(&first, server, adoption(TEXT(GOOD), 1));
  UNTIL(&first, told(&first, "open /a 1\n"));
  /* A message of 16 MiB is refused from its header; the peer says goodbye instead of its payload. */
  says(&first, "\x82\xff\0\0\0\0\1\0\0\0", 10);
  UNTIL(&first, told(&first, "violation message_too_big\nclosing\n"));
  CHECK(!first.has_closed);
  says(&first, FRAME("\x88", "\x80", ""), 6);
  UNTIL(&first, told(&first, "closing\nclose 1009 ") && told(&first, "peer 1005 , fault message_too_big\n"));
  ANSWERS(WSG_OK, wsg_server_heed_closing(server, 0));
  over(&first);
  by_pipe(&first, server, adoption(bad, sizeof bad - 1, 2));
  UNTIL(&first, told(&first, "ended 2 origin_denied 403\n") && first.is_ended);
  CHECK(got(&first, TEXT("HTTP/1.1 403 ")) && !told(&first, "open"));
  over(&first);
  by_pipe(&first, server, adoption(NULL, 0, 3));
  ANSWERS(WSG_OK, wsg_pipe_abort(server, first.pipe));
  UNTIL(&first, told(&first, "ended 3  0\n"));
  over(&first);
  by_pipe(&first, server, adoption(NULL, 0, 4));
  over(&first);
  UNTIL(&first, told(&first, "ended 4  0\n"));
  by_fd(&first, server, false, adoption(NULL, 0, 5));
  CHECK(close(first.fd) == 0);
  first.fd = -1;
  UNTIL(&first, told(&first, "ended 5  0\n"));
  /* The peer ends its side without a close frame. */
  by_pipe(&first, server, adoption(TEXT(GOOD), 6));
  UNTIL(&first, told(&first, "open /a 6\n"));
  ANSWERS(WSG_OK, wsg_pipe_end(server, first.pipe));
  ANSWERS(WSG_OK, wsg_pipe_end(server, first.pipe));
  UNTIL(&first, told(&first, "close 1006  clean 0, peer 0 , fault \n") && first.is_ended);
  ANSWERS(WSG_OK, wsg_pipe_push(server, first.pipe, "late", 4));
  over(&first);
  CHECK(wsg_fault_name(0).len == 0 && wsg_fault_name(99).len == 0 && wsg_fault_name(UINT32_MAX).len == 0);
  CHECK(strcmp(wsg_fault_name(WSG_FAULT_TOO_MANY_FRAGMENTS).data, "too_many_fragments") == 0);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void who_is_slow_waits(void) {
  /* A binary message of 60000 bytes, masked with zeroes. */
  static char message[8 + 60000] = {(char)0x82, (char)0xfe, (char)(60000 >> 8), (char)(60000 & 255)};
  static char large[400000];
  wsg_server *server = started(", \"auth\": \"none\", \"max_message_bytes\": 65536, \"max_outbox_bytes\": 1000000", 0);
  by_pipe(&first, server, adoption(TEXT(GOOD), 1));
  UNTIL(&first, first.conn != 0);
  ANSWERS(WSG_OK, wsg_conn_pause(server, first.conn));
  size_t pushed = 0;
  int status = WSG_OK;
  for (; status == WSG_OK; pushed++) {
    CHECK(pushed < 100);
    status = wsg_pipe_push(server, first.pipe, message, sizeof message);
  }
  CHECK(status == WSG_QUEUED);
  ANSWERS(WSG_OK, wsg_conn_resume(server, first.conn));
  UNTIL(&first, first.rooms == 1 && first.payload_bytes == pushed * 60000);
  /* Outward: what nobody takes waits, and is counted. */
  CHECK(wsg_conn_send_binary(server, first.conn, large, sizeof large) == WSG_QUEUED);
  CHECK(wsg_conn_written(server, first.conn) < wsg_conn_queued(server, first.conn));
  CHECK(wsg_conn_buffered_bytes(server, first.conn) > 0);
  size_t before = first.got_len;
  UNTIL(&first, first.got_len == before + 10 + sizeof large && first.drained == 1);
  CHECK(wsg_conn_buffered_bytes(server, first.conn) == 0);
  CHECK(wsg_conn_written(server, first.conn) == wsg_conn_queued(server, first.conn));
  over(&first);
  UNTIL(&first, first.has_closed);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void a_descriptor_is_yours_unless_it_was_taken(void) {
  wsg_server *server = started(", \"auth\": \"none\"", 0);
  wsg_adoption good = adoption(TEXT(GOOD), 1), wrong = good;
  wsg_error *error = NULL;
  int ends[2], plain[2], gone[2], datagram = socket(AF_INET, SOCK_DGRAM, 0), listener = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && pipe(plain) == 0 && listen(listener, 1) == 0);
  int lowest = dup(plain[0]);
  CHECK(lowest >= 0 && close(lowest) == 0);
  wrong.peer.data = "nonsense";
  wrong.peer.len = 8;
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_adopt_fd(server, ends[1], &wrong, &error));
  CHECK(strstr(wsg_error_message(error).data, "adoption.peer must be an address and a port") != NULL);
  CHECK(strstr(wsg_error_message(error).data, "nonsense") == NULL);
  ANSWERS(WSG_OK, wsg_error_free(error));
  wrong = good;
  wrong.size = 0;
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_adopt_fd(server, ends[1], &wrong, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_adopt_fd(server, ends[1], NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_adopt_fd(NULL, ends[1], &good, NULL));
  /* Plain text on a public address, which the policy does not allow. */
  wrong = good;
  wrong.local.data = "203.0.113.7:80";
  wrong.local.len = 14;
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_adopt_fd(server, ends[1], &wrong, &error));
  CHECK(strstr(wsg_error_message(error).data, "plain text") != NULL);
  ANSWERS(WSG_OK, wsg_error_free(error));
  for (int i = 0; i < 5; i++) {
    int others[5] = {-1, 1 << 20, plain[0], datagram, INT32_MIN};
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_adopt_fd(server, others[i], &good, NULL));
  }
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_server_adopt_fd(server, listener, &good, NULL));
  /* The peer has reset the connection. */
  struct linger reset = {1, 0};
  tcp_pair(gone);
  CHECK(setsockopt(gone[0], SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0 && close(gone[0]) == 0);
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_server_adopt_fd(server, gone[1], &good, NULL));
  CHECK(close(gone[1]) == 0);
  CHECK(dup(plain[0]) == lowest && close(lowest) == 0); /* no descriptor was left behind */
  CHECK(fcntl(plain[0], F_GETFD) >= 0 && fcntl(datagram, F_GETFD) >= 0 && fcntl(listener, F_GETFD) >= 0);
  /* It is as it was: it still blocks, and it can be taken. */
  CHECK((fcntl(ends[1], F_GETFL) & O_NONBLOCK) == 0 && fcntl(ends[1], F_GETFD) == 0);
  int kept = dup(ends[1]);
  wrong.is_secure = 1;
  wrong.peer.data = "[2001:db8::7]:4711";
  wrong.peer.len = 18;
  ANSWERS(WSG_OK, wsg_server_adopt_fd(server, ends[1], &wrong, NULL));
  CHECK(fcntl(ends[1], F_GETFD) == -1 && close(kept) == 0);
  wsg_batch *batch;
  const wsg_open *open = next_of(server, WSG_EVENT_OPEN, &batch)->body.open;
  CHECK(strncmp(open->peer.data, "[2001:db8::7]:4711", open->peer.len) == 0 && open->adopted == 1);
  CHECK(open->local.len == 14 && memcmp(open->local.data, "203.0.113.7:80", 14) == 0);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_adopt_fd(server, ends[0], &good, NULL));
  CHECK(close(ends[0]) == 0 && close(plain[0]) == 0 && close(plain[1]) == 0 && close(datagram) == 0 && close(listener) == 0);
}

static void a_pipe_that_was_freed_is_none(void) {
  wsg_server *server = started(", \"auth\": \"none\"", 0), *other = started(", \"auth\": \"none\"", 0);
  wsg_adoption good = adoption(TEXT(GOOD), 9);
  uint64_t pipe = 7;
  char buffer[64];
  size_t len = 7;
  bool is_ended = true;
  ANSWERS(WSG_ERR_NULL, wsg_server_adopt_pipe(server, NULL, &pipe, NULL));
  CHECK(pipe == 0);
  ANSWERS(WSG_ERR_NULL, wsg_server_adopt_pipe(server, &good, NULL, NULL));
  ANSWERS(WSG_OK, wsg_server_adopt_pipe(server, &good, &pipe, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_pipe_push(server, pipe, NULL, 1));
  ANSWERS(WSG_OK, wsg_pipe_push(server, pipe, NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_pipe_push(NULL, pipe, "x", 1));
  ANSWERS(WSG_ERR_HANDLE, wsg_pipe_push(other, pipe, "x", 1));
  ANSWERS(WSG_ERR_HANDLE, wsg_pipe_free(other, pipe));
  ANSWERS(WSG_ERR_NULL, wsg_pipe_take(server, pipe, NULL, 1, &len, &is_ended));
  ANSWERS(WSG_ERR_NULL, wsg_pipe_take(server, pipe, buffer, 1, NULL, &is_ended));
  ANSWERS(WSG_ERR_NULL, wsg_pipe_take(server, pipe, buffer, 1, &len, NULL));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_pipe_take(server, pipe, buffer, 0, &len, &is_ended));
  CHECK(len == 7 && is_ended);
  /* The events of a pipe that is freed while they are in a batch are stale. */
  wsg_batch *batch;
  const wsg_event *ready = next_of(server, WSG_EVENT_PIPE_READY, &batch);
  CHECK(ready->body.pipe->id == pipe && ready->body.pipe->tag == 9 && !wsg_event_is_stale(server, ready));
  ANSWERS(WSG_OK, wsg_pipe_take(server, pipe, buffer, 12, &len, &is_ended));
  CHECK(len == 12 && !is_ended && memcmp(buffer, "HTTP/1.1 101", 12) == 0);
  ANSWERS(WSG_OK, wsg_pipe_abort(server, pipe));
  ANSWERS(WSG_OK, wsg_pipe_abort(server, pipe));
  ANSWERS(WSG_NOTHING, wsg_pipe_take(server, pipe, buffer, sizeof buffer, &len, &is_ended));
  CHECK(len == 0 && is_ended);
  ANSWERS(WSG_OK, wsg_pipe_free(server, pipe));
  CHECK(wsg_event_is_stale(server, ready));
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  for (int i = 0; i < 2; i++) {
    ANSWERS(WSG_ERR_HANDLE, wsg_pipe_free(server, pipe));
    ANSWERS(WSG_ERR_HANDLE, wsg_pipe_push(server, pipe, "x", 1));
    ANSWERS(WSG_ERR_HANDLE, wsg_pipe_end(server, pipe));
    ANSWERS(WSG_ERR_HANDLE, wsg_pipe_abort(server, pipe));
    ANSWERS(WSG_ERR_HANDLE, wsg_pipe_take(server, pipe, buffer, sizeof buffer, &len, &is_ended));
  }
  ANSWERS(WSG_ERR_HANDLE, wsg_pipe_push(server, 0, "x", 1));
  ANSWERS(WSG_ERR_HANDLE, wsg_pipe_push(server, UINT64_MAX, "x", 1));
  /* A server takes its pipes with it, whether they were freed or not. */
  ANSWERS(WSG_OK, wsg_server_adopt_pipe(server, &good, &pipe, NULL));
  ANSWERS(WSG_OK, wsg_server_stop(server));
  ANSWERS(WSG_OK, wsg_pipe_push(server, pipe, "x", 1));
  /* What comes while the server stops is taken, and its end told, or refused. */
  uint64_t late = 7;
  good.tag = 10;
  int status = wsg_server_adopt_pipe(server, &good, &late, NULL), ended = 0;
  CHECK(status == WSG_OK ? late != 0 : status == WSG_ERR_STOPPED && late == 0);
  while (wsg_server_next(server, 5000, &batch) == WSG_OK) {
    const wsg_event *events;
    size_t count;
    ANSWERS(WSG_OK, wsg_batch_events(batch, &events, &count));
    for (size_t i = 0; i < count; i++)
      ended += events[i].kind == WSG_EVENT_ADOPTION_ENDED && events[i].body.adoption_ended->tag == 10;
    ANSWERS(WSG_OK, wsg_batch_free(batch));
  }
  CHECK(ended == (status == WSG_OK));
  late = 7;
  ANSWERS(WSG_ERR_STOPPED, wsg_server_adopt_pipe(server, &good, &late, NULL));
  CHECK(late == 0);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_pipe_push(server, pipe, "x", 1));
  ANSWERS(WSG_ERR_HANDLE, wsg_pipe_free(server, pipe));
  ANSWERS(WSG_OK, wsg_server_free(other));
}

static bool is(wsg_str text, const char *what) {
  return text.data != NULL && text.len == strlen(what) && memcmp(text.data, what, text.len) == 0;
}

#define TOKENS ", \"auth\": {\"tokens\": [{\"token\": \"good\", \"user\": \"alice\", \"roles\": [\"reader\"]}]}"

static void consulted_of_everyone(void) {
  static const char head[] = HEAD("https://app.example.com", "X-Auth-Token: good\r\nX-OdD: caf\xe9\r\n"
                                  "Sec-WebSocket-Protocol: one, two\r\n");
  static const wsg_field cookie = {{TEXT("Set-Cookie")}, {TEXT("a=b")}};
  wsg_server *server = started(TOKENS, WSG_START_CONSULT | WSG_START_CONSULT_WITHOUT_DEADLINE);
  wsg_batch *batch;
  wsg_accept accept;
  wsg_error *error = NULL;
  by_pipe(&first, server, adoption(head, sizeof head - 1, 5));
  const wsg_upgrade *upgrade = next_of(server, WSG_EVENT_UPGRADE, &batch)->body.upgrade;
  uint64_t ticket = upgrade->ticket;
  CHECK(upgrade->adopted == 5 && upgrade->identity != NULL && is(upgrade->identity->user, "alice"));
  CHECK(upgrade->identity->roles_len == 1 && is(upgrade->identity->roles[0], "reader"));
  CHECK(upgrade->identity->expires_at_ms == WSG_NEVER && upgrade->identity->claims.data == NULL);
  CHECK(upgrade->local.data == NULL && upgrade->raw_headers_len == upgrade->headers_len);
  bool is_raw = false;
  for (size_t i = 0; i < upgrade->raw_headers_len; i++)
    is_raw |= is(upgrade->raw_headers[i].name, "X-OdD") && is(upgrade->raw_headers[i].value, "caf\xe9");
  CHECK(is_raw && is(upgrade->raw_headers[0].name, "Host"));
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  /* Who it is is said already. */
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept(server, ticket, TEXT("bob"), WSG_NEVER));
  memset(&accept, 0, sizeof accept);
  accept.size = sizeof accept;
  accept.is_pass = 1;
  accept.is_anonymous = 1;
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept_with(server, ticket, &accept, &error));
  CHECK(strstr(wsg_error_message(error).data, "is_pass") != NULL);
  ANSWERS(WSG_OK, wsg_error_free(error));
  accept.is_anonymous = 0;
  accept.subprotocol.data = "two";
  accept.subprotocol.len = 3;
  accept.headers = &cookie;
  accept.headers_len = 1;
  accept.tag = 12;
  ANSWERS(WSG_OK, wsg_ticket_accept_with(server, ticket, &accept, NULL));
  const wsg_open *open = next_of(server, WSG_EVENT_OPEN, &batch)->body.open;
  CHECK(is(open->user, "alice") && is(open->roles[0], "reader") && is(open->subprotocol, "two"));
  CHECK(open->tag == 12 && open->adopted == 5 && open->ticket == ticket);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  UNTIL(&first, (take(&first), got(&first, TEXT("\r\n\r\n"))));
  CHECK(got(&first, TEXT("Set-Cookie: a=b\r\n")) || got(&first, TEXT("set-cookie: a=b\r\n")));
  over(&first);
  /* And by one call; whoever has no token is refused before anybody is asked. */
  by_fd(&first, server, true, adoption(head, sizeof head - 1, 6));
  UNTIL(&first, first.ticket != 0);
  ANSWERS(WSG_OK, wsg_ticket_pass(server, first.ticket));
  ANSWERS(WSG_ERR_TICKET_SETTLED, wsg_ticket_pass(server, first.ticket));
  UNTIL(&first, told(&first, "open /a 6\n"));
  over(&first);
  by_pipe(&first, server, adoption(TEXT(GOOD), 7));
  UNTIL(&first, told(&first, "ended 7 auth_failed 401\n"));
  CHECK(first.ticket == 0);
  over(&first);
  wsg_handlers handlers;
  memset(&handlers, 0, sizeof handlers);
  handlers.size = sizeof handlers;
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_run_once(server, 0, &handlers, NULL, &error));
  CHECK(strstr(wsg_error_message(error).data, "handlers.upgrade is missing") != NULL);
  ANSWERS(WSG_OK, wsg_error_free(error));
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void passing_is_for_servers_that_consult(void) {
  wsg_server *server = started(", \"auth\": \"callback\"", 0);
  wsg_options *options;
  wsg_accept accept;
  by_pipe(&first, server, adoption(TEXT(GOOD), 1));
  UNTIL(&first, first.ticket != 0);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_pass(server, first.ticket));
  memset(&accept, 0, sizeof accept);
  accept.size = sizeof accept;
  accept.is_pass = 1;
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept_with(server, first.ticket, &accept, NULL));
  ANSWERS(WSG_OK, wsg_ticket_accept(server, first.ticket, TEXT("bob"), WSG_NEVER));
  UNTIL(&first, told(&first, "open /a 1\n"));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_options_new(&options));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_options_set_start(options, 16));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_options_set_start(options, WSG_START_CONSULT_WITHOUT_DEADLINE));
  ANSWERS(WSG_OK, wsg_options_set_start(options, 0));
  ANSWERS(WSG_OK, wsg_options_free(options));
  ANSWERS(WSG_ERR_HANDLE, wsg_options_set_start(options, 0));
}

static void what_only_reports_says_so(void) {
  static const char bad[] = HEAD("https://evil.example", "");
  wsg_server *server = started(", \"auth\": \"none\", \"on_violation\": \"report\", \"report_handshakes\": true", 0);
  by_pipe(&first, server, adoption(bad, sizeof bad - 1, 1));
  UNTIL(&first, told(&first, "violation origin_denied, reported\n") && told(&first, "open /a 1\n"));
  over(&first);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

/* By handlers. */
struct by_handlers {
  uint64_t pipe;
  int opens, readies, rooms, pings, pongs, ended;
  bool fails;
};

static int on_open(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *open) {
  (void)open;
  ((struct by_handlers *)userdata)->opens++;
  return wsg_conn_send_ping(server, conn, "p", 1) < 0;
}

static int on_ready(void *userdata, wsg_server *server, const wsg_pipe *pipe) {
  struct by_handlers *seen = userdata;
  char buffer[256];
  size_t len;
  bool is_ended;
  CHECK(pipe->id == seen->pipe && pipe->tag == 3);
  seen->readies++;
  while (wsg_pipe_take(server, pipe->id, buffer, sizeof buffer, &len, &is_ended) == WSG_OK)
    /* A ping of the server's is answered with a pong, and one of the peer's own. */
    if (memmem(buffer, len, "\x89\x01p", 3) != NULL)
      ANSWERS(WSG_OK, wsg_pipe_push(server, pipe->id, FRAME("\x8a", "\x81", "p") FRAME("\x89", "\x81", "x"), 14));
  return seen->fails;
}

static int on_room(void *userdata, wsg_server *server, const wsg_pipe *pipe) {
  (void)server, (void)pipe;
  ((struct by_handlers *)userdata)->rooms++;
  return 0;
}

static int on_ended(void *userdata, wsg_server *server, const wsg_adoption_ended *ended) {
  (void)server;
  CHECK(ended->tag == 3 && ended->verdict == WSG_VERDICT_ORIGIN_DENIED && ended->http_status == 403);
  ((struct by_handlers *)userdata)->ended++;
  return 0;
}

static int on_ping(void *userdata, wsg_server *server, uint64_t conn, const char *payload, size_t len) {
  CHECK(len == 1 && payload[0] == 'x');
  ((struct by_handlers *)userdata)->pings++;
  return wsg_conn_close(server, conn, 1000, TEXT("")) < 0;
}

static int on_pong(void *userdata, wsg_server *server, uint64_t conn, const char *payload, size_t len) {
  (void)server, (void)conn;
  CHECK(len == 1 && payload[0] == 'p');
  ((struct by_handlers *)userdata)->pongs++;
  return 0;
}

static int on_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *close) {
  (void)server, (void)conn;
  CHECK(close->code == (((struct by_handlers *)userdata)->fails ? 1006 : 1000));
  ((struct by_handlers *)userdata)->opens--;
  return 0;
}

static void handlers_hear_of_pipes(void) {
  static const char bad[] = HEAD("https://evil.example", "");
  static struct by_handlers seen;
  wsg_adoption good = adoption(TEXT(GOOD), 3), refused = adoption(bad, sizeof bad - 1, 3);
  wsg_server *server = started(", \"auth\": \"none\"", 0);
  ANSWERS(WSG_OK, wsg_server_heed_control(server, 0));
  wsg_handlers handlers = {.size = sizeof handlers, .open = on_open, .close = on_close, .pipe_ready = on_ready,
                           .pipe_room = on_room, .adoption_ended = on_ended, .ping_frame = on_ping, .pong_frame = on_pong};
#define RUN_UNTIL(condition)                                       \
  for (double end = now() + 20; !(condition);) {                   \
    CHECK(now() < end);                                            \
    CHECK(wsg_server_run_once(server, 10, &handlers, &seen, NULL) >= 0); \
  }
  /* Before the first event of theirs, so that every ping and pong is heard. */
  CHECK(wsg_server_run_once(server, 0, &handlers, &seen, NULL) >= 0);
  ANSWERS(WSG_OK, wsg_server_adopt_pipe(server, &good, &seen.pipe, NULL));
  RUN_UNTIL(seen.pings == 1 && seen.pongs == 1);
  /* The peer does not answer the close frame. */
  ANSWERS(WSG_OK, wsg_pipe_end(server, seen.pipe));
  RUN_UNTIL(seen.opens == 0);
  CHECK(seen.readies > 0);
  ANSWERS(WSG_OK, wsg_pipe_free(server, seen.pipe));
  ANSWERS(WSG_OK, wsg_server_adopt_pipe(server, &refused, &seen.pipe, NULL));
  RUN_UNTIL(seen.ended == 1);
  ANSWERS(WSG_OK, wsg_pipe_free(server, seen.pipe));
  /* A handler that fails breaks its pipe. */
  handlers.ping_frame = NULL;
  seen.fails = true;
  seen.readies = seen.opens = seen.pongs = 0;
  handlers.open = NULL;
  ANSWERS(WSG_OK, wsg_server_adopt_pipe(server, &good, &seen.pipe, NULL));
  RUN_UNTIL(seen.opens == -1);
  ANSWERS(WSG_OK, wsg_pipe_free(server, seen.pipe));
  ANSWERS(WSG_OK, wsg_server_free(server));
}

int main(void) {
  a_session_is_the_same_on_every_transport();
  ends_are_told();
  who_is_slow_waits();
  a_descriptor_is_yours_unless_it_was_taken();
  a_pipe_that_was_freed_is_none();
  consulted_of_everyone();
  passing_is_for_servers_that_consult();
  what_only_reports_says_so();
  handlers_hear_of_pipes();
  puts("adopt: ok");
  return 0;
}

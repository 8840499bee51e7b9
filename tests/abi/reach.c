/* Whom to reach, and what is known of a connection: rooms, users, pings, answers with headers; and every way to get it wrong. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool is(wsg_str text, const char *what) {
  return text.data != NULL && text.len == strlen(what) && memcmp(text.data, what, text.len) == 0;
}

static wsg_server *started(const char *more) {
  static char json[1024];
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  int len = snprintf(json, sizeof json,
                     "{\"listen\": \"127.0.0.1:0\", \"threads\": 2, \"handshakes_per_ip\": null, \"rate_limit\": null,"
                     "\"origins\": [\"https://app.example.com\"]%s}", more);
  ANSWERS(WSG_OK, wsg_options_from_json(json, (size_t)len, &options, NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_OK, wsg_options_free(options));
  return server;
}

struct seen {
  size_t count;
  uint64_t conns[8];
};

static void each_conn(void *userdata, uint64_t conn) {
  struct seen *seen = userdata;
  CHECK(seen->count < COUNT(seen->conns));
  seen->conns[seen->count++] = conn;
}

static bool has(const struct seen *seen, uint64_t conn) {
  for (size_t i = 0; i < seen->count; i++)
    if (seen->conns[i] == conn) return true;
  return false;
}

static void each_room(void *userdata, const char *room, size_t len) {
  CHECK(len == 1 && (room[0] == 'a' || room[0] == 'b'));
  ++*(int *)userdata;
}

static void opened(wsg_server *server, const char *headers, int *peer, uint64_t *conn) {
  wsg_batch *batch;
  *peer = client_open_with(wsg_server_address(server).data, headers);
  CHECK(*peer >= 0);
  *conn = next_of(server, WSG_EVENT_OPEN, &batch)->conn;
  ANSWERS(WSG_OK, wsg_batch_free(batch));
}

static void rooms_and_users(void) {
  static const wsg_str both[] = {{TEXT("a")}, {TEXT("b")}}, wrong[] = {{TEXT("a")}, {NULL, 0}}, empty[] = {{TEXT("")}};
  static const char said[] = "{\"event\":\"e\",\"data\":7,\"status\":\"ok\"}";
  wsg_server *server = started(", \"events\": {\"e\": {}}, \"auth\": {\"tokens\": [{\"token\": \"alice\", \"user\": \"alice\"},"
                               "{\"token\": \"bob\", \"user\": \"bob\"}]}");
  int peers[3], rooms = 0;
  uint64_t conns[3];
  struct seen seen = {0};
  size_t size = 77;
  wsg_batch *batch;
  ANSWERS(WSG_NOTHING, wsg_server_connections(server, each_conn, &seen));
  ANSWERS(WSG_NOTHING, wsg_server_room_members(server, TEXT("a"), each_conn, &seen));
  for (int i = 0; i < 3; i++) opened(server, i < 2 ? "X-Auth-Token: alice\r\n" : "X-Auth-Token: bob\r\n", &peers[i], &conns[i]);
  /* A thread sees its own joins at once. */
  ANSWERS(WSG_OK, wsg_conn_join(server, conns[0], TEXT("a")));
  ANSWERS(WSG_OK, wsg_conn_join(server, conns[0], TEXT("b")));
  ANSWERS(WSG_OK, wsg_conn_join(server, conns[2], TEXT("b")));
  ANSWERS(WSG_OK, wsg_server_room_size(server, TEXT("b"), &size));
  CHECK(size == 2);
  ANSWERS(WSG_OK, wsg_server_room_members(server, TEXT("b"), each_conn, &seen));
  CHECK(seen.count == 2 && has(&seen, conns[0]) && has(&seen, conns[2]));
  ANSWERS(WSG_OK, wsg_conn_rooms(server, conns[0], each_room, &rooms));
  CHECK(rooms == 2);
  ANSWERS(WSG_NOTHING, wsg_conn_rooms(server, conns[1], each_room, &rooms));
  seen.count = 0;
  ANSWERS(WSG_OK, wsg_server_user_connections(server, TEXT("alice"), each_conn, &seen));
  CHECK(seen.count == 2 && has(&seen, conns[0]) && has(&seen, conns[1]));
  seen.count = 0;
  ANSWERS(WSG_OK, wsg_server_connections(server, each_conn, &seen));
  CHECK(seen.count == 3);
  /* Each gets it once, however many rooms it is in; a user on each of its connections, but for the one left out. */
  CHECK(wsg_server_broadcast_rooms(server, both, 2, TEXT("e"), TEXT("7"), NULL, 0) >= 0);
  CHECK(client_expect(peers[0], said) == 0 && client_expect(peers[2], said) == 0);
  CHECK(wsg_server_broadcast_user(server, TEXT("alice"), TEXT("e"), TEXT("7"), &conns[0], 1) >= 0);
  CHECK(client_expect(peers[1], said) == 0);
  CHECK(wsg_conn_request(server, conns[0], TEXT("\"q1\""), TEXT("e"), TEXT("7")) >= 0);
  CHECK(client_expect(peers[0], "{\"event\":\"e\",\"data\":7,\"id\":\"q1\"}") == 0); /* and nothing came before it */
  CHECK(wsg_conn_reply_error(server, conns[1], TEXT("5"), TEXT("e"), TEXT("7")) >= 0);
  CHECK(client_expect(peers[1], "{\"event\":\"e\",\"data\":7,\"status\":\"error\",\"id\":5}") == 0);
  ANSWERS(WSG_OK, wsg_server_room_clear(server, TEXT("a")));
  ANSWERS(WSG_OK, wsg_server_room_size(server, TEXT("a"), &size));
  CHECK(size == 0);

  ANSWERS(WSG_ERR_NULL, wsg_server_room_members(server, NULL, 0, each_conn, &seen));
  ANSWERS(WSG_ERR_NULL, wsg_server_room_members(server, TEXT("a"), NULL, &seen));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_room_members(server, TEXT(""), each_conn, &seen));
  ANSWERS(WSG_ERR_UTF8, wsg_server_room_members(server, TEXT("\xff"), each_conn, &seen));
  ANSWERS(WSG_ERR_NULL, wsg_server_room_size(server, TEXT("a"), NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_room_size(NULL, TEXT("a"), &size));
  ANSWERS(WSG_ERR_NULL, wsg_server_room_clear(server, NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_room_close(server, TEXT("b"), 1005, NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_user_connections(server, NULL, 0, each_conn, &seen));
  ANSWERS(WSG_ERR_NULL, wsg_server_connections(server, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_conn_rooms(server, conns[0], NULL, NULL));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_rooms(server, 1, each_room, &rooms));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast_rooms(server, NULL, 2, TEXT("e"), TEXT("7"), NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast_rooms(server, wrong, 2, TEXT("e"), TEXT("7"), NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_rooms(server, empty, 1, TEXT("e"), TEXT("7"), NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_rooms(server, both, SIZE_MAX, TEXT("e"), TEXT("7"), NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_rooms_text(server, both, 2, TEXT("x"), NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_rooms_binary(server, both, 2, TEXT("x"), NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_user_text(server, TEXT("bob"), TEXT("x"), NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_user_binary(server, TEXT("bob"), TEXT("x"), NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_broadcast_user(server, NULL, 0, TEXT("e"), TEXT("7"), NULL, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_broadcast_user(server, TEXT("bob"), TEXT("e"), TEXT("}{"), NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_conn_request(server, conns[0], NULL, 0, TEXT("e"), TEXT("7")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_request(server, conns[0], TEXT("[1]"), TEXT("e"), TEXT("7")));

  /* Closed is closed, at once. */
  ANSWERS(WSG_OK, wsg_server_room_close(server, TEXT("b"), 4000, TEXT("over")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_emit(server, conns[0], TEXT("e"), TEXT("7")));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_emit(server, conns[2], TEXT("e"), TEXT("7")));
  CHECK(wsg_conn_emit(server, conns[1], TEXT("e"), TEXT("7")) >= 0 && client_expect(peers[1], said) == 0);
  CHECK(client_expect(peers[0], "\x0f\xa0over") == 0);
  close(peers[0]), close(peers[2]);
  const wsg_close *closed = next_of(server, WSG_EVENT_CLOSE, &batch)->body.close;
  CHECK(closed->code == 4000 && closed->verdict == WSG_NO_VERDICT);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_OK, wsg_server_disconnect_user(server, TEXT("alice")));
  do {
    closed = next_of(server, WSG_EVENT_CLOSE, &batch)->body.close;
    CHECK(closed->code == 4000 || closed->verdict == WSG_VERDICT_SESSION_REVOKED);
    uint32_t verdict = closed->verdict;
    ANSWERS(WSG_OK, wsg_batch_free(batch));
    if (verdict == WSG_VERDICT_SESSION_REVOKED) break;
  } while (true);
  close(peers[1]);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_connections(server, each_conn, &seen));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_room_clear(server, TEXT("a")));
}

/* Answers a ping as a client does: with its payload. */
static void answer_ping(int peer) {
  char frame[2 + 125], answer[6 + 125] = {(char)0x8a};
  CHECK(recv(peer, frame, 2, MSG_WAITALL) == 2 && frame[0] == (char)0x89);
  size_t len = (size_t)frame[1];
  CHECK(len <= 125 && recv(peer, frame + 2, len, MSG_WAITALL) == (ssize_t)len);
  answer[1] = (char)(0x80 | len);
  memcpy(answer + 6, frame + 2, len);
  CHECK(send(peer, answer, 6 + len, MSG_NOSIGNAL) == (ssize_t)(6 + len));
}

static void pings(void) {
  wsg_server *server = started(", \"auth\": \"none\", \"protocol\": \"raw\"");
  int peer;
  uint64_t conn;
  wsg_batch *batch;
  opened(server, "", &peer, &conn);
  CHECK(wsg_conn_buffered_bytes(server, 1) == 0 && wsg_conn_buffered_bytes(NULL, conn) == 0);
  CHECK(wsg_conn_ping(server, conn) >= 0);
  answer_ping(peer);
  const wsg_event *pong = next_of(server, WSG_EVENT_PONG, &batch);
  CHECK(pong->conn == conn && pong->body.pong->rtt_us > 0 && pong->body.pong->rtt_us < 5000000);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  wsg_status status = WSG_OK;
  int sent = 0;
  for (; status >= 0; sent++) status = wsg_conn_ping(server, conn);
  ANSWERS(WSG_ERR_ARGUMENT, status);
  CHECK(sent == 17);
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_ping(server, 1));
  ANSWERS(WSG_ERR_NULL, wsg_conn_ping(NULL, conn));
  ANSWERS(WSG_OK, wsg_conn_terminate(server, conn));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_terminate(server, conn));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_send_text(server, conn, TEXT("x")));
  const wsg_close *closed = next_of(server, WSG_EVENT_CLOSE, &batch)->body.close;
  CHECK(closed->code == 1006 && !closed->clean && closed->verdict == WSG_NO_VERDICT);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  CHECK(wsg_conn_buffered_bytes(server, conn) == 0);
  close(peer);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_conn_ping(server, conn));
}

/* Knocks with two subprotocols, and keeps the head of the answer. */
struct knock {
  const char *address;
  char answer[2048];
  bool is_let_in;
};

static void *knock(void *userdata) {
  struct knock *knock = userdata;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(strrchr(knock->address, ':') + 1))};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  char request[512];
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int len = snprintf(request, sizeof request,
                     "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.example.com\r\n"
                     "Sec-WebSocket-Protocol: first, second\r\n\r\n", knock->address);
  CHECK(connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && send(fd, request, (size_t)len, MSG_NOSIGNAL) == len);
  memset(knock->answer, 0, sizeof knock->answer);
  size_t got = 0;
  for (ssize_t more; got + 1 < sizeof knock->answer && strstr(knock->answer, "\r\n\r\n") == NULL; got += (size_t)more)
    if ((more = recv(fd, knock->answer + got, 1, 0)) <= 0) break;
  knock->is_let_in = strncmp(knock->answer, "HTTP/1.1 101", 12) == 0;
  if (!knock->is_let_in) /* the body, until the end */
    for (ssize_t more; got + 1 < sizeof knock->answer; got += (size_t)more)
      if ((more = recv(fd, knock->answer + got, sizeof knock->answer - 1 - got, 0)) <= 0) break;
  close(fd);
  return NULL;
}

static uint64_t ticket_of(wsg_server *server, struct knock *to, pthread_t *peer) {
  wsg_batch *batch;
  CHECK(pthread_create(peer, NULL, knock, to) == 0);
  uint64_t ticket = next_of(server, WSG_EVENT_UPGRADE, &batch)->body.upgrade->ticket;
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  return ticket;
}

static void answers(void) {
  static const wsg_field good[] = {{{TEXT("Set-Cookie")}, {TEXT("sid=1")}}, {{TEXT("X-Reason")}, {TEXT("because")}}};
  static const wsg_field bad[][1] = {
      {{{TEXT("X-A")}, {TEXT("a\r\nX-B: b")}}}, {{{TEXT("Connection")}, {TEXT("close")}}}, {{{TEXT("Sec-WebSocket-Accept")}, {TEXT("x")}}},
      {{{TEXT("Content-Length")}, {TEXT("0")}}}, {{{TEXT("two words")}, {TEXT("x")}}}, {{{TEXT("")}, {TEXT("x")}}}};
  wsg_server *server = started(", \"auth\": \"callback\"");
  struct knock to = {.address = wsg_server_address(server).data};
  pthread_t peer;
  wsg_error *error = NULL;
  wsg_batch *batch;
  wsg_accept accept = {.size = sizeof accept, .user = {TEXT("alice")}, .expires_at_ms = WSG_NEVER,
                       .subprotocol = {TEXT("second")}, .headers = good, .headers_len = 2, .tag = 77};
  uint64_t ticket = ticket_of(server, &to, &peer);
  ANSWERS(WSG_OK, wsg_ticket_accept_with(server, ticket, &accept, &error));
  pthread_join(peer, NULL);
  CHECK(to.is_let_in && strstr(to.answer, "Set-Cookie: sid=1\r\n") != NULL && strstr(to.answer, "X-Reason: because\r\n") != NULL);
  CHECK(strcasestr(to.answer, "sec-websocket-protocol: second\r\n") != NULL);
  const wsg_open *open = next_of(server, WSG_EVENT_OPEN, &batch)->body.open;
  CHECK(open->tag == 77 && open->ticket == ticket && is(open->subprotocol, "second"));
  ANSWERS(WSG_OK, wsg_batch_free(batch));

  wsg_reject reject = {.size = sizeof reject, .http_status = 418, .headers = &good[1], .headers_len = 1, .body = {TEXT("short and stout")}};
  ticket = ticket_of(server, &to, &peer);
  ANSWERS(WSG_ERR_NULL, wsg_ticket_reject_with(server, ticket, NULL, NULL));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_reject_with(server, ticket, &(wsg_reject){.http_status = 418}, NULL));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_reject_with(server, ticket, &(wsg_reject){.size = sizeof reject, .http_status = 200}, &error));
  CHECK(strstr(wsg_error_message(error).data, "300") != NULL);
  ANSWERS(WSG_OK, wsg_error_free(error));
  ANSWERS(WSG_ERR_NULL, wsg_ticket_reject_with(server, ticket, &(wsg_reject){.size = sizeof reject, .http_status = 418, .headers_len = 1}, NULL));
  ANSWERS(WSG_OK, wsg_ticket_reject_with(server, ticket, &reject, &error));
  ANSWERS(WSG_ERR_TICKET_SETTLED, wsg_ticket_reject_with(server, ticket, &reject, NULL));
  pthread_join(peer, NULL);
  CHECK(strncmp(to.answer, "HTTP/1.1 418", 12) == 0 && strstr(to.answer, "X-Reason: because\r\n") != NULL);
  CHECK(strstr(to.answer, "\r\n\r\nshort and stout") != NULL);

  /* A header that would break the response: an error that names it and not its value, 503 to the peer, and the end of the ticket. */
  for (size_t i = 0; i < 2 * COUNT(bad); i++) {
    ticket = ticket_of(server, &to, &peer);
    accept.headers = reject.headers = bad[i / 2], accept.headers_len = reject.headers_len = 1;
    if (i % 2) ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept_with(server, ticket, &accept, &error));
    else ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_reject_with(server, ticket, &reject, &error));
    CHECK(wsg_error_message(error).len > 0 && strstr(wsg_error_message(error).data, "X-B") == NULL);
    ANSWERS(WSG_OK, wsg_error_free(error));
    ANSWERS(WSG_ERR_TICKET_SETTLED, wsg_ticket_reject(server, ticket, 401));
    pthread_join(peer, NULL);
    CHECK(strncmp(to.answer, "HTTP/1.1 503", 12) == 0 && strstr(to.answer, "X-A") == NULL && strstr(to.answer, "X-B") == NULL);
    const wsg_upgrade_gone *gone = next_of(server, WSG_EVENT_UPGRADE_GONE, &batch)->body.upgrade_gone;
    CHECK(gone->ticket == ticket);
    ANSWERS(WSG_OK, wsg_batch_free(batch));
  }
  /* A subprotocol that the client does not offer. */
  ticket = ticket_of(server, &to, &peer);
  accept.headers_len = 0, accept.subprotocol = (wsg_str){TEXT("third")};
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept_with(server, ticket, &accept, &error));
  CHECK(strstr(wsg_error_message(error).data, "subprotocol") != NULL);
  ANSWERS(WSG_OK, wsg_error_free(error));
  pthread_join(peer, NULL);
  CHECK(strncmp(to.answer, "HTTP/1.1 503", 12) == 0);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_ticket_reject_with(server, ticket, &reject, NULL));
}

/* What is known of the handshake when the connection is there. */
static void facts(void) {
  wsg_server *server = started(", \"auth\": \"none\", \"keep_headers\": [\"User-Agent\"], \"keep_cookies\": [\"theme\"],"
                               "\"routes\": {\"/room/{name}\": {}}");
  wsg_batch *batch;
  int peer = client_open_at(wsg_server_address(server).data, "/room/kitchen?a=b&c", "https://app.example.com",
                            "User-Agent: tests\r\nX-Secret: no\r\nCookie: sid=secret; theme=dark\r\n");
  CHECK(peer >= 0);
  struct sockaddr_in own;
  socklen_t own_len = sizeof own;
  char address[64];
  CHECK(getsockname(peer, (struct sockaddr *)&own, &own_len) == 0);
  snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(own.sin_port));
  const wsg_open *open = next_of(server, WSG_EVENT_OPEN, &batch)->body.open;
  CHECK(is(open->query, "a=b&c") && is(open->origin, "https://app.example.com") && is(open->route, "/room/{name}"));
  CHECK(open->params_len == 1 && is(open->params[0].name, "name") && is(open->params[0].value, "kitchen"));
  CHECK(open->headers_len == 1 && is(open->headers[0].name, "user-agent") && is(open->headers[0].value, "tests"));
  CHECK(open->cookies_len == 1 && is(open->cookies[0].name, "theme") && is(open->cookies[0].value, "dark"));
  CHECK(is(open->peer, address) && open->port == ntohs(own.sin_port) && open->tls == NULL && open->claims.data == NULL);
  CHECK(open->opened_at_ms > 1000000000000 && open->log_id.len == 16 && open->tag == 0);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  close(peer);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static int on_upgrade(void *userdata, wsg_server *server, const wsg_upgrade *upgrade) {
  (void)server;
  *(uint64_t *)userdata = upgrade->ticket;
  return 0; /* later, or never */
}

static int on_gone(void *userdata, wsg_server *server, uint64_t ticket) {
  CHECK(ticket == *(uint64_t *)userdata);
  ANSWERS(WSG_ERR_TICKET_SETTLED, wsg_ticket_reject(server, ticket, 401));
  return wsg_server_stop(server);
}

/* Whose time is over is told to who decides about it. */
static void gone(void) {
  wsg_server *server = started(", \"auth\": \"callback\", \"auth_timeout_ms\": 100");
  wsg_handlers handlers = {.size = sizeof handlers, .upgrade = on_upgrade, .upgrade_gone = on_gone};
  struct knock to = {.address = wsg_server_address(server).data};
  uint64_t ticket = 0;
  pthread_t peer;
  CHECK(pthread_create(&peer, NULL, knock, &to) == 0);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &ticket, NULL));
  pthread_join(peer, NULL);
  CHECK(ticket != 0 && !to.is_let_in);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

int main(void) {
  rooms_and_users();
  pings();
  answers();
  facts();
  gone();
  puts("reach: rooms, users, pings and answers are as the header says");
  return 0;
}

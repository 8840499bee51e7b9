/* The policy while the server runs: reload, bans, metrics, routes, roles; and what a program can get wrong with them. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

static bool is(wsg_str text, const char *what) {
  return text.data != NULL && text.len == strlen(what) && memcmp(text.data, what, text.len) == 0;
}

static wsg_options *options_of(const char *more) {
  static char json[1024];
  wsg_options *options = NULL;
  int len = snprintf(json, sizeof json,
                     "{\"listen\": \"127.0.0.1:0\", \"threads\": 1, \"handshakes_per_ip\": null, "
                     "\"origins\": [\"https://app.example.com\"]%s}", more);
  ANSWERS(WSG_OK, wsg_options_from_json(json, (size_t)len, &options, NULL));
  return options;
}

static wsg_server *started(const char *more) {
  wsg_options *options = options_of(more);
  wsg_server *server = NULL;
  wsg_error *error = NULL;
  wsg_status status = wsg_server_start(options, &server, &error);
  if (status != WSG_OK) fprintf(stderr, "%s\n", wsg_error_message(error).data);
  ANSWERS(WSG_OK, status);
  ANSWERS(WSG_OK, wsg_options_free(options));
  return server;
}

static void reloads(wsg_server *server, wsg_status wanted, const char *more, uint64_t wanted_generation, const char *option) {
  wsg_options *options = options_of(more);
  wsg_error *error = (wsg_error *)&error;
  uint64_t generation = 77;
  ANSWERS(wanted, wsg_server_reload(server, options, &generation, &error));
  CHECK(generation == wanted_generation && (error == NULL) == (wanted == WSG_OK));
  if (error != NULL) {
    CHECK(is(wsg_error_option(error), option) && wsg_error_message(error).len > 0);
    ANSWERS(wanted, wsg_error_status(error));
    ANSWERS(WSG_OK, wsg_error_free(error));
  }
  ANSWERS(WSG_OK, wsg_options_free(options));
}

static void reload(void) {
  wsg_server *server = started(", \"auth\": {\"tokens\": [{\"token\": \"the-first-token\", \"user\": \"alice\"}]}");
  const char *address = wsg_server_address(server).data;
  wsg_batch *batch;
  int peer = client_open_with(address, "X-Auth-Token: the-first-token\r\n");
  CHECK(peer >= 0);
  next_of(server, WSG_EVENT_OPEN, &batch);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  /* What is refused changes nothing, and says which option. */
  reloads(server, WSG_ERR_NOT_RELOADABLE, ", \"auth\": \"none\", \"protocol\": \"raw\"", 77, "protocol");
  reloads(server, WSG_ERR_MISSING_OPTION, "", 77, "auth");
  reloads(server, WSG_ERR_INVALID_OPTION, ", \"auth\": \"none\", \"deny_ips\": [\"nowhere\"]", 77, "deny_ips[0]");
  CHECK(client_open_with(address, "") < 0);
  /* The token is gone, and whoever came by it. */
  reloads(server, WSG_OK, ", \"auth\": {\"tokens\": [{\"token\": \"the-second-token\", \"user\": \"alice\"}]}", 2, "");
  const wsg_close *closed = next_of(server, WSG_EVENT_CLOSE, &batch)->body.close;
  CHECK(closed->code == 1008);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  CHECK(client_open_with(address, "X-Auth-Token: the-first-token\r\n") < 0);
  int other = client_open_with(address, "X-Auth-Token: the-second-token\r\n");
  CHECK(other >= 0);
  uint64_t revoked = 0;
  ANSWERS(WSG_OK, wsg_server_verdict_count(server, WSG_VERDICT_SESSION_REVOKED, &revoked));
  CHECK(revoked == 1);
  close(peer), close(other);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void reload_misuse(void) {
  wsg_server *server = started(", \"auth\": \"none\"");
  wsg_options *options = options_of(", \"auth\": \"none\""), *freed = options_of("");
  wsg_error *error = (wsg_error *)&error;
  wsg_batch *batch;
  uint64_t generation = 0;
  ANSWERS(WSG_OK, wsg_options_free(freed));
  ANSWERS(WSG_ERR_NULL, wsg_server_reload(NULL, options, &generation, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_reload(server, NULL, &generation, &error));
  ANSWERS(WSG_ERR_NULL, wsg_error_status(error));
  ANSWERS(WSG_OK, wsg_error_free(error));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_reload(server, freed, &generation, NULL));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_reload((wsg_server *)options, options, &generation, NULL));
  ANSWERS(WSG_OK, wsg_server_reload(server, options, NULL, NULL));
  ANSWERS(WSG_OK, wsg_server_stop(server));
  ANSWERS(WSG_STOPPED, wsg_server_next(server, 5000, &batch));
  ANSWERS(WSG_ERR_STOPPED, wsg_server_reload(server, options, &generation, NULL));
  CHECK(generation == 0);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_reload(server, options, NULL, NULL));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

struct logged {
  wsg_server *_Atomic server;
  atomic_int bans;
};

/* On a thread of its own: it may call whatever it likes, and what it makes the library log is not logged. */
static void in_a_log(void *userdata, const wsg_log_record *record) {
  struct logged *logged = userdata;
  wsg_server *server = atomic_load(&logged->server);
  if (server == NULL || memmem(record->text.data, record->text.len, TEXT("who=somebody")) == NULL) return;
  bool has_field = false;
  for (size_t i = 0; i < record->fields_len; i++)
    has_field |= is(record->fields[i].name, "who") && is(record->fields[i].value, "somebody");
  CHECK(has_field && record->at_unix_us > 1000000000000000 && record->json.data[0] == '{' && record->json.data[record->json.len - 1] == '}');
  wsg_options *options = options_of(", \"auth\": \"none\"");
  ANSWERS(WSG_OK, wsg_server_reload(server, options, NULL, NULL));
  ANSWERS(WSG_OK, wsg_options_free(options));
  atomic_fetch_add(&logged->bans, 1);
}

struct seen_bans {
  wsg_server *server;
  int count, automatic;
};

static void each_ban(void *userdata, const wsg_ban *ban) {
  struct seen_bans *seen = userdata;
  CHECK((ban->ip.data == NULL) != (ban->user.data == NULL) && ban->reason.data != NULL);
  if (is(ban->user, "mallory")) CHECK(ban->ends_at_ms == WSG_NEVER && ban->reason.len == 0);
  else CHECK(is(ban->ip, "203.0.113.0/24") && ban->ends_at_ms > 1000000000000 && is(ban->reason, "scans"));
  seen->count++;
  seen->automatic += ban->is_automatic;
  /* A callback may call what it is called from, and what it speaks of. */
  if (seen->server != NULL) ANSWERS(WSG_OK, wsg_server_unban_user(seen->server, TEXT("nobody-there")) == WSG_NOTHING ? WSG_OK : WSG_ERR_PANIC);
}

static void bans(void) {
  wsg_server *server = started(", \"auth\": {\"tokens\": [{\"token\": \"the-first-token\", \"user\": \"mallory\"}]}");
  const char *address = wsg_server_address(server).data;
  struct seen_bans seen = {.server = server};
  static char long_text[257];
  wsg_error *error = NULL;
  wsg_batch *batch;
  memset(long_text, 'x', sizeof long_text);
  ANSWERS(WSG_NOTHING, wsg_server_bans(server, each_ban, &seen));
  int peer = client_open_with(address, "X-Auth-Token: the-first-token\r\n");
  CHECK(peer >= 0);
  ANSWERS(WSG_OK, wsg_server_ban_ip(server, TEXT("203.0.113.0/24"), 60000, TEXT("scans"), NULL));
  ANSWERS(WSG_OK, wsg_server_ban_user(server, TEXT("mallory"), WSG_NEVER, NULL, 0, &error));
  CHECK(error == NULL && next_of(server, WSG_EVENT_CLOSE, &batch)->body.close->code == 1008);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  CHECK(client_open_with(address, "X-Auth-Token: the-first-token\r\n") < 0);
  ANSWERS(WSG_OK, wsg_server_bans(server, each_ban, &seen));
  CHECK(seen.count == 2 && seen.automatic == 0);
  ANSWERS(WSG_OK, wsg_server_unban_user(server, TEXT("mallory")));
  ANSWERS(WSG_NOTHING, wsg_server_unban_user(server, TEXT("mallory")));
  ANSWERS(WSG_OK, wsg_server_unban_ip(server, TEXT("203.0.113.0/24")));
  ANSWERS(WSG_NOTHING, wsg_server_unban_ip(server, TEXT("203.0.113.0/24")));
  int again = client_open_with(address, "X-Auth-Token: the-first-token\r\n");
  CHECK(again >= 0);

  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_ban_ip(server, TEXT("nowhere"), 1, NULL, 0, &error));
  CHECK(wsg_error_message(error).len > 0);
  ANSWERS(WSG_OK, wsg_error_free(error));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_ban_ip(server, TEXT("192.0.2.1"), 0, NULL, 0, &error));
  CHECK(strstr(wsg_error_message(error).data, "for_ms") != NULL);
  ANSWERS(WSG_OK, wsg_error_free(error));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_ban_ip(server, TEXT("192.0.2.1"), 1, long_text, sizeof long_text, NULL));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_ban_user(server, long_text, sizeof long_text, 1, NULL, 0, NULL));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_ban_user(server, TEXT(""), 1, NULL, 0, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_ban_user(server, NULL, 0, 1, NULL, 0, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_ban_ip(server, NULL, 0, 1, NULL, 0, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_ban_ip(NULL, TEXT("192.0.2.1"), 1, NULL, 0, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_ban_ip(server, TEXT("192.0.2.1"), 1, NULL, 3, NULL));
  ANSWERS(WSG_ERR_UTF8, wsg_server_ban_user(server, TEXT("\xff"), 1, NULL, 0, NULL));
  ANSWERS(WSG_ERR_UTF8, wsg_server_ban_user(server, TEXT("bob"), 1, TEXT("\xff"), NULL));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_unban_ip(server, TEXT("nowhere")));
  ANSWERS(WSG_ERR_NULL, wsg_server_unban_ip(server, NULL, 0));
  ANSWERS(WSG_ERR_NULL, wsg_server_unban_user(NULL, TEXT("bob")));
  ANSWERS(WSG_ERR_NULL, wsg_server_bans(server, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_bans(NULL, each_ban, NULL));
  ANSWERS(WSG_NOTHING, wsg_server_bans(server, each_ban, NULL)); /* none of those came through */
  close(peer), close(again);
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_ban_user(server, TEXT("bob"), 1, NULL, 0, NULL));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_bans(server, each_ban, NULL));
}

static void each_text(void *userdata, const char *text, size_t len) {
  CHECK(len > 6 && memcmp(text + len - 6, "# EOF\n", 6) == 0);
  CHECK(memmem(text, len, TEXT("\nwsguard_policy_generation 1\n")) != NULL);
  ++*(int *)userdata;
}

static void metrics(void) {
  wsg_server *server = started(", \"auth\": \"none\", \"admin_listen\": \"127.0.0.1:0\"");
  wsg_server *without = started(", \"auth\": \"none\"");
  int texts = 0;
  ANSWERS(WSG_OK, wsg_server_metrics(server, each_text, &texts));
  CHECK(texts == 1);
  ANSWERS(WSG_ERR_NULL, wsg_server_metrics(server, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_metrics(NULL, each_text, &texts));
  wsg_str address = wsg_server_admin_address(server);
  CHECK(strncmp(address.data, "127.0.0.1:", 10) == 0 && strcmp(address.data, "127.0.0.1:0") != 0);
  CHECK(wsg_server_admin_address(without).len == 0 && wsg_server_admin_address(NULL).len == 0);
  ANSWERS(WSG_OK, wsg_server_free(without));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_metrics(server, each_text, &texts));
  CHECK(wsg_server_admin_address(server).len == 0 && texts == 1);
}

struct knock {
  const char *address, *target;
  int fd;
};

static void *knock(void *userdata) {
  struct knock *to = userdata;
  to->fd = client_open_at(to->address, to->target, "https://app.example.com", "");
  return NULL;
}

/* The answer to a handshake: every way to get it wrong leaves the ticket open. */
static void accepts(void) {
  wsg_server *server = started(", \"auth\": \"callback\", \"routes\": {\"/room/{name}\": {}}, \"paths\": [\"/\"]");
  struct knock to = {.address = wsg_server_address(server).data, .target = "/room/a%20b"};
  struct {
    wsg_accept known;
    void *unknown;
  } newer = {.known = {.size = sizeof newer, .user = {TEXT("alice")}, .expires_at_ms = WSG_NEVER}, .unknown = &newer};
  static const wsg_str roles[] = {{TEXT("admin")}, {TEXT("editor")}};
  wsg_accept accept = {.size = sizeof accept, .expires_at_ms = WSG_NEVER};
  wsg_error *error = NULL;
  wsg_batch *batch;
  pthread_t peer;
  CHECK(pthread_create(&peer, NULL, knock, &to) == 0);
  uint64_t ticket = next_of(server, WSG_EVENT_UPGRADE, &batch)->body.upgrade->ticket;
  ANSWERS(WSG_OK, wsg_batch_free(batch));
#define REFUSES(status, word)                                                       \
  do {                                                                              \
    ANSWERS(status, wsg_ticket_accept_with(server, ticket, &accept, &error));       \
    if (strstr(wsg_error_message(error).data, word) == NULL) fprintf(stderr, "%s\n", wsg_error_message(error).data); \
    CHECK(strstr(wsg_error_message(error).data, word) != NULL);                     \
    ANSWERS(WSG_OK, wsg_error_free(error));                                         \
  } while (0)
  ANSWERS(WSG_ERR_NULL, wsg_ticket_accept_with(server, ticket, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_ticket_accept_with(NULL, ticket, &accept, NULL));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_ticket_accept_with(server, ticket, &newer.known, NULL));
  REFUSES(WSG_ERR_NULL, "is_anonymous"); /* nobody is let in without a user by mistake */
  accept.user = roles[0], accept.is_anonymous = 1;
  REFUSES(WSG_ERR_ARGUMENT, "is_anonymous");
  accept.user = (wsg_str){TEXT("alice")}, accept.is_anonymous = 0, accept.expires_at_ms = 0;
  REFUSES(WSG_ERR_ARGUMENT, "expires_at_ms");
  accept.expires_at_ms = WSG_NEVER, accept.size = 0;
  REFUSES(WSG_ERR_ARGUMENT, "");
  accept.size = sizeof accept, accept.roles_len = 2;
  REFUSES(WSG_ERR_NULL, "");
  accept.roles = (const wsg_str[]){{TEXT("two words")}, {NULL, 0}};
  REFUSES(WSG_ERR_NULL, "");
  accept.roles_len = 1;
  REFUSES(WSG_ERR_ARGUMENT, "roles");
  accept.roles = (const wsg_str *)((const char *)roles + 1);
  REFUSES(WSG_ERR_ARGUMENT, "");
  accept.roles = roles, accept.roles_len = 2;
  ANSWERS(WSG_OK, wsg_ticket_accept_with(server, ticket, &accept, &error));
  REFUSES(WSG_ERR_TICKET_SETTLED, "");
  pthread_join(peer, NULL);
  CHECK(to.fd >= 0);
  const wsg_open *open = next_of(server, WSG_EVENT_OPEN, &batch)->body.open;
  CHECK(open->ticket == ticket && is(open->user, "alice") && is(open->path, "/room/a%20b"));
  CHECK(open->roles_len == 2 && is(open->roles[0], "admin") && is(open->roles[1], "editor"));
  CHECK(is(open->route, "/room/{name}") && open->params_len == 1);
  CHECK(is(open->params[0].name, "name") && is(open->params[0].value, "a b"));
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  close(to.fd);
  /* A path that is no route has none; a connection without a user has no roles unless they are stated. */
  to.target = "/";
  CHECK(pthread_create(&peer, NULL, knock, &to) == 0);
  ticket = next_of(server, WSG_EVENT_UPGRADE, &batch)->body.upgrade->ticket;
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  accept = (wsg_accept){.size = sizeof accept, .is_anonymous = 1, .expires_at_ms = WSG_NEVER};
  ANSWERS(WSG_OK, wsg_ticket_accept_with(server, ticket, &accept, NULL));
  pthread_join(peer, NULL);
  open = next_of(server, WSG_EVENT_OPEN, &batch)->body.open;
  CHECK(open->user.data == NULL && open->roles_len == 0 && open->route.data == NULL && open->params_len == 0);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  close(to.fd);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void note_conn(void *userdata, uint64_t conn) { *(uint64_t *)userdata = conn; }

/* One server whose routes have both protocols: what is said to a connection is said in its own. */
static void two_protocols(void) {
  wsg_server *server = started(", \"auth\": \"none\", \"events\": {\"e\": {}}, \"paths\": [\"/\"],"
                               "\"routes\": {\"/raw\": {\"protocol\": \"raw\"}}");
  const char *address = wsg_server_address(server).data;
  wsg_batch *batch;
  int raw = client_open_at(address, "/raw", "https://app.example.com", "");
  CHECK(raw >= 0);
  /* Its open was not taken: another thread may know it all the same. */
  uint64_t conn = 0;
  ANSWERS(WSG_OK, wsg_server_connections(server, note_conn, &conn));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_emit(server, conn, TEXT("e"), TEXT("1")));
  CHECK(conn == next_of(server, WSG_EVENT_OPEN, &batch)->conn);
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_emit(server, conn, TEXT("e"), TEXT("1")));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_report_invalid_data(server, conn, TEXT("e")));
  CHECK(wsg_conn_send_text(server, conn, TEXT("raw")) >= 0 && client_expect(raw, "raw") == 0);
  int json = client_open(address);
  CHECK(json >= 0);
  conn = next_of(server, WSG_EVENT_OPEN, &batch)->conn;
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_conn_send_text(server, conn, TEXT("raw")));
  CHECK(wsg_conn_emit(server, conn, TEXT("e"), TEXT("7")) >= 0);
  CHECK(client_expect(json, "{\"event\":\"e\",\"data\":7,\"status\":\"ok\"}") == 0);
  close(raw), close(json);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static int on_message(void *userdata, wsg_server *server, uint64_t conn, const wsg_message *message) {
  ++*(int *)userdata;
  if (*(int *)userdata == 1) {
    wsg_options *options = options_of(", \"auth\": \"none\", \"events\": {\"e\": {}}, \"on_violation\": \"report\"");
    ANSWERS(WSG_OK, wsg_server_reload(server, options, NULL, NULL));
    ANSWERS(WSG_OK, wsg_options_free(options));
    ANSWERS(WSG_OK, wsg_conn_report_invalid_data(server, conn, message->event.data, message->event.len));
    CHECK(wsg_conn_is_open(server, conn)); /* reported by now, not closed */
    return 0;
  }
  return wsg_server_stop(server);
}

/* What a reload has made less strict is so for this face, too: the connection goes on for the application. */
static void reported_not_closed(void) {
  wsg_server *server = started(", \"auth\": \"none\", \"events\": {\"e\": {}}");
  wsg_handlers handlers = {.size = sizeof handlers, .message = on_message};
  int messages = 0, peer = client_open(wsg_server_address(server).data);
  CHECK(peer >= 0 && client_send(peer, "{\"event\":\"e\"}") == 0 && client_send(peer, "{\"event\":\"e\"}") == 0);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &messages, NULL));
  CHECK(messages == 2);
  close(peer);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

/* A reload has made handshakes ask an application that has no answer: refused, not left waiting. */
static void *refused_at_once(void *userdata) {
  wsg_server *server = userdata;
  uint64_t refused = 0;
  CHECK(client_open(wsg_server_address(server).data) < 0);
  ANSWERS(WSG_OK, wsg_server_verdict_count(server, WSG_VERDICT_AUTH_UNAVAILABLE, &refused));
  CHECK(refused == 1);
  ANSWERS(WSG_OK, wsg_server_stop(server));
  return NULL;
}

static int reload_to_callback(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *open) {
  wsg_options *options = options_of(", \"auth\": \"callback\"");
  (void)conn, (void)open;
  ANSWERS(WSG_OK, wsg_server_reload(server, options, NULL, NULL));
  ANSWERS(WSG_OK, wsg_options_free(options));
  CHECK(pthread_create(userdata, NULL, refused_at_once, server) == 0);
  return 0;
}

static void nobody_to_ask(void) {
  wsg_server *server = started(", \"auth\": \"none\"");
  wsg_handlers handlers = {.size = sizeof handlers, .open = reload_to_callback};
  pthread_t thread;
  int peer = client_open(wsg_server_address(server).data);
  CHECK(peer >= 0);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &thread, NULL));
  pthread_join(thread, NULL);
  close(peer);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static int on_upgrade(void *userdata, wsg_server *server, const wsg_upgrade *upgrade) {
  (void)userdata, (void)server, (void)upgrade;
  return 0;
}

static int on_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t text_len) {
  (void)userdata, (void)server, (void)conn, (void)text, (void)text_len;
  return 0;
}

/* Handlers that fit the options of the start do after every reload; those that never fitted are told at the start. */
static void handlers_outlive_reloads(void) {
  static const char *const auths[] = {", \"auth\": \"callback\"", ", \"auth\": \"none\"",
                                      ", \"auth\": {\"tokens\": [{\"token\": \"the-first-token\", \"user\": \"alice\"}]}"};
  for (int first = 0; first < 3; first++) {
    wsg_server *server = started(auths[first]);
    wsg_handlers asked = {.size = sizeof asked, .upgrade = on_upgrade}, unasked = {.size = sizeof unasked};
    wsg_handlers texts = {.size = sizeof texts, .upgrade = first == 0 ? on_upgrade : NULL, .text = on_text};
    wsg_handlers *fits = first == 0 ? &asked : &unasked, *other = first == 0 ? &unasked : &asked;
    CHECK(wsg_server_run_once(server, 0, fits, NULL, NULL) >= 0);
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_run_once(server, 0, other, NULL, NULL));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_run_once(server, 0, &texts, NULL, NULL));
    for (int i = 1; i <= 3; i++) {
      reloads(server, WSG_OK, auths[(first + i) % 3], (uint64_t)i + 1, "");
      CHECK(wsg_server_run_once(server, 0, fits, NULL, NULL) >= 0);
      CHECK(wsg_server_run_once(server, 0, other, NULL, NULL) >= 0);
      CHECK(wsg_server_run_once(server, 0, &texts, NULL, NULL) >= 0);
    }
    ANSWERS(WSG_OK, wsg_server_free(server));
  }
}

struct cut {
  const char *ip, *user;
  int messages, opens, closes;
};

static int cut_message(void *userdata, wsg_server *server, uint64_t conn, const wsg_message *message) {
  struct cut *cut = userdata;
  (void)message;
  cut->messages++;
  if (cut->ip != NULL) ANSWERS(WSG_OK, wsg_server_ban_ip(server, cut->ip, strlen(cut->ip), WSG_NEVER, NULL, 0, NULL));
  if (cut->user != NULL) ANSWERS(WSG_OK, wsg_server_ban_user(server, cut->user, strlen(cut->user), WSG_NEVER, NULL, 0, NULL));
  CHECK(!wsg_conn_is_open(server, conn));
  ANSWERS(WSG_ERR_CONNECTION_CLOSED, wsg_conn_emit(server, conn, TEXT("e"), TEXT("1")));
  return 0;
}

static int cut_open(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *open) {
  (void)server, (void)conn, (void)open;
  ((struct cut *)userdata)->opens++;
  return 0;
}

static int cut_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  (void)server, (void)conn;
  CHECK(closed->code == 1008);
  ((struct cut *)userdata)->closes++;
  return 0;
}

static wsg_stats stats_of(wsg_server *server) {
  wsg_stats stats;
  ANSWERS(WSG_OK, wsg_server_stats(server, &stats, sizeof stats));
  return stats;
}

/* Nothing is handled behind a ban or the end of a credential, whatever was received before. */
static void cut_off(void) {
  static const char with[] = ", \"events\": {\"e\": {}}, \"auth\": {\"tokens\": [{\"token\": \"the-first-token\", \"user\": \"mallory\"}]}";
  static const char without[] = ", \"events\": {\"e\": {}}, \"auth\": {\"tokens\": [{\"token\": \"the-second-token\", \"user\": \"mallory\"}]}";
  static const wsg_handlers handlers = {.size = sizeof handlers, .open = cut_open, .message = cut_message, .close = cut_close};
  /* By a ban of the address, of the user, and by a reload: the last comes before anything is handled. */
  for (int way = 0; way < 3; way++) {
    struct cut cut = {.ip = way == 0 ? "127.0.0.0/8" : NULL, .user = way == 1 ? "mallory" : NULL};
    wsg_server *server = started(with);
    int other = -1, peer = client_open_with(wsg_server_address(server).data, "X-Auth-Token: the-first-token\r\n");
    CHECK(peer >= 0);
    while (cut.opens == 0) CHECK(wsg_server_run_once(server, 5000, &handlers, &cut, NULL) >= 0);
    CHECK(client_send(peer, "{\"event\":\"e\"}") == 0 && client_send(peer, "{\"event\":\"e\"}") == 0);
    while (stats_of(server).messages_in < 2) usleep(1000);
    if (way == 2) {
      reloads(server, WSG_OK, without, 2, "");
      while (stats_of(server).open > 0) usleep(1000);
      /* The one I/O thread lets the next one in: so it has told the close by now. */
      other = client_open_with(wsg_server_address(server).data, "X-Auth-Token: the-second-token\r\n");
      CHECK(other >= 0);
    }
    while (cut.closes == 0) CHECK(wsg_server_run_once(server, 5000, &handlers, &cut, NULL) >= 0);
    CHECK(cut.messages == (way < 2) && cut.closes == 1);
    if (other >= 0) close(other);
    close(peer);
    ANSWERS(WSG_OK, wsg_server_free(server));
  }
  /* Banned when its open waits still: neither it nor its close is told. */
  struct cut cut = {0};
  wsg_server *server = started(with);
  int peer = client_open_with(wsg_server_address(server).data, "X-Auth-Token: the-first-token\r\n");
  CHECK(peer >= 0 && client_send(peer, "{\"event\":\"e\"}") == 0);
  while (stats_of(server).messages_in < 1) usleep(1000);
  ANSWERS(WSG_OK, wsg_server_ban_user(server, TEXT("mallory"), WSG_NEVER, NULL, 0, NULL));
  while (stats_of(server).open > 0) CHECK(wsg_server_run_once(server, 10, &handlers, &cut, NULL) >= 0);
  ANSWERS(WSG_OK, wsg_server_stop(server));
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &cut, NULL));
  CHECK(cut.opens == 0 && cut.messages == 0 && cut.closes == 0);
  close(peer);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

/* From several threads at once: every reload has a number of its own. */
enum { THREADS = 4, RELOADS = 25 };
static bool numbers[THREADS * RELOADS + 2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *reload_often(void *userdata) {
  wsg_server *server = userdata;
  for (int i = 0; i < RELOADS; i++) {
    wsg_options *options = NULL;
    uint64_t generation = 0;
    pthread_mutex_lock(&mutex); /* `options_of` writes where all can see */
    options = options_of(", \"auth\": \"none\"");
    pthread_mutex_unlock(&mutex);
    ANSWERS(WSG_OK, wsg_server_reload(server, options, &generation, NULL));
    ANSWERS(WSG_OK, wsg_options_free(options));
    pthread_mutex_lock(&mutex);
    CHECK(generation >= 2 && generation < sizeof numbers && !numbers[generation]);
    numbers[generation] = true;
    pthread_mutex_unlock(&mutex);
    ANSWERS(WSG_OK, wsg_server_ban_ip(server, TEXT("192.0.2.0/24"), 60000, NULL, 0, NULL));
    CHECK(wsg_server_unban_ip(server, TEXT("192.0.2.0/24")) >= 0);
  }
  return NULL;
}

static void several_threads(void) {
  wsg_server *server = started(", \"auth\": \"none\"");
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, reload_often, server) == 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (int i = 2; i < THREADS * RELOADS + 2; i++) CHECK(numbers[i]);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

int main(void) {
  static struct logged logged;
  ANSWERS(WSG_OK, wsg_log_to_callback(in_a_log, &logged, WSG_LOG_INFO));
  ANSWERS(WSG_ERR_BUSY, wsg_log_to_stderr_json());
  reload();
  reload_misuse();
  bans();
  metrics();
  accepts();
  two_protocols();
  reported_not_closed();
  nobody_to_ask();
  handlers_outlive_reloads();
  cut_off();
  several_threads();
  wsg_server *server = started(", \"auth\": \"none\"");
  atomic_store(&logged.server, server);
  ANSWERS(WSG_OK, wsg_server_ban_user(server, TEXT("somebody"), WSG_NEVER, NULL, 0, NULL)); /* which is logged */
  while (atomic_load(&logged.bans) == 0) usleep(1000);
  atomic_store(&logged.server, NULL);
  ANSWERS(WSG_OK, wsg_server_free(server));
  puts("policy: reloads, bans, metrics and routes are as the header says");
  return 0;
}

/* The C test host: what an application writes, and nothing else. See docs/HOST.md for the contract. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "wsguard.h"

#define TEXT(literal) (literal), sizeof(literal) - 1
#define VIEW(view) (view).data, (view).len

static wsg_server *server;
static bool quiet;
static wsg_str input;           /* the first line */
static atomic_bool drain_asked; /* a drain answers `done` when it is over, just before the program ends */
static wsg_str script;          /* its app.authenticate */
static wsg_handlers handlers;   /* what the application's thread handles */
static sem_t stands_aside, goes_on;

static bool is(wsg_str text, const char *what) { return text.len == strlen(what) && memcmp(text.data, what, text.len) == 0; }

static void drop(wsg_str text) { free((char *)(uintptr_t)text.data); }

static void sleep_ms(unsigned long long ms) {
  struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  while (nanosleep(&left, &left) != 0) {}
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

/* Echoes on the library's own threads; whatever needs the application goes to its thread. */
static int echo_inline(void *userdata, uint64_t conn, const wsg_inline_message *message, wsg_replies *replies) {
  (void)userdata, (void)conn;
  switch (message->kind) {
    case WSG_EVENT_TEXT: wsg_replies_send_text(replies, VIEW(message->data)); return WSG_INLINE_DONE;
    case WSG_EVENT_BINARY: wsg_replies_send_binary(replies, VIEW(message->data)); return WSG_INLINE_DONE;
    default:
      if (!is(message->event, "echo")) return WSG_INLINE_PASS;
      wsg_replies_reply(replies, VIEW(message->id), TEXT("echo"), VIEW(message->data));
      return WSG_INLINE_DONE;
  }
}

static int on_text(void *userdata, wsg_server *s, uint64_t conn, const char *text, size_t len) {
  (void)userdata;
  wsg_conn_send_text(s, conn, text, len);
  return 0;
}

static int on_binary(void *userdata, wsg_server *s, uint64_t conn, const char *payload, size_t len) {
  (void)userdata;
  wsg_conn_send_binary(s, conn, payload, len);
  return 0;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

/* What is known of a connection, as members of a JSON object. */
static void write_open(FILE *out, const wsg_open *open) {
  json_member(out, "ip", open->ip);
  json_member(out, "user", open->user);
  json_member(out, "path", open->path);
  json_member(out, "subprotocol", open->subprotocol);
  fputs(",\"roles\":[", out);
  for (size_t i = 0; i < open->roles_len; i++) {
    if (i > 0) fputc(',', out);
    json_quote(out, open->roles[i]);
  }
  fputc(']', out);
}

/* Keeps it for `whoami`, until the connection closes. */
static int on_open(void *userdata, wsg_server *s, uint64_t conn, const wsg_open *open) {
  char *text = NULL;
  size_t len = 0;
  FILE *out = open_memstream(&text, &len);
  (void)userdata;
  if (out == NULL) return 1;
  write_open(out, open);
  fputc('}', out);
  fclose(out);
  text[0] = '{'; /* in place of the comma */
  if (wsg_conn_set_data(s, conn, text) < 0) free(text);
  return 0;
}

static int on_close(void *userdata, wsg_server *s, uint64_t conn, const wsg_close *closed) {
  (void)userdata, (void)closed;
  free(wsg_conn_data(s, conn));
  return 0;
}

/* Whether the application was wrong. A connection may have closed meanwhile: that is no error of its. */
static bool is_wrong(wsg_status status) { return status < 0 && status != WSG_ERR_CONNECTION_CLOSED; }

/* The application of the `json` protocol. */
static int on_message(void *userdata, wsg_server *s, uint64_t conn, const wsg_message *m) {
  (void)userdata;
  wsg_str room = json_text(m->data, "/room"), reason = json_text(m->data, "/reason");
  int failed = 0;
  if (is(m->event, "echo")) {
    wsg_conn_reply(s, conn, VIEW(m->id), TEXT("echo"), VIEW(m->data));
  } else if (is(m->event, "join")) {
    failed = is_wrong(wsg_conn_join(s, conn, VIEW(room)));
    if (!failed) wsg_conn_reply(s, conn, VIEW(m->id), TEXT("joined"), VIEW(m->data));
  } else if (is(m->event, "leave")) {
    failed = is_wrong(wsg_conn_leave(s, conn, VIEW(room)));
    if (!failed) wsg_conn_reply(s, conn, VIEW(m->id), TEXT("left"), VIEW(m->data));
  } else if (is(m->event, "say")) {
    failed = is_wrong(wsg_server_broadcast(s, VIEW(room), TEXT("said"), VIEW(m->data), NULL, 0));
  } else if (is(m->event, "whoami")) {
    const char *known = wsg_conn_data(s, conn);
    if (known != NULL) wsg_conn_reply(s, conn, VIEW(m->id), TEXT("whoami"), known, strlen(known));
  } else if (is(m->event, "throw")) {
    failed = 1;
  } else if (is(m->event, "block")) {
    sleep_ms(json_number(m->data, "/ms", 0));
    wsg_conn_reply(s, conn, VIEW(m->id), TEXT("unblocked"), VIEW(m->data));
  } else if (is(m->event, "close")) {
    bool is_stated = json_part(m->data, "/code").data != NULL;
    unsigned long long code = json_number(m->data, "/code", is_stated ? UINT64_MAX : 1000);
    failed = code > UINT16_MAX || is_wrong(wsg_conn_close(s, conn, (uint16_t)code, VIEW(reason)));
  }
  drop(room), drop(reason);
  return failed;
}

/* --- authentication ----------------------------------------------------------------------------------------------- */

/* Accepts the user of the script, and with what `more` states beside it. */
static void settle_with(uint64_t ticket, wsg_accept more) {
  wsg_str user = json_text(script, "/user");
  more.size = sizeof more;
  more.user = user, more.is_anonymous = user.data == NULL;
  if (more.expires_at_ms == 0) more.expires_at_ms = WSG_NEVER;
  wsg_error *error = NULL;
  if (wsg_ticket_accept_with(server, ticket, &more, &error) < 0) fprintf(stderr, "not accepted: %s\n", wsg_error_message(error).data);
  wsg_error_free(error);
  drop(user);
}

/* The token of the script: it may say when the session ends. */
static void settle(uint64_t ticket) {
  unsigned long long lifetime = json_number(script, "/expires_in_ms", WSG_NEVER);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t unix_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  settle_with(ticket, (wsg_accept){.expires_at_ms = lifetime == WSG_NEVER ? WSG_NEVER : unix_ms + lifetime});
}

/* The second of the subprotocols that the client offers; `data` is NULL if there is none. */
static wsg_str second_subprotocol(const wsg_upgrade *upgrade) {
  wsg_str offered = wsg_upgrade_header(upgrade, TEXT("sec-websocket-protocol")), second = {NULL, 0};
  const char *comma = offered.data == NULL ? NULL : memchr(offered.data, ',', offered.len);
  if (comma == NULL) return second;
  const char *end = offered.data + offered.len;
  for (comma++; comma < end && *comma == ' ';) comma++;
  second.data = comma;
  while (comma < end && *comma != ',' && *comma != ' ') comma++;
  second.len = (size_t)(comma - second.data);
  return second;
}

static void *settle_later(void *ticket) {
  sleep_ms(json_number(script, "/delay_ms", 0));
  settle((uintptr_t)ticket);
  return NULL;
}

/* The application's authentication, as `app.authenticate` scripts it. */
static int on_upgrade(void *userdata, wsg_server *s, const wsg_upgrade *upgrade) {
  (void)userdata;
  wsg_str token = wsg_upgrade_header(upgrade, TEXT("x-auth-token")), good = json_text(script, "/token");
  bool accepted = good.data != NULL && token.data != NULL && token.len == good.len &&
                  memcmp(token.data, good.data, good.len) == 0;
  drop(good);
  if (is(token, "boom")) return 1;
  if (is(token, "hang")) return 0;
  if (is(token, "admin")) {
    static const wsg_str roles[] = {{TEXT("admin")}};
    wsg_accept root = {.size = sizeof root, .user = {TEXT("root")}, .expires_at_ms = WSG_NEVER, .roles = roles, .roles_len = 1};
    return wsg_ticket_accept_with(s, upgrade->ticket, &root, NULL), 0;
  }
  if (is(token, "twice")) {
    settle_with(upgrade->ticket, (wsg_accept){0});
    /* The second answer is an error: this one says so. */
    return wsg_ticket_reject(s, upgrade->ticket, 403) == WSG_ERR_TICKET_SETTLED ? 0 : 1;
  }
  if (is(token, "teapot")) {
    static const wsg_field why[] = {{{TEXT("X-Reason")}, {TEXT("teapot")}}};
    wsg_reject teapot = {.size = sizeof teapot, .http_status = 418, .headers = why, .headers_len = 1, .body = {TEXT("short and stout")}};
    return wsg_ticket_reject_with(s, upgrade->ticket, &teapot, NULL), 0;
  }
  if (is(token, "cookie")) {
    static const wsg_field sid[] = {{{TEXT("Set-Cookie")}, {TEXT("sid=1")}}};
    return settle_with(upgrade->ticket, (wsg_accept){.headers = sid, .headers_len = 1}), 0;
  }
  if (is(token, "inject")) {
    static const wsg_field evil[] = {{{TEXT("X-A")}, {TEXT("1\r\nX-Evil: 1")}}};
    return settle_with(upgrade->ticket, (wsg_accept){.headers = evil, .headers_len = 1}), 0;
  }
  if (is(token, "oversize")) {
    static char body[65537];
    wsg_reject large = {.size = sizeof large, .http_status = 403, .body = {body, sizeof body}};
    return wsg_ticket_reject_with(s, upgrade->ticket, &large, NULL), 0;
  }
  if (is(token, "proto")) return settle_with(upgrade->ticket, (wsg_accept){.subprotocol = second_subprotocol(upgrade)}), 0;
  if (!accepted) return wsg_ticket_reject(s, upgrade->ticket, 401), 0;
  pthread_t thread;
  if (json_number(script, "/delay_ms", 0) == 0) settle(upgrade->ticket);
  else if (pthread_create(&thread, NULL, settle_later, (void *)(uintptr_t)upgrade->ticket) == 0) pthread_detach(thread);
  return 0;
}

/* --- what it tells ------------------------------------------------------------------------------------------------ */

static int tell(void *userdata, wsg_server *s, const wsg_event *event) {
  static const char *const types[] = {"", "", "open", "message", "message", "message", "close", "violation", "", "pong"};
  char hex[17] = "";
  wsg_str conn = {event->conn == 0 ? NULL : hex, (size_t)snprintf(hex, sizeof hex, "%llx", (unsigned long long)event->conn)};
  (void)userdata, (void)s;
  /* Kinds that this program does not tell of, or does not know. */
  if ((size_t)event->kind >= sizeof types / sizeof *types || types[event->kind][0] == 0) return 0;
  flockfile(stdout);
  printf("{\"type\":\"%s\"", types[event->kind]);
  json_print("conn", conn);
  switch (event->kind) {
    case WSG_EVENT_OPEN:
      write_open(stdout, event->body.open);
      printf(",\"compressed\":%s", event->body.open->compressed ? "true" : "false");
      break;
    case WSG_EVENT_TEXT: printf(",\"kind\":\"text\",\"bytes\":%zu", event->body.payload.len); break;
    case WSG_EVENT_BINARY: printf(",\"kind\":\"binary\",\"bytes\":%zu", event->body.payload.len); break;
    case WSG_EVENT_MESSAGE:
      json_print("event", event->body.message->event);
      printf(",\"bytes\":%zu", event->body.message->size_bytes);
      break;
    case WSG_EVENT_CLOSE:
      json_print("reason", event->body.close->reason);
      printf(",\"code\":%u,\"clean\":%s", event->body.close->code, event->body.close->clean ? "true" : "false");
      break;
    case WSG_EVENT_PONG: break;
    default:
      json_print("code", wsg_verdict_name(event->body.violation->code));
      json_print("ip", event->body.violation->ip);
      json_print("user", event->body.violation->user);
      json_print("event", event->body.violation->event);
  }
  puts("}");
  funlockfile(stdout);
  return 0;
}

/* Every event, where routes or a reload may bring any: `wsg_server_run` refuses handlers that it would never call. */
static int on_event(void *userdata, wsg_server *s, const wsg_event *event) {
  if (!quiet || event->kind == WSG_EVENT_PONG) tell(userdata, s, event);
  switch (event->kind) {
    case WSG_EVENT_UPGRADE: return on_upgrade(userdata, s, event->body.upgrade);
    case WSG_EVENT_OPEN: return on_open(userdata, s, event->conn, event->body.open);
    case WSG_EVENT_TEXT: return on_text(userdata, s, event->conn, VIEW(event->body.payload));
    case WSG_EVENT_BINARY: return on_binary(userdata, s, event->conn, VIEW(event->body.payload));
    case WSG_EVENT_MESSAGE: return on_message(userdata, s, event->conn, event->body.message);
    case WSG_EVENT_CLOSE: return on_close(userdata, s, event->conn, event->body.close);
    default: return 0;
  }
}

static int on_pong(void *userdata, wsg_server *s, uint64_t conn, const wsg_pong *pong) {
  (void)userdata, (void)s, (void)pong;
  flockfile(stdout);
  printf("{\"type\":\"pong\",\"conn\":\"%llx\"}\n", (unsigned long long)conn);
  funlockfile(stdout);
  return 0;
}

static const wsg_handlers every_event = {.size = sizeof every_event, .event = on_event};

static void print_stats(void) {
  wsg_stats stats;
  const char *comma = "";
  wsg_server_stats(server, &stats, sizeof stats);
  flockfile(stdout);
  printf("{\"type\":\"stats\",\"connections\":%llu,\"open\":%llu,\"opened_total\":%llu,\"messages_in\":%llu,"
         "\"bytes_in\":%llu,\"bytes_out\":%llu,\"inbox_bytes\":%llu,\"outbox_bytes\":%llu,\"delayed\":%llu,"
         "\"pending_auth\":%llu,\"upgrades_in_inbox\":%llu,\"refusing\":%llu,\"rooms\":%llu,"
         "\"room_memberships\":%llu,\"messages_compressed_in\":%llu,\"bytes_inflated\":%llu,"
         "\"messages_compressed_out\":%llu,\"messages_left_plain\":%llu,\"compression_saved_bytes\":%llu,"
         "\"pipe_bytes\":%llu,\"cluster_up\":%llu,\"cluster_dropped\":%llu,\"verdicts\":{",
         (unsigned long long)stats.connections, (unsigned long long)stats.open, (unsigned long long)stats.opened_total,
         (unsigned long long)stats.messages_in, (unsigned long long)stats.bytes_in, (unsigned long long)stats.bytes_out,
         (unsigned long long)stats.inbox_bytes, (unsigned long long)stats.outbox_bytes,
         (unsigned long long)stats.delayed, (unsigned long long)stats.pending_auth,
         (unsigned long long)stats.upgrades_in_inbox, (unsigned long long)stats.refusing,
         (unsigned long long)stats.rooms, (unsigned long long)stats.room_memberships,
         (unsigned long long)stats.messages_compressed_in, (unsigned long long)stats.bytes_inflated,
         (unsigned long long)stats.messages_compressed_out, (unsigned long long)stats.messages_left_plain,
         (unsigned long long)stats.compression_saved_bytes, (unsigned long long)stats.pipe_bytes,
         (unsigned long long)stats.cluster_up, (unsigned long long)stats.cluster_dropped);
  for (uint32_t verdict = 0; wsg_verdict_name(verdict).len > 0; verdict++) {
    uint64_t count = 0;
    if (wsg_server_verdict_count(server, verdict, &count) < 0 || count == 0) continue;
    printf("%s\"%s\":%llu", comma, wsg_verdict_name(verdict).data, (unsigned long long)count);
    comma = ",";
  }
  puts("}}");
  funlockfile(stdout);
}

static void print_metrics(void *userdata, const char *text, size_t len) {
  (void)userdata;
  flockfile(stdout);
  printf("{\"type\":\"metrics\"");
  json_print("text", (wsg_str){text, len});
  puts("}");
  funlockfile(stdout);
}

/* --- standard input ---------------------------------------------------------------------------------------------- */

static wsg_str read_line(void) {
  char *line = NULL;
  size_t room = 0;
  ssize_t len = getline(&line, &room, stdin);
  if (len < 0) { free(line); return (wsg_str){NULL, 0}; }
  return (wsg_str){line, (size_t)len};
}

/* The options of a command in place of those in force. They may bring events that the handlers of the start are not for: the
   application's thread stands aside meanwhile, and goes on with a handler for all. */
static wsg_status reload(wsg_str command, unsigned long long *generation, wsg_error **error) {
  wsg_str stated = json_part(command, "/options");
  wsg_options *options = NULL;
  uint64_t number = 0;
  wsg_status status = wsg_options_from_json(VIEW(stated), &options, error);
  if (status < 0) return status;
  bool is_handled = handlers.event != NULL;
  if (!is_handled) wsg_server_interrupt(server), sem_wait(&stands_aside);
  status = wsg_server_reload(server, options, &number, error);
  if (!is_handled) sem_post(&goes_on);
  wsg_options_free(options);
  *generation = number;
  return status;
}

/* What a command is answered with. */
struct answer {
  bool is_given; /* not given: the command has another answer, or has it later */
  wsg_status status;
  wsg_error *error;
  unsigned long long generation; /* 0: none */
};

/* The connection that a command names, as `tell` writes it. */
static uint64_t conn_of(wsg_str command) {
  wsg_str hex = json_text(command, "/conn");
  uint64_t conn = hex.data == NULL ? 0 : strtoull(hex.data, NULL, 16);
  drop(hex);
  return conn;
}

static struct answer carry_out(wsg_str command, wsg_str name) {
  wsg_str room = json_text(command, "/room"), event = json_text(command, "/event"), user = json_text(command, "/user");
  wsg_str data = json_part(command, "/data"), ip = json_text(command, "/ip"), reason = json_text(command, "/reason");
  unsigned long long for_ms = json_number(command, "/for_ms", WSG_NEVER);
  struct answer answer = {.is_given = true, .status = WSG_OK};
  if (is(name, "stats")) {
    print_stats();
    answer.is_given = false;
  } else if (is(name, "metrics")) {
    answer.status = wsg_server_metrics(server, print_metrics, NULL);
    answer.is_given = answer.status < 0;
  } else if (is(name, "disconnect_user")) {
    answer.status = wsg_server_disconnect_user(server, VIEW(user));
  } else if (is(name, "broadcast")) {
    answer.status = wsg_server_broadcast(server, VIEW(room), VIEW(event), VIEW(data), NULL, 0);
  } else if (is(name, "to_user")) {
    answer.status = wsg_server_broadcast_user(server, VIEW(user), VIEW(event), VIEW(data), NULL, 0);
  } else if (is(name, "ping")) {
    answer.status = wsg_conn_ping(server, conn_of(command));
  } else if (is(name, "reload_tls")) {
    answer.status = wsg_server_reload_tls(server, &answer.error);
  } else if (is(name, "reload")) {
    answer.status = reload(command, &answer.generation, &answer.error);
  } else if (is(name, "ban")) {
    answer.status = ip.data != NULL ? wsg_server_ban_ip(server, VIEW(ip), for_ms, VIEW(reason), &answer.error)
                                    : wsg_server_ban_user(server, VIEW(user), for_ms, VIEW(reason), &answer.error);
  } else if (is(name, "unban")) {
    answer.status = ip.data != NULL ? wsg_server_unban_ip(server, VIEW(ip)) : wsg_server_unban_user(server, VIEW(user));
  } else if (is(name, "drain")) {
    atomic_store(&drain_asked, true);
    wsg_server_drain(server, json_number(command, "/timeout_ms", 5000), json_number(command, "/jitter_ms", 0));
    answer.is_given = false;
  } else {
    answer.status = WSG_ERR_ARGUMENT;
  }
  drop(room), drop(event), drop(user), drop(ip), drop(reason);
  return answer;
}

/* Why a command failed, or a start: the name of the status, the option at fault, and words. */
static void print_error(wsg_status status, wsg_error *error) {
  wsg_str option = wsg_error_option(error);
  json_print("code", wsg_status_name(status));
  json_print("option", option.len > 0 ? option : (wsg_str){NULL, 0});
  json_print("message", error != NULL ? wsg_error_message(error) : wsg_status_message(status));
}

static void print_answer(wsg_str name, const struct answer *answer) {
  flockfile(stdout);
  printf("{\"type\":\"done\"");
  json_print("do", name);
  printf(",\"ok\":%s", answer->status >= 0 ? "true" : "false");
  if (answer->generation > 0) printf(",\"generation\":%llu", answer->generation);
  if (answer->status < 0) {
    print_error(answer->status, answer->error);
    json_print("error", answer->error != NULL ? wsg_error_message(answer->error) : wsg_status_message(answer->status));
  }
  puts("}");
  funlockfile(stdout);
}

/* Standard input after the first line; its end drains the server, which ends the program. */
static void *read_commands(void *unused) {
  for (wsg_str line; (line = read_line()).data != NULL; drop(line)) {
    wsg_str name = json_text(line, "/do");
    struct answer answer = carry_out(line, name);
    if (answer.is_given) print_answer(name, &answer);
    wsg_error_free(answer.error);
    drop(name);
  }
  wsg_server_drain(server, 5000, 0);
  return unused;
}

/* --- main --------------------------------------------------------------------------------------------------------- */

static int refused(wsg_status status, wsg_error *error) {
  printf("{\"type\":\"error\"");
  print_error(status, error);
  puts("}");
  wsg_error_free(error);
  return 2;
}

/* The handlers of this policy: quietly only those that it calls, for opens and closes wake the program. */
static wsg_handlers handlers_of(wsg_str options) {
  if (!quiet || json_part(options, "/routes").data != NULL) return every_event;
  wsg_handlers chosen = {.size = sizeof chosen, .pong = on_pong};
  wsg_str protocol = json_text(options, "/protocol"), auth = json_text(options, "/auth");
  if (is(auth, "callback")) chosen.upgrade = on_upgrade;
  if (is(protocol, "raw")) chosen.text = on_text, chosen.binary = on_binary;
  else chosen.message = on_message;
  if (json_part(options, "/events/whoami").data != NULL) chosen.open = on_open, chosen.close = on_close;
  drop(protocol), drop(auth);
  return chosen;
}

/* Until the server has stopped. */
static wsg_status run(wsg_error **error) {
  wsg_status status;
  while ((status = wsg_server_run(server, &handlers, NULL, error)) == WSG_NOTHING) {
    handlers = every_event;
    sem_post(&stands_aside), sem_wait(&goes_on);
  }
  return status;
}

int main(int argc, char **argv) {
  quiet = argc > 1 && strcmp(argv[1], "--quiet") == 0;
  wsg_options *options = NULL;
  wsg_error *error = NULL;
  pthread_t thread;

  setvbuf(stdout, NULL, _IOLBF, 1 << 16);
  signal(SIGPIPE, SIG_IGN);
  if (wsg_abi_check(WSG_ABI_VERSION) != WSG_OK) return 3;
  sem_init(&stands_aside, 0, 0), sem_init(&goes_on, 0, 0);
  wsg_log_to_stderr();

  input = read_line();
  wsg_str stated = json_part(input, "/options");
  script = json_part(input, "/app/authenticate");
  wsg_status status = wsg_options_from_json(VIEW(stated), &options, &error);
  if (status < 0) return refused(status, error);
  /* With events on standard output every message goes through the application's thread, which prints it. */
  if (quiet) wsg_options_set_inline(options, echo_inline, NULL);
  status = wsg_server_start(options, &server, &error);
  wsg_options_free(options);
  if (status < 0) return refused(status, error);
  /* SIGTERM and SIGINT drain, as an orchestrator expects. */
  if (wsg_server_drain_on_signals(server, 5000, 0) < 0) return 3;

  printf("{\"type\":\"listening\"");
  json_print("addr", wsg_server_address(server));
  puts("}");
  handlers = handlers_of(stated);
  if (pthread_create(&thread, NULL, read_commands, NULL) == 0) pthread_detach(thread);

  status = run(&error);
  if (status < 0) return refused(status, error);
  if (atomic_load(&drain_asked)) puts("{\"type\":\"done\",\"do\":\"drain\",\"ok\":true}");
  wsg_server_free(server);
  fflush(stdout);
  return 0;
}

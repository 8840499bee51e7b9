/*
 * A chat with one room at a time: `join` and `say` are checked against their schemas before they come here. Whoever says
 * something must be in a room; which one, the server keeps with the connection.
 *
 *   cc chat.c -o chat $(pkg-config --cflags --libs wsguard) && ./chat
 *
 *   {"event": "join", "data": "kitchen"}
 *   {"event": "say", "data": {"text": "hello"}}
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wsguard.h>

#define TEXT(literal) (literal), sizeof(literal) - 1

static const char join_schema[] = "{\"type\": \"string\", \"pattern\": \"^[a-z]{1,32}$\"}";
static const char say_schema[] =
    "{\"type\": \"object\", \"required\": [\"text\"], \"additionalProperties\": false, \"properties\": {"
    " \"text\": {\"type\": \"string\", \"maxLength\": 500}}}";

/* What is kept with a connection. */
struct member {
  char room[33];
};

static int on_open(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *open) {
  (void)userdata;
  struct member *member = calloc(1, sizeof *member);
  if (member == NULL || wsg_conn_set_data(server, conn, member) < 0) return free(member), 1;
  printf("%.*s has come as %llx\n", (int)open->user.len, open->user.data, (unsigned long long)conn);
  return 0;
}

static int on_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *close) {
  (void)userdata, (void)close;
  free(wsg_conn_data(server, conn));
  return 0;
}

static int on_join(wsg_server *server, uint64_t conn, struct member *member, const wsg_message *message) {
  size_t len = 0;
  if (member->room[0] != 0) wsg_conn_leave(server, conn, member->room, strlen(member->room));
  if (wsg_json_string(message->data.data, message->data.len, member->room, sizeof member->room, &len) < 0) return 1;
  if (wsg_conn_join(server, conn, member->room, len) < 0) return 1;
  wsg_conn_reply(server, conn, message->id.data, message->id.len, TEXT("joined"), message->data.data, message->data.len);
  return 0;
}

static int on_message(void *userdata, wsg_server *server, uint64_t conn, const wsg_message *message) {
  (void)userdata;
  struct member *member = wsg_conn_data(server, conn);
  wsg_str text;
  if (member == NULL) return 1;
  if (message->event.len == 4 && memcmp(message->event.data, "join", 4) == 0) return on_join(server, conn, member, message);
  if (member->room[0] == 0) {
    wsg_conn_reply_error(server, conn, message->id.data, message->id.len, TEXT("say"), TEXT("\"join a room first\""));
    return 0;
  }
  if (wsg_json_get(message->data.data, message->data.len, TEXT("/text"), &text) != WSG_OK) return 1;
  wsg_server_broadcast(server, member->room, strlen(member->room), TEXT("said"), text.data, text.len, NULL, 0);
  return 0;
}

static int on_violation(void *userdata, wsg_server *server, uint64_t conn, const wsg_violation *violation) {
  (void)userdata, (void)server, (void)conn;
  printf("refused: %s\n", wsg_verdict_name(violation->code).data);
  return 0;
}

int main(int argc, char **argv) {
  const char *address = argc > 1 ? argv[1] : "127.0.0.1:8080";
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  wsg_error *error = NULL;
  wsg_handlers handlers = {
      .size = sizeof handlers, .open = on_open, .close = on_close, .message = on_message, .violation = on_violation};

  wsg_options_new(&options);
  /* Each setter says what is wrong; the first that fails ends the sequence. */
  bool started = wsg_options_set_listen(options, address, strlen(address), &error) >= 0 &&
                 wsg_options_add_origin(options, TEXT("http://localhost:3000"), &error) >= 0 &&
                 wsg_options_add_token(options, TEXT("change-me"), TEXT("alice"), &error) >= 0 &&
                 wsg_options_set(options, TEXT("token_sources"), TEXT("[\"subprotocol\", \"bearer\"]"), &error) >= 0 &&
                 wsg_options_add_event(options, TEXT("join"), TEXT(join_schema), &error) >= 0 &&
                 wsg_options_add_event(options, TEXT("say"), TEXT(say_schema), &error) >= 0 &&
                 wsg_server_start(options, &server, &error) >= 0;
  wsg_options_free(options);
  if (!started) {
    fprintf(stderr, "%s: %s\n", wsg_error_option(error).data, wsg_error_message(error).data);
    return wsg_error_free(error), 1;
  }
  wsg_server_drain_on_signals(server, WSG_DEFAULT_DRAIN_TIMEOUT_MS, 500);
  printf("listening on %s\n", wsg_server_address(server).data);
  fflush(stdout);
  wsg_status status = wsg_server_run(server, &handlers, NULL, &error);
  if (status < 0) fprintf(stderr, "%s\n", wsg_error_message(error).data);
  wsg_error_free(error);
  wsg_server_free(server);
  return status < 0;
}

/*
 * A chat with rooms: `join` and `say` are checked against their schemas before they come here.
 *
 *   cc chat.c -o chat $(pkg-config --cflags --libs wsguard) && ./chat
 *
 *   {"event": "join", "data": "kitchen"}
 *   {"event": "say", "data": {"room": "kitchen", "text": "hello"}}
 */
#include <stdio.h>
#include <string.h>
#include <wsguard.h>

#define TEXT(literal) (literal), sizeof(literal) - 1

static const char join_schema[] = "{\"type\": \"string\", \"pattern\": \"^[a-z]{1,32}$\"}";
static const char say_schema[] =
    "{\"type\": \"object\", \"required\": [\"room\", \"text\"], \"additionalProperties\": false, \"properties\": {"
    " \"room\": {\"type\": \"string\", \"pattern\": \"^[a-z]{1,32}$\"}, \"text\": {\"type\": \"string\", \"maxLength\": 500}}}";

/* The room in `"kitchen"` or in `{"room": "kitchen", …}`: its schema leaves nothing that would need unescaping. */
static wsg_str room_of(const wsg_message *message) {
  const char *at = message->data.data, *end = at + message->data.len;
  if (*at == '{')
    for (at++; at + 6 < end && memcmp(at, "\"room\"", 6) != 0; at++) {}
  if (*message->data.data == '{') at += 6;
  while (at < end && *at != '"') at++;
  wsg_str room = {at + 1, 0};
  while (room.data + room.len < end && room.data[room.len] != '"') room.len++;
  return room;
}

static int on_open(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *open) {
  (void)userdata, (void)server;
  printf("%.*s has come as %llx\n", (int)open->user.len, open->user.data, (unsigned long long)conn);
  return 0;
}

static int on_message(void *userdata, wsg_server *server, uint64_t conn, const wsg_message *message) {
  (void)userdata;
  wsg_str room = room_of(message);
  if (message->event.len == 4 && memcmp(message->event.data, "join", 4) == 0) {
    wsg_server_join(server, conn, room.data, room.len);
    wsg_server_reply(server, conn, message->id.data, message->id.len, TEXT("joined"), message->data.data,
                     message->data.len);
  } else {
    wsg_server_broadcast(server, room.data, room.len, TEXT("said"), message->data.data, message->data.len, 0);
  }
  return 0;
}

static int on_violation(void *userdata, wsg_server *server, uint64_t conn, const wsg_violation *violation) {
  (void)userdata, (void)server, (void)conn;
  printf("refused: %s\n", wsg_verdict_name(violation->verdict).data);
  return 0;
}

int main(int argc, char **argv) {
  const char *address = argc > 1 ? argv[1] : "127.0.0.1:8080";
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  wsg_error *error = NULL;
  wsg_handlers handlers = {.open = on_open, .message = on_message, .violation = on_violation};

  wsg_options_new(&options);
  wsg_options_set_listen(options, address, strlen(address));
  wsg_options_add_origin(options, TEXT("http://localhost:3000"));
  wsg_options_add_token(options, TEXT("change-me"), TEXT("alice"));
  wsg_options_set(options, TEXT("token_sources"), TEXT("[\"subprotocol\", \"bearer\"]"), NULL);
  wsg_options_add_event(options, TEXT("join"), TEXT(join_schema));
  wsg_options_add_event(options, TEXT("say"), TEXT(say_schema));
  wsg_status status = wsg_server_start(options, &server, &error);
  wsg_options_free(options);
  if (status != WSG_OK) {
    fprintf(stderr, "%s: %s\n", wsg_status_name(status).data, wsg_error_message(error).data);
    return 1;
  }
  printf("listening on %s\n", wsg_server_address(server).data);
  fflush(stdout);
  wsg_server_run(server, &handlers, NULL);
  wsg_server_free(server);
  return 0;
}

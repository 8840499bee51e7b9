/*
 * Echo: sends every message back.
 *
 *   cc echo.c -o echo $(pkg-config --cflags --libs wsguard) && ./echo
 *
 * From a page on http://localhost:3000: new WebSocket("ws://127.0.0.1:8080/", ["bearer", "change-me"])
 */
#include <stdio.h>
#include <string.h>
#include <wsguard.h>

static const char policy[] =
    "{\"listen\": \"127.0.0.1:8080\", \"origins\": [\"http://localhost:3000\"], \"protocol\": \"raw\","
    " \"auth\": {\"tokens\": [{\"token\": \"change-me\", \"user\": \"alice\"}]},"
    " \"token_sources\": [\"subprotocol\", \"bearer\"]}";

static int on_text(void *userdata, wsg_server *server, uint64_t conn, const char *text, size_t len) {
  (void)userdata;
  wsg_conn_send_text(server, conn, text, len);
  return 0;
}

static int on_binary(void *userdata, wsg_server *server, uint64_t conn, const char *payload, size_t len) {
  (void)userdata;
  wsg_conn_send_binary(server, conn, payload, len);
  return 0;
}

int main(int argc, char **argv) {
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  wsg_error *error = NULL;
  wsg_handlers handlers = {.size = sizeof handlers, .text = on_text, .binary = on_binary};

  wsg_log_to_stderr();
  wsg_status status = wsg_options_from_json(policy, strlen(policy), &options, &error);
  if (status == WSG_OK && argc > 1) status = wsg_options_set_listen(options, argv[1], strlen(argv[1]), &error);
  if (status == WSG_OK) status = wsg_server_start(options, &server, &error);
  if (status == WSG_OK) status = wsg_server_drain_on_signals(server, WSG_DEFAULT_DRAIN_TIMEOUT_MS, 500); /* Ctrl-C and SIGTERM */
  if (status == WSG_OK) {
    printf("listening on %s\n", wsg_server_address(server).data);
    fflush(stdout);
    status = wsg_server_run(server, &handlers, NULL, &error);
  }
  if (status != WSG_OK) fprintf(stderr, "%s: %s\n", wsg_status_name(status).data, wsg_error_message(error).data);
  wsg_error_free(error);
  wsg_server_free(server);
  wsg_options_free(options);
  return status != WSG_OK;
}

/*
 * A policy in a file: SIGHUP puts it in force again, without a restart and without losing a connection that it still lets in.
 *
 *   cc reload.c -o reload $(pkg-config --cflags --libs wsguard) && ./reload policy.json
 *   kill -HUP $(pidof reload)
 *
 * A file with a mistake changes nothing: the error names the option.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wsguard.h>

struct running {
  const char *path, *address;
  wsg_server *server;
};

/* The options of the file; NULL if they are none. */
static wsg_options *options_of(const struct running *running, wsg_error **error) {
  static char json[1 << 20];
  wsg_options *options = NULL;
  FILE *file = fopen(running->path, "r");
  if (file == NULL) return perror(running->path), NULL;
  size_t len = fread(json, 1, sizeof json, file);
  fclose(file);
  if (wsg_options_from_json(json, len, &options, error) < 0) return NULL;
  /* An address on the command line counts before that of the file, and stays the same: it cannot change while the server runs. */
  if (running->address != NULL && wsg_options_set_listen(options, running->address, strlen(running->address), error) < 0)
    wsg_options_free(options), options = NULL;
  return options;
}

static void complain(wsg_error *error) {
  if (error != NULL) fprintf(stderr, "%s: %s\n", wsg_error_option(error).data, wsg_error_message(error).data);
  wsg_error_free(error);
}

/* Every SIGHUP, on a thread of its own: compiling a policy takes its time, and no connection waits for it. */
static void *reload_on_hangup(void *userdata) {
  struct running *running = userdata;
  sigset_t hangup;
  int received;
  sigemptyset(&hangup), sigaddset(&hangup, SIGHUP);
  while (sigwait(&hangup, &received) == 0) {
    wsg_error *error = NULL;
    uint64_t generation = 0;
    wsg_options *options = options_of(running, &error);
    if (options != NULL && wsg_server_reload(running->server, options, &generation, &error) == WSG_OK)
      fprintf(stderr, "policy %llu is in force\n", (unsigned long long)generation);
    complain(error);
    wsg_options_free(options);
  }
  return NULL;
}

static int on_message(void *userdata, wsg_server *server, uint64_t conn, const wsg_message *message) {
  (void)userdata;
  wsg_conn_reply(server, conn, message->id.data, message->id.len, message->event.data, message->event.len,
                 message->data.data, message->data.len);
  return 0;
}

int main(int argc, char **argv) {
  /* As the other examples: an address may come first. */
  struct running running = {.path = argc > 1 ? argv[argc - 1] : "policy.json", .address = argc > 2 ? argv[1] : NULL};
  wsg_handlers handlers = {.size = sizeof handlers, .message = on_message};
  wsg_error *error = NULL;
  pthread_t thread;
  sigset_t hangup;
  sigemptyset(&hangup), sigaddset(&hangup, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &hangup, NULL); /* before there is any other thread */

  wsg_log_to_stderr();
  wsg_options *options = options_of(&running, &error);
  wsg_status status = options == NULL ? WSG_ERR_ARGUMENT : wsg_server_start(options, &running.server, &error);
  wsg_options_free(options);
  if (status == WSG_OK) status = wsg_server_drain_on_signals(running.server, WSG_DEFAULT_DRAIN_TIMEOUT_MS, 500);
  if (status == WSG_OK && pthread_create(&thread, NULL, reload_on_hangup, &running) == 0) {
    printf("listening on %s\n", wsg_server_address(running.server).data);
    fflush(stdout);
    status = wsg_server_run(running.server, &handlers, NULL, &error);
    pthread_cancel(thread), pthread_join(thread, NULL); /* it is in `sigwait`, or comes back to it */
  }
  complain(error);
  wsg_server_free(running.server);
  return status != WSG_OK;
}

/* A fork at any moment: in the child every call answers, and nothing hangs (THREATS S8). */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

static atomic_bool over;
static wsg_server *server;
static wsg_options *shared_options;

/* Holds every short lock of the library as often as it can. */
static void *use(void *unused) {
  while (!atomic_load(&over)) {
    wsg_options *options = NULL;
    wsg_error *error = NULL;
    wsg_batch *batch = NULL;
    wsg_options_new(&options);
    wsg_options_set(options, TEXT("threads"), TEXT("18446744073709551615"), &error);
    wsg_options_set(shared_options, TEXT("threads"), TEXT("2"), NULL);
    wsg_error_free(error);
    wsg_options_free(options);
    wsg_conn_send_text(server, 1, TEXT("x"));
    if (wsg_server_next(server, 0, &batch) == WSG_OK) wsg_batch_free(batch);
  }
  return unused;
}

static void in_child(void) {
  wsg_options *options = NULL;
  wsg_server *own = NULL;
  wsg_error *error = NULL;
  wsg_batch *batch = NULL;
  alarm(20); /* a child that hangs is ended by it, and so told */
  ANSWERS(WSG_ERR_FORKED, wsg_conn_send_text(server, 1, TEXT("x")));
  ANSWERS(WSG_ERR_FORKED, wsg_server_next(server, -1, &batch));
  ANSWERS(WSG_ERR_FORKED, wsg_server_run(server, &(wsg_handlers){.size = sizeof(wsg_handlers)}, NULL, &error));
  ANSWERS(WSG_OK, wsg_error_free(error));
  ANSWERS(WSG_ERR_FORKED, wsg_server_drain_on_signals(server, 1, 1));
  ANSWERS(WSG_OK, wsg_options_set(shared_options, TEXT("threads"), TEXT("1"), &error));
  ANSWERS(WSG_OK, wsg_options_new(&options));
  ANSWERS(WSG_OK, wsg_options_free(options));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_OK, wsg_server_start(shared_options, &own, &error));
  ANSWERS(WSG_OK, wsg_server_free(own));
  _exit(0);
}

static void expect_end(pid_t child) {
  int ended;
  CHECK(child > 0 && waitpid(child, &ended, 0) == child);
  CHECK(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
}

static void at_any_moment(int children) {
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, use, NULL) == 0);
  for (int i = 0; i < children; i++) {
    pid_t child = fork();
    if (child == 0) in_child();
    expect_end(child);
  }
  atomic_store(&over, true);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
}

static int fork_in_handler(void *child, wsg_server *s, uint64_t conn, const char *text, size_t len) {
  (void)text, (void)len;
  ANSWERS(WSG_OK, wsg_conn_send_text(s, conn, TEXT("once")));
  *(pid_t *)child = fork();
  if (*(pid_t *)child == 0) {
    alarm(20);
    ANSWERS(WSG_ERR_FORKED, wsg_conn_send_text(s, conn, TEXT("twice")));
    return 0;
  }
  ANSWERS(WSG_OK, wsg_server_drain(s, 1000, 0));
  return 0;
}

/* A handler that forks: the child returns out of the run, and says nothing in its parent's name. */
static void in_a_handler(void) {
  pid_t child = -1;
  wsg_error *error = NULL;
  ANSWERS(WSG_OK, wsg_server_start(shared_options, &server, NULL));
  struct later later = {.address = wsg_server_address(server).data, .headers = "", .frames = "\x81\x81\0\0\0\0a", .len = 7};
  pthread_t peer = client_later(&later);
  wsg_handlers handlers = {.size = sizeof handlers, .text = fork_in_handler};
  wsg_status status = wsg_server_run(server, &handlers, &child, &error);
  if (child == 0) {
    CHECK(status == WSG_ERR_FORKED && wsg_error_status(error) == WSG_ERR_FORKED);
    ANSWERS(WSG_OK, wsg_server_free(server));
    _exit(0);
  }
  CHECK(status == WSG_OK);
  expect_end(child);
  CHECK(client_join(peer, &later) >= 6 && memcmp(later.received, "\x81\x04once", 6) == 0);
  CHECK(memmem(later.received, later.received_len, "twice", 5) == NULL && memmem(later.received + 6, later.received_len - 6, "once", 4) == NULL);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

int main(int argc, char **argv) {
  shared_options = open_options(TEXT("raw"));
  ANSWERS(WSG_OK, wsg_server_start(shared_options, &server, NULL));
  at_any_moment(argc > 1 ? atoi(argv[1]) : 60);
  ANSWERS(WSG_OK, wsg_server_free(server));
  in_a_handler();
  ANSWERS(WSG_OK, wsg_options_free(shared_options));
  puts("fork: every child answered and ended");
  return 0;
}

/* How a program ends: signals drain, an interrupt comes back, a callback that does not return is one clear abort. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "client.h"

static wsg_server *server;
static atomic_bool interrupted;

static wsg_server *start(void) {
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *started = NULL;
  ANSWERS(WSG_OK, wsg_server_start(options, &started, NULL));
  ANSWERS(WSG_OK, wsg_options_free(options));
  return started;
}

static int raise_term(void *signal, wsg_server *s, uint64_t conn, const wsg_open *open) {
  (void)s, (void)conn, (void)open;
  kill(getpid(), *(int *)signal);
  return 0;
}

/* SIGTERM and SIGINT end the run gently, also where every thread of the application has them blocked. */
static void drained_by_a_signal(int signal, bool blocked) {
  wsg_handlers handlers = {.size = sizeof handlers, .open = raise_term};
  sigset_t set, before;
  sigemptyset(&set), sigaddset(&set, signal);
  if (blocked) pthread_sigmask(SIG_BLOCK, &set, &before);
  server = start();
  ANSWERS(WSG_OK, wsg_server_drain_on_signals(server, 1000, 0));
  struct later later = {.address = wsg_server_address(server).data, .headers = "", .frames = "", .len = 0};
  pthread_t peer = client_later(&later);
  ANSWERS(WSG_OK, wsg_server_run(server, &handlers, &signal, NULL));
  CHECK(client_join(peer, &later) >= 4 && memcmp(later.received + 2, "\x03\xf4", 2) == 0); /* 1012 */
  ANSWERS(WSG_OK, wsg_server_free(server));
  if (blocked) pthread_sigmask(SIG_SETMASK, &before, NULL);
  struct sigaction now;
  sigaction(signal, NULL, &now);
  CHECK(now.sa_handler == SIG_DFL); /* the old effect is back */
}

static void on_usr1(int signal) {
  (void)signal;
  atomic_store(&interrupted, true);
  wsg_server_interrupt(server);
}

static void own_handler(int signal) { (void)signal; }

static void the_applications_handler_stays(void) {
  struct sigaction own = {.sa_handler = own_handler}, now;
  server = start();
  sigaction(SIGTERM, &own, NULL);
  ANSWERS(WSG_ERR_BUSY, wsg_server_drain_on_signals(server, 1, 1));
  sigaction(SIGTERM, NULL, &now);
  CHECK(now.sa_handler == own_handler);
  signal(SIGTERM, SIG_DFL);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void *send_usr1(void *thread) {
  for (int i = 0; i < 50; i++) {
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    usleep(1000);
  }
  return NULL;
}

/* The idiom of every C program: wait until a signal handler has said so. */
static void interrupted_by_a_handler(void) {
  struct sigaction action = {.sa_handler = on_usr1};
  wsg_handlers handlers = {.size = sizeof handlers};
  wsg_batch *batch = NULL;
  pthread_t self = pthread_self(), other;
  server = start();
  sigaction(SIGUSR1, &action, NULL);
  CHECK(pthread_create(&other, NULL, send_usr1, &self) == 0);
  while (!atomic_load(&interrupted)) ANSWERS(WSG_NOTHING, wsg_server_next(server, -1, &batch));
  ANSWERS(WSG_NOTHING, wsg_server_run(server, &handlers, NULL, NULL));
  pthread_join(other, NULL);
  ANSWERS(WSG_OK, wsg_server_free(server));
  CHECK(raise(SIGUSR1) == 0); /* a handler that comes after the end finds nothing */
}

static int leave(void *userdata, wsg_server *s, uint64_t conn, const wsg_open *open) {
  (void)userdata, (void)s, (void)conn, (void)open;
  pthread_exit(NULL);
}

static void leave_a_handler(void) {
  server = start();
  struct later later = {.address = wsg_server_address(server).data, .headers = "", .frames = "", .len = 0};
  client_later(&later);
  wsg_handlers handlers = {.size = sizeof handlers, .open = leave};
  wsg_server_run(server, &handlers, NULL, NULL);
}

static void *wait_for_ever(void *unused) {
  wsg_batch *batch = NULL;
  (void)unused;
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL);
  ANSWERS(WSG_NOTHING, wsg_server_next(server, -1, &batch));
  pthread_testcancel();
  return "not cancelled";
}

/* A cancelled thread comes back before it ends; nothing stays locked. */
static void cancelled(void) {
  pthread_t thread;
  void *returned = NULL;
  wsg_batch *batch = NULL;
  server = start();
  CHECK(pthread_create(&thread, NULL, wait_for_ever, NULL) == 0);
  usleep(20000); /* not for the outcome: it waits by then, or will */
  CHECK(pthread_cancel(thread) == 0);
  ANSWERS(WSG_OK, wsg_server_interrupt(server));
  CHECK(pthread_join(thread, &returned) == 0 && returned == PTHREAD_CANCELED);
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 0, &batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void *terminate(void *unused) {
  while (true) kill(getpid(), SIGTERM), usleep(1000);
  return unused;
}

static int never_return(void *userdata, wsg_server *s, uint64_t conn, const wsg_open *open) {
  (void)userdata, (void)s, (void)conn, (void)open;
  pthread_t thread; /* not before: a drain without a connection would be over at the first signal */
  CHECK(pthread_create(&thread, NULL, terminate, NULL) == 0);
  for (;;) pause();
  return 0;
}

/* A program whose handler hangs is ended by the second signal, as by one without the library. */
static void hang_in_a_handler(void) {
  server = start();
  ANSWERS(WSG_OK, wsg_server_drain_on_signals(server, 600000, 0));
  struct later later = {.address = wsg_server_address(server).data, .headers = "", .frames = "", .len = 0};
  client_later(&later);
  wsg_handlers handlers = {.size = sizeof handlers, .open = never_return};
  wsg_server_run(server, &handlers, NULL, NULL);
}

/* A child of a program that drains on signals dies of them, and drains nothing of its parent's. */
static void die_of_it(void) {
  raise(SIGTERM);
  pause();
}

static void signals_and_children(void) {
  char said[256];
  wsg_batch *batch = NULL;
  server = start();
  ANSWERS(WSG_OK, wsg_server_drain_on_signals(server, 0, 0));
  int ended = in_child(die_of_it, said, sizeof said);
  CHECK(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGTERM);
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 50, &batch));
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void free_at_exit(void) {
  wsg_status status = wsg_server_free(server);
  if (status != WSG_OK) fprintf(stderr, "freed: %s\n", wsg_status_name(status).data);
  _exit(0); /* without a look for leaks, which a forked child has of its parent's */
}

/* As a static object of C++ does: behind the end of what the main thread kept for itself. */
static void exit_and_free_then(void) {
  wsg_handlers handlers = {.size = sizeof handlers};
  server = start();
  ANSWERS(WSG_NOTHING, wsg_server_run_once(server, 0, &handlers, NULL, NULL));
  CHECK(atexit(free_at_exit) == 0);
  exit(0);
}

/* As `thread_local` of C++ or a key of POSIX does. */
static void free_at_the_end_of_the_thread(void *freed) {
  ANSWERS(WSG_OK, wsg_server_free(freed));
  server = NULL;
}

static void *run_in_a_thread(void *key) {
  wsg_handlers handlers = {.size = sizeof handlers};
  ANSWERS(WSG_NOTHING, wsg_server_run_once(server, 0, &handlers, NULL, NULL));
  pthread_setspecific(*(pthread_key_t *)key, server);
  return NULL;
}

/* What threads keep for themselves is gone by then. */
static void end_a_thread_that_frees(void) {
  pthread_t thread;
  pthread_key_t key;
  server = start();
  CHECK(pthread_key_create(&key, free_at_the_end_of_the_thread) == 0);
  CHECK(pthread_create(&thread, NULL, run_in_a_thread, &key) == 0);
  pthread_join(thread, NULL);
  pthread_key_delete(key);
  CHECK(server == NULL);
  _exit(0); /* as above */
}

int main(void) {
  char said[4096];
  signal(SIGINT, SIG_DFL); /* a shell has its background jobs ignore it, and what is ignored stays so */
  int ended = in_child(leave_a_handler, said, sizeof said);
  CHECK(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGABRT && strstr(said, "callbacks must return") != NULL);
  ended = in_child(hang_in_a_handler, said, sizeof said);
  CHECK(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGTERM);
  ended = in_child(exit_and_free_then, said, sizeof said);
  if (said[0] != 0) fputs(said, stderr);
  CHECK(WIFEXITED(ended) && WEXITSTATUS(ended) == 0 && said[0] == 0);
  ended = in_child(end_a_thread_that_frees, said, sizeof said);
  if (said[0] != 0) fputs(said, stderr);
  CHECK(WIFEXITED(ended) && WEXITSTATUS(ended) == 0 && said[0] == 0);
  drained_by_a_signal(SIGTERM, false);
  drained_by_a_signal(SIGINT, false);
  drained_by_a_signal(SIGTERM, true);
  the_applications_handler_stays();
  interrupted_by_a_handler();
  cancelled();
  signals_and_children();
  puts("ends: signals, interrupts, cancellation and callbacks that do not return");
  return 0;
}

/* Two copies of the library in one process, as with a plug-in that brings its own: no handle, id or ticket of one means
   anything to the other. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

struct copy {
  void *library;
  wsg_options *options;
  wsg_server *server;
  wsg_batch *batch;
  uint64_t ticket, conn;
};

/* The function of this copy. */
#define OF(copy, name) ((__typeof__(&name))symbol(copy, #name))

static void *symbol(const struct copy *copy, const char *name) {
  void *found = dlsym(copy->library, name);
  CHECK(found != NULL);
  return found;
}

static const char POLICY[] =
    "{\"listen\": \"127.0.0.1:0\", \"threads\": 1, \"origins\": [\"https://app.example.com\"], \"auth\": \"callback\","
    " \"protocol\": \"raw\"}";

static void *open_client(void *address) { return (void *)(intptr_t)client_open(address); }

/* The next event of this kind. */
static const wsg_event *next(struct copy *copy, uint32_t kind) {
  const wsg_event *events = NULL;
  size_t count = 0;
  CHECK(OF(copy, wsg_server_next)(copy->server, 5000, &copy->batch) == WSG_OK);
  CHECK(OF(copy, wsg_batch_events)(copy->batch, &events, &count) == WSG_OK);
  CHECK(count == 1 && events->kind == kind);
  return events;
}

static void start(struct copy *copy, const char *file, pthread_t *client) {
  copy->library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (copy->library == NULL) fprintf(stderr, "%s\n", dlerror());
  CHECK(copy->library != NULL);
  CHECK(OF(copy, wsg_options_from_json)(TEXT(POLICY), &copy->options, NULL) == WSG_OK);
  CHECK(OF(copy, wsg_server_start)(copy->options, &copy->server, NULL) == WSG_OK);
  CHECK(pthread_create(client, NULL, open_client, (void *)(uintptr_t)OF(copy, wsg_server_address)(copy->server).data) == 0);
  copy->ticket = next(copy, WSG_EVENT_UPGRADE)->body.upgrade->ticket;
}

static void open_conn(struct copy *copy) {
  CHECK(OF(copy, wsg_batch_free)(copy->batch) == WSG_OK);
  CHECK(OF(copy, wsg_ticket_accept)(copy->server, copy->ticket, TEXT("alice"), WSG_NEVER) == WSG_OK);
  copy->conn = next(copy, WSG_EVENT_OPEN)->conn;
}

/* What is the other's is an error, whatever is done with it. */
static void knows_nothing_of(const struct copy *self, const struct copy *other) {
  wsg_server *server = NULL;
  const wsg_event *events = NULL;
  size_t count = 0;
  CHECK(OF(self, wsg_options_set)(other->options, TEXT("threads"), TEXT("2"), NULL) == WSG_ERR_HANDLE);
  CHECK(OF(self, wsg_options_free)(other->options) == WSG_ERR_HANDLE);
  CHECK(OF(self, wsg_server_start)(other->options, &server, NULL) == WSG_ERR_HANDLE && server == NULL);
  CHECK(OF(self, wsg_server_stop)(other->server) == WSG_ERR_HANDLE);
  CHECK(OF(self, wsg_server_free)(other->server) == WSG_ERR_HANDLE);
  CHECK(OF(self, wsg_batch_events)(other->batch, &events, &count) == WSG_ERR_HANDLE);
  CHECK(OF(self, wsg_batch_free)(other->batch) == WSG_ERR_HANDLE);
}

int main(int argc, char **argv) {
  struct copy one = {0}, two = {0};
  pthread_t clients[2];
  void *fd = NULL;
  CHECK(argc == 3);
  start(&one, argv[1], &clients[0]);
  start(&two, argv[2], &clients[1]);
  CHECK(one.library != two.library);
  knows_nothing_of(&one, &two);
  knows_nothing_of(&two, &one);
  /* Tickets and connections are numbers, so these are of one's own server. */
  CHECK(OF(&two, wsg_ticket_accept)(two.server, one.ticket, TEXT("mallory"), WSG_NEVER) < 0);
  CHECK(OF(&one, wsg_ticket_accept)(one.server, two.ticket, TEXT("mallory"), WSG_NEVER) < 0);
  open_conn(&one);
  open_conn(&two);
  CHECK(!OF(&two, wsg_conn_is_open)(two.server, one.conn) && !OF(&one, wsg_conn_is_open)(one.server, two.conn));
  CHECK(OF(&two, wsg_conn_send_text)(two.server, one.conn, TEXT("secret")) < 0);
  CHECK(OF(&one, wsg_conn_send_text)(one.server, two.conn, TEXT("secret")) < 0);
  CHECK(OF(&one, wsg_conn_send_text)(one.server, one.conn, TEXT("of one")) == WSG_OK);
  CHECK(OF(&two, wsg_conn_send_text)(two.server, two.conn, TEXT("of two")) == WSG_OK);
  const char *said[] = {"of one", "of two"};
  struct copy *copies[] = {&one, &two};
  for (int i = 0; i < 2; i++) {
    CHECK(pthread_join(clients[i], &fd) == 0 && (intptr_t)fd >= 0);
    CHECK(client_expect((int)(intptr_t)fd, said[i]) == 0);
    close((int)(intptr_t)fd);
    CHECK(OF(copies[i], wsg_batch_free)(copies[i]->batch) == WSG_OK);
    CHECK(OF(copies[i], wsg_server_free)(copies[i]->server) == WSG_OK);
    CHECK(OF(copies[i], wsg_options_free)(copies[i]->options) == WSG_OK);
  }
  puts("two: copies of the library that know nothing of each other");
  return 0;
}

/* Opens, closes and frees everything over and over: under a leak checker nothing may be lost. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

static int cheap(int cycles) {
  for (int i = 0; i < cycles; i++) {
    wsg_options *options = NULL;
    wsg_error *error = NULL;
    wsg_options *refused = NULL;
    ANSWERS(WSG_OK, wsg_options_new(&options));
    ANSWERS(WSG_OK, wsg_options_set(options, TEXT("threads"), TEXT("1"), NULL));
    ANSWERS(WSG_OK, wsg_options_free(options));
    ANSWERS(WSG_ERR_UNKNOWN_OPTION, wsg_options_from_json(TEXT("{\"x\":1}"), &refused, &error));
    ANSWERS(WSG_OK, wsg_error_free(error));
  }
  return cycles;
}

static int servers(int cycles) {
  wsg_options *options = open_options(TEXT("raw"));
  for (int i = 0; i < cycles; i++) {
    wsg_server *server = NULL;
    wsg_batch *batch = NULL;
    ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
    int client = client_open(wsg_server_address(server).data);
    CHECK(client >= 0 && client_send(client, "hi") == 0);
    ANSWERS(WSG_OK, wsg_server_next(server, 5000, &batch));
    wsg_error *error = NULL;
    ANSWERS(WSG_OK, wsg_server_reload(server, options, NULL, NULL));
    ANSWERS(WSG_ERR_ARGUMENT, wsg_server_ban_ip(server, TEXT("nowhere"), 1, NULL, 0, &error));
    ANSWERS(WSG_OK, wsg_error_free(error));
    ANSWERS(WSG_OK, wsg_server_ban_user(server, TEXT("nobody"), 1000, TEXT("why"), NULL));
    /* What was not freed before its server goes all the same; some batches are freed after it. */
    if (i % 2) ANSWERS(WSG_OK, wsg_batch_free(batch));
    ANSWERS(WSG_OK, wsg_server_free(server));
    if (i % 2 == 0) ANSWERS(WSG_OK, wsg_batch_free(batch));
    close(client);
  }
  ANSWERS(WSG_OK, wsg_options_free(options));
  return cycles;
}

/* On a thread that ends: what a thread keeps for itself is freed with it. */
static void *cycle(void *arguments) {
  char **count = arguments;
  int handles = cheap(count[0] ? atoi(count[0]) : 100000), lives = servers(count[0] && count[1] ? atoi(count[1]) : 300);
  printf("cycles: %d of the cheap handles, %d of servers\n", handles, lives);
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t thread;
  (void)argc;
  CHECK(pthread_create(&thread, NULL, cycle, argv + 1) == 0 && pthread_join(thread, NULL) == 0);
  return 0;
}

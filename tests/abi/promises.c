/* Small promises of the header: sizes of newer structs, the descriptor, interrupts, JSON. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "client.h"

/* A newer header's statistics: what the library does not know is 0. A readable descriptor before the first wait. */
static void small_promises(void) {
  struct {
    wsg_stats known;
    uint64_t unknown;
  } newer;
  wsg_options *options = open_options(TEXT("raw"));
  wsg_server *server = NULL, *other = NULL;
  wsg_batch *batch = NULL;
  int fd = -1;
  memset(&newer, 0xff, sizeof newer);
  ANSWERS(WSG_OK, wsg_server_start(options, &server, NULL));
  ANSWERS(WSG_OK, wsg_server_fd(server, &fd));
  CHECK(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1);
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 0, &batch));
  CHECK(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 0);
  ANSWERS(WSG_OK, wsg_server_stats(server, &newer.known, sizeof newer));
  CHECK(newer.unknown == 0 && newer.known.open == 0 && newer.known.rooms == 0 && newer.known.room_memberships == 0);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_stats(server, &newer.known, 0));
  ANSWERS(WSG_ERR_ARGUMENT, wsg_server_stats(server, &newer.known, SIZE_MAX));
  /* An interrupt is one return, before or during a wait. */
  ANSWERS(WSG_OK, wsg_server_interrupt(server));
  ANSWERS(WSG_NOTHING, wsg_server_next(server, -1, &batch));
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 1, &batch));
  ANSWERS(WSG_OK, wsg_server_start(options, &other, NULL));
  ANSWERS(WSG_OK, wsg_server_interrupt(other));
  ANSWERS(WSG_NOTHING, wsg_server_run_once(server, 1, &(wsg_handlers){.size = sizeof(wsg_handlers)}, NULL, NULL));
  ANSWERS(WSG_OK, wsg_server_free(server));
  ANSWERS(WSG_ERR_HANDLE, wsg_server_interrupt(server));
  ANSWERS(WSG_OK, wsg_server_free(other));
  ANSWERS(WSG_OK, wsg_options_free(options));
  CHECK(strcmp(wsg_status_name(WSG_STOPPED).data, wsg_status_name(WSG_ERR_STOPPED).data) != 0);
  CHECK(wsg_status_message(WSG_ERR_UTF8).len > 0 && wsg_status_message(-1000).len == 0);
}

static void json(void) {
  static const char text[] = "{\"text\":\"room\",\"room\":\"kit\\u0063hen\",\"n\":[1,-2]}";
  char buffer[64];
  size_t len;
  int64_t number;
  wsg_str part;
  ANSWERS(WSG_OK, wsg_json_get(TEXT(text), TEXT("/room"), &part));
  ANSWERS(WSG_OK, wsg_json_string(part.data, part.len, buffer, sizeof buffer, &len));
  CHECK(len == 7 && strcmp(buffer, "kitchen") == 0);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_json_string(part.data, part.len, buffer, 7, &len));
  CHECK(len == 7);
  ANSWERS(WSG_OK, wsg_json_get(TEXT(text), TEXT("/n/1"), &part));
  ANSWERS(WSG_OK, wsg_json_integer(part.data, part.len, &number));
  CHECK(number == -2);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_json_integer(TEXT("1.5"), &number));
  ANSWERS(WSG_NOTHING, wsg_json_get(TEXT(text), TEXT("/kitchen"), &part));
  CHECK(part.data == NULL);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_json_get(TEXT("{\"a\":1"), TEXT("/a"), &part));
  ANSWERS(WSG_OK, wsg_json_quote(TEXT("a\"b\n"), buffer, sizeof buffer, &len));
  CHECK(strcmp(buffer, "\"a\\\"b\\n\"") == 0 && len == 8);
  ANSWERS(WSG_ERR_ARGUMENT, wsg_json_quote(TEXT("abc"), NULL, 0, &len));
}

int main(void) {
  small_promises();
  json();
  puts("promises: structs, descriptors, interrupts and JSON are as the header says");
  return 0;
}

/* What goes compressed and what goes plain, and what the counters say of it. */
#define _GNU_SOURCE
#include <string.h>

#include "check.h"
#include "client.h"

#define LEN 500

static char text[LEN];

static void send_it(void *conn) {
  wsg_server *server = ((void **)conn)[0];
  CHECK(wsg_conn_send_text(server, *(uint64_t *)((void **)conn)[1], text, LEN) >= 0);
}

static void twice(void *both) {
  wsg_server *server = ((void **)both)[0];
  ANSWERS(WSG_OK, wsg_server_plain(server, send_it, both));
  send_it(both); /* behind one inside: still plain */
}

/* The first byte of the next frame, whose payload is read. */
static int first_of_next(int client) {
  unsigned char header[4], payload[LEN];
  CHECK(recv(client, header, 2, MSG_WAITALL) == 2);
  size_t len = header[1];
  if (len == 126) {
    CHECK(recv(client, header + 2, 2, MSG_WAITALL) == 2);
    len = (size_t)header[2] << 8 | header[3];
  }
  CHECK(len <= LEN && recv(client, payload, len, MSG_WAITALL) == (ssize_t)len);
  CHECK((header[0] & 0x40) != 0 || (len == LEN && memcmp(payload, text, LEN) == 0));
  return header[0];
}

static void answer_it(void *replies) { ANSWERS(WSG_OK, wsg_replies_send_text(replies, text, LEN)); }

static wsg_server *plain_of;

static int on_message(void *userdata, uint64_t conn, const wsg_inline_message *message, wsg_replies *replies) {
  (void)userdata, (void)conn;
  if (message->data.len == 1)
    answer_it(replies);
  else
    ANSWERS(WSG_OK, wsg_server_plain(plain_of, answer_it, replies));
  return WSG_INLINE_DONE;
}

static wsg_options *compressing(void) {
  wsg_options *options = open_options(TEXT("raw"));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("compression"), TEXT("{\"threshold_bytes\":100}"), NULL));
  return options;
}

static int open_client(wsg_server *server, uint64_t *conn, const char *headers) {
  int client = client_open_with(wsg_server_address(server).data, headers);
  wsg_batch *batch;
  CHECK(client >= 0);
  const wsg_event *event = next_of(server, WSG_EVENT_OPEN, &batch);
  CHECK(event->body.open->compressed == (headers[0] != 0));
  *conn = event->conn;
  ANSWERS(WSG_OK, wsg_batch_free(batch));
  ANSWERS(WSG_NOTHING, wsg_server_next(server, 0, &batch)); /* inline handlers are next */
  return client;
}

static void commands(const char *headers, int compressed) {
  wsg_server *server = NULL;
  wsg_stats stats;
  uint64_t conn;
  ANSWERS(WSG_OK, wsg_server_start(compressing(), &server, NULL));
  int client = open_client(server, &conn, headers);
  void *both[] = {server, &conn};
  send_it(both);
  ANSWERS(WSG_OK, wsg_server_plain(server, twice, both));
  send_it(both);
  ANSWERS(WSG_OK, wsg_server_broadcast_all_text(server, text, LEN, NULL, 0));
  CHECK(first_of_next(client) == compressed);
  CHECK(first_of_next(client) == 0x81);
  CHECK(first_of_next(client) == 0x81);
  CHECK(first_of_next(client) == compressed);
  CHECK(first_of_next(client) == compressed);
  ANSWERS(WSG_OK, wsg_server_stats(server, &stats, sizeof stats));
  CHECK(stats.messages_compressed_out == (compressed == 0xc1 ? 3 : 0) && stats.messages_left_plain == 0);
  CHECK((stats.compression_saved_bytes > 3 * 400) == (compressed == 0xc1));
  ANSWERS(WSG_ERR_NULL, wsg_server_plain(server, NULL, NULL));
  ANSWERS(WSG_ERR_NULL, wsg_server_plain(NULL, send_it, NULL));
  close(client);
  ANSWERS(WSG_OK, wsg_server_free(server));
}

static void inline_answers(void) {
  wsg_options *options = compressing();
  uint64_t conn;
  ANSWERS(WSG_OK, wsg_options_set_inline(options, on_message, NULL));
  ANSWERS(WSG_OK, wsg_server_start(options, &plain_of, NULL));
  int client = open_client(plain_of, &conn, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
  CHECK(client_send(client, "a") == 0 && first_of_next(client) == 0xc1);
  CHECK(client_send(client, "ab") == 0 && first_of_next(client) == 0x81);
  CHECK(client_send(client, "a") == 0 && first_of_next(client) == 0xc1);
  close(client);
  ANSWERS(WSG_OK, wsg_server_free(plain_of));
}

int main(void) {
  for (int i = 0; i < LEN; i++) text[i] = "so that there is something to compress, "[i % 40];
  commands("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", 0xc1);
  commands("", 0x81);
  inline_answers();
  puts("compressed: as agreed, and plain where that is asked for");
  return 0;
}

/* Says which check failed, and ends the program. */
#ifndef WSGUARD_ABI_CHECK_H
#define WSGUARD_ABI_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "wsguard.h"

#define TEXT(literal) (literal), sizeof(literal) - 1

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

/* The call answers exactly this. */
#define ANSWERS(status, call)                                                                          \
  do {                                                                                                 \
    int answer = (call);                                                                               \
    if (answer != (status)) {                                                                          \
      fprintf(stderr, "%s:%d: %s answers %d %s, not %s\n", __FILE__, __LINE__, #call, answer,          \
              wsg_status_name(answer).data, #status);                                                  \
      exit(1);                                                                                         \
    }                                                                                                  \
  } while (0)

/* Options of a server on any port of this machine, for anybody. */
static inline wsg_options *open_options(const char *protocol, size_t protocol_len) {
  char json[16];
  wsg_options *options = NULL;
  ANSWERS(WSG_OK, wsg_options_new(&options));
  ANSWERS(WSG_OK, wsg_options_set_listen(options, TEXT("127.0.0.1:0"), NULL));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("threads"), TEXT("2"), NULL));
  ANSWERS(WSG_OK, wsg_options_add_origin(options, TEXT("https://app.example.com"), NULL));
  ANSWERS(WSG_OK, wsg_options_set_auth_none(options, NULL));
  int json_len = snprintf(json, sizeof json, "\"%.*s\"", (int)protocol_len, protocol);
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("protocol"), json, (size_t)json_len, NULL));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("handshakes_per_ip"), TEXT("null"), NULL));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("rate_limit"), TEXT("null"), NULL));
  return options;
}

/* The next event of this kind; its batch is the caller's. */
static inline const wsg_event *next_of(wsg_server *server, wsg_event_kind kind, wsg_batch **batch) {
  const wsg_event *events;
  size_t count;
  for (;;) {
    ANSWERS(WSG_OK, wsg_server_next(server, 5000, batch));
    ANSWERS(WSG_OK, wsg_batch_events(*batch, &events, &count));
    for (size_t i = 0; i < count; i++)
      if (events[i].kind == kind) return &events[i];
    ANSWERS(WSG_OK, wsg_batch_free(*batch));
  }
}

#endif

/* Options are refused where they are stated, and say why. */
#include <string.h>

#include "check.h"

/* What only two options get wrong together is the start's to find, whichever is stated first; what one of them gets right
 * with the other is never refused. */
static void setters_in_both_orders(void) {
  static const struct {
    const char *one, *its, *other, *others;
    int start;
  } pairs[] = {
      {"idle_timeout_ms", "500", "ping_interval_ms", "60000", WSG_ERR_CONTRADICTION},
      {"idle_timeout_ms", "0", "ping_interval_ms", "0", WSG_OK},
      {"events", "{\"e\": {\"cost\": 500}}", "rate_limit", "{\"per_second\": 1, \"burst\": 2}", WSG_ERR_CONTRADICTION},
      {"events", "{\"e\": {\"cost\": 500}}", "rate_limit", "{\"per_second\": 1, \"burst\": 600}", WSG_OK},
      {"trusted_proxies", "[\"0.0.0.0/0\", \"::/0\"]", "listen", "\"0.0.0.0:0\"", WSG_ERR_CONTRADICTION},
      {"trusted_proxies", "[\"10.0.0.0/8\"]", "proxy_protocol", "true", WSG_OK},
      {"proxy_protocol", "true", "trusted_proxies", "[]", WSG_ERR_CONTRADICTION},
      {"unix_mode", "\"0600\"", "listen", "\"127.0.0.1:0\"", WSG_ERR_CONTRADICTION},
      {"unix_mode", "\"0600\"", "listen", "\"unix:/tmp/wsguard-abi-setters.sock\"", WSG_OK},
      {"reuse_port", "true", "listen", "\"unix:/tmp/wsguard-abi-setters.sock\"", WSG_ERR_CONTRADICTION},
      {"reuse_port", "true", "listen", "\"127.0.0.1:0\"", WSG_OK},
      {"drain_close_code", "1001", "listen", "\"127.0.0.1:0\"", WSG_OK},
      {"protocol", "\"raw\"", "events", "{\"e\": {}}", WSG_ERR_CONTRADICTION},
      {"max_message_bytes", "1048576", "rate_limit", "{\"per_second\": 1, \"burst\": 1, \"bytes_per_second\": 1}", WSG_OK},
  };
  for (size_t i = 0; i < 2 * (sizeof pairs / sizeof *pairs); i++) {
    const char *name[] = {pairs[i / 2].one, pairs[i / 2].other}, *json[] = {pairs[i / 2].its, pairs[i / 2].others};
    wsg_options *options = NULL;
    wsg_server *server = NULL;
    wsg_error *error = NULL;
    ANSWERS(WSG_OK, wsg_options_from_json(TEXT("{\"origins\": [\"https://app.example.com\"], \"auth\": \"none\","
                                               "\"listen\": \"127.0.0.1:0\"}"), &options, NULL));
    for (size_t step = 0; step < 2; step++) {
      size_t at = i % 2 ^ step;
      wsg_status set = wsg_options_set(options, name[at], strlen(name[at]), json[at], strlen(json[at]), &error);
      if (set != WSG_OK) fprintf(stderr, "%s: %s\n", name[at], wsg_error_message(error).data);
      ANSWERS(WSG_OK, set);
    }
    wsg_status started = wsg_server_start(options, &server, &error);
    if (started != (wsg_status)pairs[i / 2].start) fprintf(stderr, "%s, %s\n", name[0], name[1]);
    ANSWERS((wsg_status)pairs[i / 2].start, started);
    if (started == WSG_OK) ANSWERS(WSG_OK, wsg_server_free(server));
    else ANSWERS(WSG_OK, wsg_error_free(error));
    ANSWERS(WSG_OK, wsg_options_free(options));
  }
}

/* Every setter says what is wrong where it is said, and writes its error whatever happens. */
static void setters(void) {
  static const char secret[] = "SECRET-of-some-length";
  wsg_options *options = NULL, *stale = NULL;
  wsg_error *error = (wsg_error *)&error;
#define REFUSES(status, option, call)                                  \
  do {                                                                 \
    error = (wsg_error *)&error; /* as a program would leave it */     \
    ANSWERS(status, call);                                             \
    CHECK(strncmp(wsg_error_option(error).data, option, sizeof option - 1) == 0 && \
          (sizeof option > 1) == (wsg_error_option(error).len > 0));   \
    CHECK(wsg_error_message(error).len > 0);                           \
    CHECK(strstr(wsg_error_message(error).data, "SECRET") == NULL);    \
    ANSWERS(WSG_OK, wsg_error_free(error));                            \
  } while (0)
  ANSWERS(WSG_OK, wsg_options_new(&options));
  ANSWERS(WSG_OK, wsg_options_new(&stale));
  ANSWERS(WSG_OK, wsg_options_free(stale));
  REFUSES(WSG_ERR_INVALID_OPTION, "listen", wsg_options_set_listen(options, TEXT("nonsense"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "listen", wsg_options_set_listen(options, "127.0.0.1:0", 3, &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "threads", wsg_options_set(options, TEXT("threads"), TEXT("18446744073709551615"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "origins", wsg_options_add_origin(options, TEXT("*"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "max_message_bytes", wsg_options_set(options, TEXT("max_message_bytes"), TEXT("0"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "protocol", wsg_options_set(options, TEXT("protocol"), TEXT("\"xml\""), &error));
  error = (wsg_error *)&error;
  ANSWERS(WSG_ERR_INVALID_OPTION, wsg_options_add_event(options, TEXT("e"), TEXT("{\"type\": \"nonsense\"}"), &error));
  CHECK(strncmp(wsg_error_option(error).data, "events.e", 8) == 0);
  ANSWERS(WSG_OK, wsg_error_free(error));
  REFUSES(WSG_ERR_INVALID_OPTION, "unix_mode", wsg_options_set(options, TEXT("unix_mode"), TEXT("\"0999\""), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "reuse_port", wsg_options_set(options, TEXT("reuse_port"), TEXT("1"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "drain_close_code", wsg_options_set(options, TEXT("drain_close_code"), TEXT("1000"), &error));
  /* What is wrong with an event is found although its cost alone would be too much for the rate limit. */
  REFUSES(WSG_ERR_INVALID_OPTION, "events.e",
          wsg_options_set(options, TEXT("events"), TEXT("{\"e\": {\"cost\": 1000, \"schema\": {\"type\": \"nonsense\"}}}"), &error));
  REFUSES(WSG_ERR_NULL, "", wsg_options_set_listen(options, NULL, 0, &error));
  REFUSES(WSG_ERR_UTF8, "", wsg_options_set_listen(options, TEXT("\xff"), &error));
  REFUSES(WSG_ERR_NULL, "", wsg_options_set_listen(NULL, TEXT("127.0.0.1:0"), &error));
  REFUSES(WSG_ERR_HANDLE, "", wsg_options_set_listen(stale, TEXT("127.0.0.1:0"), &error));
  REFUSES(WSG_ERR_HANDLE, "", wsg_options_set(stale, TEXT("listen"), TEXT("1"), &error));
  REFUSES(WSG_ERR_UTF8, "", wsg_options_set(options, TEXT("listen"), TEXT("\xff"), &error));
  REFUSES(WSG_ERR_NULL, "", wsg_options_from_json(NULL, 0, &stale, &error));
  REFUSES(WSG_ERR_UTF8, "", wsg_options_from_json(TEXT("\xff"), &stale, &error));
  REFUSES(WSG_ERR_HANDLE, "", wsg_server_start((wsg_options *)&options, &(wsg_server *){NULL}, &error));
  REFUSES(WSG_ERR_NULL, "", wsg_server_start(options, NULL, &error));
  REFUSES(WSG_ERR_HANDLE, "", wsg_server_reload_tls((wsg_server *)&options, &error));
  /* Of a key that is given twice one would be forgotten; no schema is NULL, not a text. */
  REFUSES(WSG_ERR_INVALID_OPTION, "events.e",
          wsg_options_add_event(options, TEXT("e"), TEXT("{\"type\": \"string\", \"type\": \"number\"}"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "events.e", wsg_options_add_event(options, TEXT("e"), TEXT("null"), &error));
  REFUSES(WSG_ERR_INVALID_OPTION, "events",
          wsg_options_set(options, TEXT("events"),
                          TEXT("{\"e\": {\"schema\": {\"required\": [\"a\"], \"required\": []}}}"), &error));
  /* `null` states nothing: what is added afterwards is not lost. */
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("origins"), TEXT("null"), &error));
  ANSWERS(WSG_OK, wsg_options_add_origin(options, TEXT("https://app.example.com"), &error));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("auth"), TEXT("null"), &error));
  REFUSES(WSG_ERR_MISSING_OPTION, "auth", wsg_server_start(options, &(wsg_server *){NULL}, &error));
  /* A policy is not replaced by adding to it, nor by another way to say it. */
  ANSWERS(WSG_OK, wsg_options_set_auth_callback(options, &error));
  CHECK(error == NULL);
  REFUSES(WSG_ERR_CONTRADICTION, "auth", wsg_options_add_token(options, TEXT(secret), TEXT("alice"), &error));
  REFUSES(WSG_ERR_CONTRADICTION, "auth", wsg_options_set_auth_none(options, &error));
  ANSWERS(WSG_OK, wsg_options_set_auth_callback(options, &error));
  ANSWERS(WSG_OK, wsg_options_set(options, TEXT("auth"),
                                  TEXT("{\"tokens\": [{\"token\": \"the-first-of-many\", \"user\": \"alice\"}]}"), &error));
  for (int i = 0; i < 2000; i++) {
    char token[32];
    ANSWERS(WSG_OK, wsg_options_add_token(options, token, (size_t)snprintf(token, sizeof token, "a-token-of-length-%d", i),
                                          TEXT("alice"), &error));
  }
  REFUSES(WSG_ERR_CONTRADICTION, "auth", wsg_options_set_auth_none(options, &error));
  ANSWERS(WSG_OK, wsg_options_free(options));
}

int main(void) {
  setters();
  setters_in_both_orders();
  puts("setters: what is wrong is said where it is stated");
  return 0;
}

/* A project of somebody else: starts a server with the library that was installed. */
#include <stdio.h>
#include <string.h>
#include <wsguard.h>

int main(void) {
  const char *json = "{\"listen\": \"127.0.0.1:0\", \"origins\": [\"https://app.example.com\"], \"auth\": \"none\"}";
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  int failed = wsg_abi_check(WSG_ABI_VERSION) != WSG_OK ||
               wsg_options_from_json(json, strlen(json), &options, NULL) != WSG_OK ||
               wsg_server_start(options, &server, NULL) != WSG_OK;
  if (!failed) printf("wsguard %s on %s\n", wsg_version().data, wsg_server_address(server).data);
  wsg_server_free(server);
  wsg_options_free(options);
  return failed;
}

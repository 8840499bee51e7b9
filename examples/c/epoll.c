/*
 * An event loop of one's own: epoll waits for the server and for SIGINT and SIGTERM, which drain it. The application also
 * decides who comes in (`auth: "callback"`).
 *
 *   cc epoll.c -o epoll $(pkg-config --cflags --libs wsguard) && ./epoll
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <wsguard.h>

#define TEXT(literal) (literal), sizeof(literal) - 1

static void on_event(wsg_server *server, const wsg_event *event) {
  switch (event->kind) {
    case WSG_EVENT_UPGRADE: {
      /* `token` is what `token_sources` found. May also be answered later, from any thread: the ticket is only a number. */
      wsg_str token = event->body.upgrade->token;
      if (token.len == 9 && memcmp(token.data, "change-me", 9) == 0)
        wsg_ticket_accept(server, event->body.upgrade->ticket, TEXT("alice"), WSG_NEVER);
      else
        wsg_ticket_reject(server, event->body.upgrade->ticket, 401);
      break;
    }
    case WSG_EVENT_TEXT:
      wsg_conn_send_text(server, event->conn, event->body.payload.data, event->body.payload.len);
      break;
    default:
      break;
  }
}

/* Takes what there is; whether the server goes on. */
static bool take_events(wsg_server *server) {
  wsg_batch *batch;
  const wsg_event *events;
  size_t count;
  wsg_status status;
  while ((status = wsg_server_next(server, 0, &batch)) == WSG_OK) {
    wsg_batch_events(batch, &events, &count);
    for (size_t i = 0; i < count; i++) on_event(server, &events[i]);
    wsg_batch_free(batch);
  }
  return status == WSG_NOTHING;
}

int main(int argc, char **argv) {
  const char *address = argc > 1 ? argv[1] : "127.0.0.1:8080";
  wsg_options *options = NULL;
  wsg_server *server = NULL;
  wsg_error *error = NULL;
  sigset_t signals;
  int fd = -1;

  wsg_options_new(&options);
  if (wsg_options_set_listen(options, address, strlen(address), &error) < 0 ||
      wsg_options_add_origin(options, TEXT("http://localhost:3000"), &error) < 0 ||
      wsg_options_set_auth_callback(options, &error) < 0 || wsg_options_set(options, TEXT("protocol"), TEXT("\"raw\""), &error) < 0 ||
      wsg_server_start(options, &server, &error) < 0) {
    fprintf(stderr, "%s\n", wsg_error_message(error).data);
    return wsg_error_free(error), 1;
  }
  wsg_options_free(options);
  wsg_server_fd(server, &fd);

  sigemptyset(&signals), sigaddset(&signals, SIGINT), sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC), loop = epoll_create1(EPOLL_CLOEXEC);
  epoll_ctl(loop, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
  epoll_ctl(loop, EPOLL_CTL_ADD, signal_fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = signal_fd});

  printf("listening on %s\n", wsg_server_address(server).data);
  fflush(stdout);
  for (bool goes_on = take_events(server); goes_on;) {
    struct epoll_event ready;
    if (epoll_wait(loop, &ready, 1, -1) != 1) continue;
    if (ready.data.fd == fd) {
      goes_on = take_events(server);
    } else {
      epoll_ctl(loop, EPOLL_CTL_DEL, signal_fd, NULL);
      wsg_server_drain(server, WSG_DEFAULT_DRAIN_TIMEOUT_MS, 500);
    }
  }
  wsg_server_free(server);
  close(signal_fd), close(loop);
  return 0;
}

/* The smallest WebSocket client: enough to give a server something to do. */
#ifndef WSGUARD_ABI_CLIENT_H
#define WSGUARD_ABI_CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connects and asks for this target, as a page of this origin, with these headers besides; -1 when the server refuses. */
static inline int client_open_at(const char *address, const char *target, const char *origin, const char *headers) {
  struct sockaddr_in to;
  char request[512], answer[1024];
  const char *port = strrchr(address, ':');
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct timeval patience = {5, 0};
  memset(&to, 0, sizeof to);
  to.sin_family = AF_INET;
  to.sin_port = htons((unsigned short)atoi(port + 1));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  snprintf(request, sizeof request,
           "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: %s\r\n%s\r\n",
           target, address, origin, headers);
  ssize_t got = -1;
  if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
      send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request))
    /* The head and not a byte more: a frame may come with it. */
    for (got = 0; (size_t)got < sizeof answer && recv(fd, answer + got, 1, 0) == 1;)
      if (++got >= 4 && memcmp(answer + got - 4, "\r\n\r\n", 4) == 0) break;
  if (got > 12 && memcmp(answer, "HTTP/1.1 101", 12) == 0) return fd;
  close(fd);
  return -1;
}

static inline int client_open_with(const char *address, const char *headers) {
  return client_open_at(address, "/", "https://app.example.com", headers);
}

static inline int client_open(const char *address) { return client_open_with(address, ""); }

/* Sends a short text, masked with zeroes. */
static inline int client_send(int fd, const char *text) {
  size_t len = strlen(text);
  char frame[6 + 125] = {(char)0x81, (char)(0x80 | len)};
  memcpy(frame + 6, text, len);
  return send(fd, frame, 6 + len, MSG_NOSIGNAL) == (ssize_t)(6 + len) ? 0 : -1;
}

/* Waits for a text and compares it; 0: it came. */
static inline int client_expect(int fd, const char *text) {
  char frame[2 + 125];
  size_t want = 2 + strlen(text);
  return recv(fd, frame, want, MSG_WAITALL) == (ssize_t)want && memcmp(frame + 2, text, want - 2) == 0 ? 0 : -1;
}

/* Whether a whole close frame is among what a server has sent. */
static inline int client_is_closed(const char *received, size_t len) {
  for (size_t at = 0, size; at + 4 <= len; at += size) {
    const unsigned char *frame = (const unsigned char *)received + at;
    size = frame[1] < 126 ? 2u + frame[1] : 4u + frame[2] * 256u + frame[3];
    if (frame[0] == 0x88) return at + size <= len;
  }
  return 0;
}

/* A client on a thread of its own: sends its frames in one write, and keeps what it receives until a close frame or the end. */
struct later {
  const char *address, *headers, *frames;
  size_t len;
  char received[4096];
  size_t received_len;
};

static inline void *client_run(void *userdata) {
  struct later *later = (struct later *)userdata;
  int fd = client_open_with(later->address, later->headers);
  if (fd < 0 || send(fd, later->frames, later->len, MSG_NOSIGNAL) != (ssize_t)later->len) return NULL;
  while (later->received_len < sizeof later->received && !client_is_closed(later->received, later->received_len)) {
    ssize_t got = recv(fd, later->received + later->received_len, sizeof later->received - later->received_len, 0);
    if (got <= 0) break;
    later->received_len += (size_t)got;
  }
  close(fd);
  return later;
}

static inline pthread_t client_later(struct later *later) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, client_run, later) != 0) abort();
  return thread;
}

/* How much it has received. */
static inline size_t client_join(pthread_t thread, struct later *later) {
  pthread_join(thread, NULL);
  return later->received_len;
}

#endif

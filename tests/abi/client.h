/* The smallest WebSocket client: enough to give a server something to do. */
#ifndef WSGUARD_ABI_CLIENT_H
#define WSGUARD_ABI_CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connects and upgrades; -1 when the server does not want it. */
static inline int client_open(const char *address) {
  struct sockaddr_in to = {.sin_family = AF_INET};
  char request[512], answer[1024];
  const char *port = strrchr(address, ':');
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct timeval patience = {5, 0};
  to.sin_port = htons((unsigned short)atoi(port + 1));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  snprintf(request, sizeof request,
           "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.example.com\r\n\r\n",
           address);
  ssize_t got = -1;
  if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
      send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request))
    got = recv(fd, answer, sizeof answer - 1, 0);
  if (got > 12 && memcmp(answer, "HTTP/1.1 101", 12) == 0) return fd;
  close(fd);
  return -1;
}

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

#endif

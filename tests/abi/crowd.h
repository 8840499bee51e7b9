/* Random peers: several users, legal and illegal acts, ends of every kind. For C and C++; what a seed did it does again, as
 * far as threads allow. */
#ifndef WSGUARD_ABI_CROWD_H
#define WSGUARD_ABI_CROWD_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Limits that are met, times that are short. */
#define CROWD_LIMITS                                                                                                    \
  "\"listen\": \"127.0.0.1:0\", \"threads\": 2, \"origins\": [\"https://app.example.com\"], \"auth\": \"callback\","    \
  "\"rate_limit\": {\"per_second\": 200, \"burst\": 60, \"queue\": 20, \"bytes_per_second\": 400000, \"key\": \"user\"}," \
  "\"handshakes_per_ip\": null, \"max_connections_per_ip\": 60, \"max_connections_per_user\": 12, \"max_pending_auth\": 12," \
  "\"max_inbox_bytes\": 300000, \"max_outbox_bytes\": 60000, \"max_message_bytes\": 40000, \"max_fragments\": 20,"      \
  "\"auth_timeout_ms\": 300, \"handshake_timeout_ms\": 500, \"message_timeout_ms\": 400, \"close_timeout_ms\": 150,"    \
  "\"ping_interval_ms\": 100, \"idle_timeout_ms\": 1200"

enum { CROWD_USERS = 4, CROWD_PEERS = 6 };

struct dice {
  uint64_t state;
};

static inline struct dice dice_of(uint64_t seed, uint64_t who) {
  struct dice dice;
  dice.state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (who + 1) * UINT64_C(0xd1342543de82ef95);
  if (dice.state == 0) dice.state = 1;
  return dice;
}

static inline uint64_t roll(struct dice *dice, uint64_t sides) {
  dice->state ^= dice->state << 13;
  dice->state ^= dice->state >> 7;
  dice->state ^= dice->state << 17;
  return dice->state % sides;
}

static inline uint64_t crowd_now_ms(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void crowd_pause(uint64_t ms) {
  struct timespec pause;
  pause.tv_sec = (time_t)(ms / 1000), pause.tv_nsec = (long)(ms % 1000) * 1000000;
  nanosleep(&pause, NULL);
}

struct crowd {
  const char *address;
  uint64_t seed;
  int is_raw, over;
  unsigned long opened, refused;
  pthread_t threads[CROWD_PEERS];
};

struct crowd_peer {
  struct crowd *crowd;
  struct dice dice;
  int fd;
  size_t len;
  char bytes[1 << 16];
};

static inline void crowd_frame(struct crowd_peer *peer, int first, const char *payload, size_t len, int is_masked) {
  unsigned char head[14];
  size_t at = 0, i;
  if (peer->len + len + sizeof head > sizeof peer->bytes) return;
  head[at++] = (unsigned char)first;
  if (len < 126) {
    head[at++] = (unsigned char)(len | (is_masked ? 0x80 : 0));
  } else {
    head[at++] = (unsigned char)(126 | (is_masked ? 0x80 : 0));
    head[at++] = (unsigned char)(len >> 8), head[at++] = (unsigned char)len;
  }
  for (i = 0; is_masked && i < 4; i++) head[at++] = 0;
  memcpy(peer->bytes + peer->len, head, at);
  if (len > 0) memcpy(peer->bytes + peer->len + at, payload, len);
  peer->len += at + len;
}

static inline void crowd_text(struct crowd_peer *peer, const char *text) { crowd_frame(peer, 0x81, text, strlen(text), 1); }

static inline void crowd_message(struct crowd_peer *peer) {
  static const size_t sizes[] = {0, 10, 200, 5000, 20000};
  static const char head[] = "{\"event\":\"any\",\"data\":\"", tail[] = "\"}";
  char text[20100];
  size_t size = sizes[roll(&peer->dice, 5)];
  memcpy(text, head, sizeof head - 1);
  memset(text + sizeof head - 1, 'x', size);
  memcpy(text + sizeof head - 1 + size, tail, sizeof tail - 1);
  if (!peer->crowd->is_raw && roll(&peer->dice, 3) == 0) crowd_text(peer, "{\"event\":\"echo\",\"data\":{\"n\":1},\"id\":7}");
  else crowd_frame(peer, peer->crowd->is_raw && size == 200 ? 0x82 : 0x81, text, sizeof head + sizeof tail - 2 + size, 1);
}

/* One thing that a peer may send, legal more often than not. */
static inline void crowd_say(struct crowd_peer *peer) {
  size_t i, times;
  switch (roll(&peer->dice, 48)) {
    case 0: for (times = roll(&peer->dice, 60); times > 0; times--) crowd_text(peer, "{\"event\":\"any\"}"); break;
    case 1: crowd_frame(peer, 0x89, "ping", 4, 1); break;
    case 2: crowd_frame(peer, 0x8a, "pong", 4, 1); break;
    case 3: for (i = 0; i < 60; i++) crowd_frame(peer, 0x89, "flood", 5, 1); break;
    case 4:
      crowd_frame(peer, 0x01, "{\"event\":", 9, 1);
      for (times = roll(&peer->dice, 25); times > 0; times--) crowd_frame(peer, 0x00, "", 0, 1);
      crowd_frame(peer, 0x80, "\"any\"}", 6, 1);
      break;
    case 5: crowd_frame(peer, 0x88, "\x03\xe8", 2, 1); break;
    case 6: crowd_frame(peer, 0x82, "binary", 6, 1); break;
    case 7: crowd_text(peer, "{\"event\":\"none\"}"); break;
    case 8: crowd_text(peer, "{\"event\":\"echo\",\"data\":1}"); break;
    case 9: crowd_frame(peer, 0x81, "unmasked", 8, 0); break;
    case 10: crowd_frame(peer, 0x81, "\xff\xfe", 2, 1); break;
    case 11: crowd_frame(peer, 0x01, "never finished", 14, 1); break;
    case 12:
      for (times = roll(&peer->dice, 40); times > 0; times--)
        if (peer->len < sizeof peer->bytes) peer->bytes[peer->len++] = (char)roll(&peer->dice, 256);
      break;
    default: crowd_message(peer);
  }
}

static inline int crowd_connect(struct crowd_peer *peer) {
  static const char *const tokens[] = {"late", "twice", "hang", "reject", "boom", "soon", "anonymous"};
  char token[16], request[4096], answer[2048], path[1024];
  struct sockaddr_in to;
  struct timeval patience;
  size_t which = roll(&peer->dice, 24), got = 0;
  int fd = socket(AF_INET, SOCK_STREAM, 0), len, is_other = roll(&peer->dice, 20) == 0;
  memset(&to, 0, sizeof to);
  to.sin_family = AF_INET;
  to.sin_port = htons((unsigned short)atoi(strrchr(peer->crowd->address, ':') + 1));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  patience.tv_sec = 0, patience.tv_usec = 700000;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (which < 7) snprintf(token, sizeof token, "%s", tokens[which]);
  else snprintf(token, sizeof token, "user-%d", (int)roll(&peer->dice, CROWD_USERS));
  memset(path, 'p', sizeof path);
  path[roll(&peer->dice, sizeof path - 1)] = 0, path[sizeof path - 1] = 0;
  len = snprintf(request, sizeof request,
                 "GET /%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://%s.example.com\r\n"
                 "X-Auth-Token: %s\r\nCookie: a=1; b=2\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                 "Sec-WebSocket-Version: 13\r\n\r\n",
                 path, is_other ? "evil" : "app", token);
  if (roll(&peer->dice, 20) == 0) len = (int)roll(&peer->dice, (uint64_t)len); /* a part of it, and no more */
  if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && send(fd, request, (size_t)len, MSG_NOSIGNAL) == len) {
    if (roll(&peer->dice, 12) == 0) goto leave; /* before the answer */
    while (got < sizeof answer && recv(fd, answer + got, 1, 0) == 1)
      if (++got >= 4 && memcmp(answer + got - 4, "\r\n\r\n", 4) == 0) break;
    if (got > 12 && memcmp(answer, "HTTP/1.1 101", 12) == 0) {
      __atomic_fetch_add(&peer->crowd->opened, 1, __ATOMIC_RELAXED);
      return fd;
    }
    __atomic_fetch_add(&peer->crowd->refused, 1, __ATOMIC_RELAXED);
  }
leave:
  close(fd);
  return -1;
}

/* Whether the connection goes on. */
static inline int crowd_act(struct crowd_peer *peer) {
  char sink[1 << 14];
  switch (roll(&peer->dice, 8)) {
    case 0: crowd_pause(roll(&peer->dice, 20)); return 1;
    case 1:
    case 2: { /* reads what is there; some never do for long */
      ssize_t got = recv(peer->fd, sink, sizeof sink, MSG_DONTWAIT);
      return got != 0;
    }
    default:
      peer->len = 0;
      crowd_say(peer);
      crowd_pause(roll(&peer->dice, 4));
      return send(peer->fd, peer->bytes, peer->len, MSG_NOSIGNAL) == (ssize_t)peer->len;
  }
}

/* Until the server has left, too. One that it has paused it does not hear of. */
static inline void crowd_wait(struct crowd_peer *peer) {
  char sink[1 << 14];
  uint64_t until = crowd_now_ms(CLOCK_MONOTONIC) + 1000;
  while (recv(peer->fd, sink, sizeof sink, 0) > 0 && crowd_now_ms(CLOCK_MONOTONIC) < until) continue;
}

static inline void crowd_leave(struct crowd_peer *peer) {
  struct linger reset;
  reset.l_onoff = 1, reset.l_linger = 0;
  switch (roll(&peer->dice, 4)) {
    case 0: setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset); break;
    case 1:
      shutdown(peer->fd, SHUT_WR);
      crowd_wait(peer);
      break;
    case 2:
      peer->len = 0;
      crowd_frame(peer, 0x88, "\x03\xe8", 2, 1);
      if (send(peer->fd, peer->bytes, peer->len, MSG_NOSIGNAL) > 0) crowd_wait(peer);
      break;
    default: break;
  }
  close(peer->fd);
}

static inline void *crowd_run(void *userdata) {
  struct crowd_peer *peer = (struct crowd_peer *)userdata;
  while (!__atomic_load_n(&peer->crowd->over, __ATOMIC_ACQUIRE)) {
    uint64_t acts = roll(&peer->dice, 40);
    peer->fd = crowd_connect(peer);
    if (peer->fd < 0) continue;
    while (acts-- > 0 && !__atomic_load_n(&peer->crowd->over, __ATOMIC_ACQUIRE) && crowd_act(peer)) continue;
    crowd_leave(peer);
  }
  free(peer);
  return NULL;
}

static inline void crowd_come(struct crowd *crowd, const char *address, uint64_t seed, int is_raw) {
  uint64_t i;
  memset(crowd, 0, sizeof *crowd);
  crowd->address = address, crowd->seed = seed, crowd->is_raw = is_raw;
  for (i = 0; i < CROWD_PEERS; i++) {
    struct crowd_peer *peer = (struct crowd_peer *)calloc(1, sizeof *peer);
    if (peer == NULL) abort();
    peer->crowd = crowd, peer->dice = dice_of(seed, 100 + i);
    if (pthread_create(&crowd->threads[i], NULL, crowd_run, peer) != 0) abort();
  }
}

static inline void crowd_go(struct crowd *crowd) {
  size_t i;
  __atomic_store_n(&crowd->over, 1, __ATOMIC_RELEASE);
  for (i = 0; i < CROWD_PEERS; i++) pthread_join(crowd->threads[i], NULL);
}

#endif

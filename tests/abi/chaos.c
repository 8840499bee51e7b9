/* Everything at once through the C API: random peers, handlers that do what they like and fail, threads that call every
 * command. Afterwards everything that was taken is given back, nothing was handled of a connection that its handler had
 * closed, and the server ends. chaos [SECONDS] [SEED] */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "crowd.h"

enum { COMMANDERS = 2, RECENT = 32, LATE = 16 };

static const char json_policy[] =
    "{" CROWD_LIMITS ", \"events\": {\"any\": {}, \"echo\": {\"schema\": {\"type\": \"object\"}}}}";
static const char raw_policy[] = "{" CROWD_LIMITS ", \"protocol\": \"raw\"}";

/* What the application keeps of a connection; its thread alone looks at it. */
struct member {
  uint64_t conn;
  int user; /* -1: nobody */
  unsigned epoch;
  bool closed;
};

/* One server, the application's thread and those that only give commands. */
struct play {
  wsg_server *server;
  bool is_raw;
  uint64_t seed;
  struct dice dice;              /* the application's */
  unsigned epochs[CROWD_USERS];  /* how often it has disconnected a user */
  unsigned long opens, kept, closes, messages, violations, drained, passed_over, failures;
  atomic_ulong inlines, commands;
  _Atomic uint64_t recent[RECENT], late[LATE];
  atomic_bool over;
};

static wsg_str room_of(struct dice *dice) {
  static const char *const rooms[] = {"kitchen", "hall", "attic"};
  const char *room = rooms[roll(dice, 3)];
  return (wsg_str){room, strlen(room)};
}

static wsg_str user_of(size_t user) {
  static const char *const users[CROWD_USERS] = {"user-0", "user-1", "user-2", "user-3"};
  return (wsg_str){users[user], 6};
}

#define VIEW(text) (text).data, (text).len /* evaluated twice */

/* One thing that any thread may do to any connection. */
static int command(struct play *play, struct dice *dice, uint64_t conn) {
  wsg_server *server = play->server;
  wsg_str room = room_of(dice);
  static char large[30000];
  switch (roll(dice, 26)) {
    case 0: return wsg_conn_send_text(server, conn, TEXT("hello"));
    case 1: return wsg_conn_send_binary(server, conn, large, roll(dice, sizeof large));
    case 2: return wsg_conn_emit(server, conn, TEXT("news"), TEXT("[1,2]"));
    case 3: return wsg_conn_reply(server, conn, TEXT("7"), TEXT("answer"), TEXT("1"));
    case 4: return wsg_conn_reply_error(server, conn, TEXT("\"id\""), TEXT("answer"), TEXT("null"));
    case 5: return wsg_conn_reply_unchecked(server, conn, NULL, 0, TEXT("answer"), TEXT("1"));
    case 6: return wsg_conn_join(server, conn, VIEW(room));
    case 7: return wsg_conn_leave(server, conn, VIEW(room));
    case 8: return wsg_server_broadcast(server, VIEW(room), TEXT("news"), TEXT("1"), &conn, roll(dice, 2));
    case 9: return wsg_server_broadcast_text(server, VIEW(room), TEXT("news"), &conn, 1);
    case 10: return wsg_server_broadcast_binary(server, VIEW(room), large, roll(dice, sizeof large), NULL, 0);
    case 11: return wsg_server_broadcast_all(server, TEXT("news"), TEXT("{}"), NULL, 0);
    case 12: return wsg_server_broadcast_all_text(server, TEXT("news"), NULL, 0);
    case 13: return wsg_server_broadcast_all_binary(server, TEXT("news"), &conn, 1);
    case 14: return wsg_conn_pause(server, conn);
    case 15: case 16: return wsg_conn_resume(server, conn);
    case 17: return wsg_server_flush(server);
    case 18: return wsg_conn_is_open(server, conn);
    default: return play->is_raw ? wsg_conn_send_text(server, conn, TEXT("again"))
                                 : wsg_conn_emit(server, conn, TEXT("again"), NULL, 0);
  }
}

/* --- the application's thread --------------------------------------------------------------------------------------- */

static int on_event(void *userdata, wsg_server *server, const wsg_event *event) {
  struct play *play = userdata;
  CHECK(server == play->server && event->kind >= WSG_EVENT_UPGRADE && event->kind <= WSG_EVENT_UPGRADE_GONE);
  if (roll(&play->dice, 300) != 0) return 0;
  /* It fails, also at an end. Messages of this connection must not come any more. */
  struct member *member = event->conn == 0 ? NULL : wsg_conn_data(server, event->conn);
  if (member != NULL) member->closed = true;
  play->failures++;
  return 1;
}

static int on_upgrade(void *userdata, wsg_server *server, const wsg_upgrade *upgrade) {
  struct play *play = userdata;
  char token[16] = "";
  CHECK(upgrade->token.len < sizeof token && upgrade->cookies_len == 2 && upgrade->headers_len >= 8);
  memcpy(token, VIEW(upgrade->token));
  if (strcmp(token, "hang") == 0) return 0;
  if (strcmp(token, "boom") == 0) return 1;
  if (strcmp(token, "reject") == 0) return wsg_ticket_reject(server, upgrade->ticket, 418), 0;
  if (strcmp(token, "anonymous") == 0) return wsg_ticket_accept_anonymous(server, upgrade->ticket, WSG_NEVER), 0;
  if (strcmp(token, "late") == 0) return atomic_store(&play->late[roll(&play->dice, LATE)], upgrade->ticket), 0;
  if (strcmp(token, "soon") == 0) {
    uint64_t end = crowd_now_ms(CLOCK_REALTIME) + roll(&play->dice, 200);
    wsg_ticket_accept(server, upgrade->ticket, VIEW(user_of(0)), end);
    return 0;
  }
  bool twice = strcmp(token, "twice") == 0;
  wsg_ticket_accept(server, upgrade->ticket, VIEW(user_of(twice ? 1 : (size_t)(token[5] - '0'))), WSG_NEVER);
  if (twice) ANSWERS(WSG_ERR_TICKET_SETTLED, wsg_ticket_reject(server, upgrade->ticket, 401));
  return 0;
}

static int on_open(void *userdata, wsg_server *server, uint64_t conn, const wsg_open *open) {
  struct play *play = userdata;
  struct member *member = calloc(1, sizeof *member);
  CHECK(member != NULL && open->ticket != 0 && open->ip.len > 0 && open->path.data[0] == '/');
  member->conn = conn, member->user = open->user.data == NULL ? -1 : open->user.data[5] - '0';
  if (member->user >= 0) member->epoch = play->epochs[member->user];
  play->opens++;
  atomic_store(&play->recent[roll(&play->dice, RECENT)], conn);
  if (wsg_conn_set_data(server, conn, member) < 0) return free(member), 0;
  play->kept++;
  wsg_str room = room_of(&play->dice);
  wsg_conn_join(server, conn, VIEW(room));
  if (roll(&play->dice, 40) != 0) return 0;
  member->closed = true;
  play->failures++;
  return 1;
}

/* A message of a connection that this thread has not closed, of a user whom it has not disconnected since. */
static int handle(struct play *play, uint64_t conn) {
  struct member *member = wsg_conn_data(play->server, conn);
  play->messages++;
  CHECK(member == NULL || (member->conn == conn && !member->closed));
  CHECK(member == NULL || member->user < 0 || member->epoch == play->epochs[member->user]);
  for (uint64_t times = roll(&play->dice, 3); times > 0; times--) command(play, &play->dice, conn);
  uint64_t act = roll(&play->dice, 60);
  if (act > 4) return 0;
  if (act == 0 && member != NULL && member->user >= 0) {
    ANSWERS(WSG_OK, wsg_server_disconnect_user(play->server, VIEW(user_of((size_t)member->user))));
    play->epochs[member->user]++;
    CHECK(!wsg_conn_is_open(play->server, conn));
    return 0;
  }
  if (member != NULL) member->closed = true;
  if (act == 1) return play->failures++, 1;
  if (act == 2) wsg_conn_fail(play->server, conn);
  else if (act == 3 && !play->is_raw) wsg_conn_report_invalid_data(play->server, conn, TEXT("any"));
  else wsg_conn_close(play->server, conn, 4000, TEXT("enough"));
  CHECK(!wsg_conn_is_open(play->server, conn));
  return 0;
}

static int on_message(void *userdata, wsg_server *server, uint64_t conn, const wsg_message *message) {
  struct play *play = userdata;
  CHECK(message->event.len >= 3 && message->data.len > 0);
  if (message->id.data != NULL) wsg_conn_reply(server, conn, VIEW(message->id), TEXT("echo"), VIEW(message->data));
  return handle(play, conn);
}

static int on_payload(void *userdata, wsg_server *server, uint64_t conn, const char *payload, size_t len) {
  unsigned sum = 0;
  for (size_t i = 0; i < len; i++) sum += (unsigned char)payload[i];
  CHECK(sum > 0 || len == 0);
  wsg_conn_send_text(server, conn, TEXT("got it"));
  return handle(userdata, conn);
}

static int on_close(void *userdata, wsg_server *server, uint64_t conn, const wsg_close *closed) {
  struct play *play = userdata;
  struct member *member = wsg_conn_data(server, conn);
  CHECK(closed->code >= 1000 && closed->code < 5000 && (member == NULL || member->conn == conn));
  free(member);
  play->closes += member != NULL;
  return roll(&play->dice, 20) == 0; /* its failure changes nothing any more */
}

static int on_violation(void *userdata, wsg_server *server, uint64_t conn, const wsg_violation *violation) {
  struct play *play = userdata;
  (void)server, (void)conn;
  CHECK(wsg_verdict_name(violation->code).len > 0 && violation->detail.data != NULL && violation->detail.len > 0);
  play->violations++;
  return 0;
}

static int on_drained(void *userdata, wsg_server *server, uint64_t conn) {
  struct play *play = userdata;
  struct member *member = wsg_conn_data(server, conn);
  CHECK(member == NULL || !member->closed);
  play->drained++;
  return roll(&play->dice, 50) == 0 && (member == NULL || (member->closed = true));
}

static wsg_handlers handlers_of(const struct play *play) {
  wsg_handlers handlers = {.size = sizeof handlers, .event = on_event, .upgrade = on_upgrade, .open = on_open,
                           .close = on_close, .violation = on_violation, .drained = on_drained};
  if (play->is_raw) handlers.text = on_payload, handlers.binary = on_payload;
  else handlers.message = on_message;
  return handlers;
}

/* What `wsg_server_run` does for an event, by hand. */
static int dispatch(struct play *play, const wsg_event *event) {
  switch (event->kind) {
    case WSG_EVENT_UPGRADE: return on_upgrade(play, play->server, event->body.upgrade);
    case WSG_EVENT_OPEN: return on_open(play, play->server, event->conn, event->body.open);
    case WSG_EVENT_MESSAGE: return on_message(play, play->server, event->conn, event->body.message);
    case WSG_EVENT_TEXT: case WSG_EVENT_BINARY:
      return on_payload(play, play->server, event->conn, event->body.payload.data, event->body.payload.len);
    case WSG_EVENT_CLOSE: return on_close(play, play->server, event->conn, event->body.close);
    case WSG_EVENT_VIOLATION: return on_violation(play, play->server, event->conn, event->body.violation);
    case WSG_EVENT_DRAINED: return on_drained(play, play->server, event->conn);
    case WSG_EVENT_PONG: CHECK(event->conn != 0 && event->body.pong != NULL); return 0;
    case WSG_EVENT_UPGRADE_GONE: CHECK(event->conn == 0 && event->body.upgrade_gone->ticket != 0); return 0;
    default: CHECK(false); return 1;
  }
}

static void by_hand(void *userdata) {
  struct play *play = ((void **)userdata)[0];
  wsg_batch *batch = ((void **)userdata)[1];
  const wsg_event *events;
  size_t count;
  ANSWERS(WSG_OK, wsg_batch_events(batch, &events, &count));
  for (size_t i = 0; i < count; i++) {
    const wsg_event *event = &events[i];
    if (wsg_event_is_stale(play->server, event)) play->passed_over++;
    else if (dispatch(play, event) == 0) continue;
    else if (event->kind == WSG_EVENT_UPGRADE) wsg_ticket_unavailable(play->server, event->body.upgrade->ticket);
    else wsg_conn_fail(play->server, event->conn);
  }
}

/* Takes events in every way there is, until the server has stopped. */
static void *serve(void *userdata) {
  struct play *play = userdata;
  wsg_handlers handlers = handlers_of(play);
  for (wsg_status status = WSG_OK; status != WSG_STOPPED;) {
    wsg_batch *batch = NULL;
    wsg_error *error = NULL;
    switch (roll(&play->dice, 3)) {
      case 0:
        status = wsg_server_run(play->server, &handlers, play, &error); /* until somebody interrupts it */
        CHECK(error == NULL && (status == WSG_OK || status == WSG_NOTHING));
        if (status == WSG_OK) status = WSG_STOPPED;
        break;
      case 1: status = wsg_server_run_once(play->server, 20, &handlers, play, NULL); break;
      default:
        wsg_server_set_interest(play->server, WSG_INTEREST_OPEN | WSG_INTEREST_CLOSE | WSG_INTEREST_VIOLATION);
        status = wsg_server_next(play->server, 20, &batch);
        if (status != WSG_OK) break;
        void *both[] = {play, batch};
        ANSWERS(WSG_OK, wsg_server_cork(play->server, by_hand, both));
        ANSWERS(WSG_OK, wsg_batch_free(batch));
    }
    CHECK(status >= 0);
  }
  return NULL;
}

/* --- the library's own threads, and those that give commands ---------------------------------------------------------- */

static int answer_inline(void *userdata, uint64_t conn, const wsg_inline_message *message, wsg_replies *replies) {
  struct play *play = userdata;
  struct dice dice = dice_of(play->seed, 1000 + atomic_fetch_add(&play->inlines, 1));
  roll(&dice, 2);
  switch (roll(&dice, 12)) {
    case 0: case 1: return WSG_INLINE_PASS;
    case 2: return WSG_INLINE_FAIL;
    case 3: command(play, &dice, conn); return WSG_INLINE_DONE;
    default:
      if (message->kind == WSG_EVENT_MESSAGE)
        wsg_replies_reply(replies, message->id.data, message->id.len, TEXT("echo"), message->data.data, message->data.len);
      else wsg_replies_send_binary(replies, message->data.data, message->data.len);
      return roll(&dice, 30) == 0 ? WSG_INLINE_PASS : WSG_INLINE_DONE; /* an answer, and then another's turn: refused */
  }
}

struct commander {
  struct play *play;
  struct dice dice;
};

static void corked(void *userdata) {
  struct commander *commander = userdata;
  for (int i = 0; i < 4; i++)
    command(commander->play, &commander->dice, atomic_load(&commander->play->recent[roll(&commander->dice, RECENT)]));
}

/* Answers a ticket that was left for later. */
static void answer_late(struct play *play, struct dice *dice) {
  uint64_t ticket = atomic_exchange(&play->late[roll(dice, LATE)], 0);
  wsg_str user = user_of(roll(dice, CROWD_USERS));
  if (ticket == 0) return;
  switch (roll(dice, 3)) {
    case 0: wsg_ticket_reject(play->server, ticket, 403); break;
    case 1: wsg_ticket_unavailable(play->server, ticket); break;
    default: wsg_ticket_accept(play->server, ticket, VIEW(user), WSG_NEVER);
  }
  CHECK(wsg_ticket_accept_anonymous(play->server, ticket, WSG_NEVER) == WSG_ERR_TICKET_SETTLED);
}

/* A callback that changes what it is called about. */
static void join_too(void *userdata, uint64_t conn) {
  struct play *play = userdata;
  wsg_conn_join(play->server, conn, TEXT("joined"));
  wsg_conn_leave(play->server, conn, TEXT("joined"));
}

static void see_room(void *userdata, const char *room, size_t len) { CHECK(userdata != NULL && room != NULL && len > 0); }

static void *give_commands(void *userdata) {
  struct commander *commander = userdata;
  struct play *play = commander->play;
  struct dice *dice = &commander->dice;
  while (!atomic_load(&play->over)) {
    uint64_t conn = atomic_load(&play->recent[roll(dice, RECENT)]), count;
    wsg_str user = user_of(roll(dice, CROWD_USERS));
    wsg_stats stats;
    int status = 0;
    wsg_str rooms[] = {room_of(dice), room_of(dice)};
    switch (roll(dice, 50)) {
      case 0: case 1: answer_late(play, dice); break;
      case 2: status = wsg_conn_close(play->server, conn, 1000, NULL, 0); break;
      case 3: status = wsg_conn_fail(play->server, conn); break;
      case 4: if (roll(dice, 8) == 0) status = wsg_server_disconnect_user(play->server, VIEW(user)); break;
      case 5: status = wsg_server_cork(play->server, corked, commander); break;
      case 6: status = wsg_server_stats(play->server, &stats, sizeof stats); break;
      case 7: status = wsg_server_verdict_count(play->server, WSG_VERDICT_BAD_FRAME, &count); break;
      case 8: status = wsg_server_interrupt(play->server); break;
      case 9: wsg_conn_data(play->server, conn); break;
      case 10: ANSWERS(WSG_ERR_ARGUMENT, wsg_server_reload_tls(play->server, NULL)); break;
      case 11: if (roll(dice, 4) == 0) status = wsg_conn_terminate(play->server, conn); break;
      case 12: status = wsg_conn_ping(play->server, conn); break;
      case 13: status = wsg_server_room_members(play->server, VIEW(rooms[0]), join_too, play); break;
      case 14: status = wsg_conn_rooms(play->server, conn, see_room, play); break;
      case 15: if (roll(dice, 8) == 0) status = wsg_server_room_close(play->server, VIEW(rooms[0]), 4000, NULL, 0); break;
      case 16: status = wsg_server_room_clear(play->server, VIEW(rooms[0])); break;
      case 17: status = wsg_server_broadcast_rooms(play->server, rooms, 2, TEXT("news"), TEXT("1"), &conn, 1); break;
      case 18: status = wsg_server_broadcast_user_text(play->server, VIEW(user), TEXT("news"), NULL, 0); break;
      case 19: CHECK(wsg_conn_buffered_bytes(play->server, conn) < 1 << 30); break;
      default: status = command(play, dice, conn);
    }
    CHECK(status >= 0 || status == WSG_ERR_CONNECTION_CLOSED || status == WSG_ERR_ARGUMENT || status == WSG_ERR_STOPPED);
    atomic_fetch_add(&play->commands, 1);
    crowd_pause(roll(dice, 3));
  }
  return NULL;
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */

/* Nobody is here any more: everything is given back, soon. */
static void everything_is_given_back(wsg_server *server) {
  wsg_stats stats;
  for (uint64_t until = crowd_now_ms(CLOCK_MONOTONIC) + 60000;; crowd_pause(5)) {
    ANSWERS(WSG_OK, wsg_server_stats(server, &stats, sizeof stats));
    uint64_t left = stats.connections + stats.open + stats.inbox_bytes + stats.outbox_bytes + stats.delayed +
                    stats.pending_auth + stats.upgrades_in_inbox + stats.refusing + stats.rooms + stats.room_memberships;
    if (left == 0) return;
    if (crowd_now_ms(CLOCK_MONOTONIC) < until) continue;
    fprintf(stderr, "left: connections %lu, open %lu, inbox %lu, outbox %lu, delayed %lu, pending %lu, upgrades %lu, "
            "refusing %lu, rooms %lu, memberships %lu\n", (unsigned long)stats.connections, (unsigned long)stats.open,
            (unsigned long)stats.inbox_bytes, (unsigned long)stats.outbox_bytes, (unsigned long)stats.delayed,
            (unsigned long)stats.pending_auth, (unsigned long)stats.upgrades_in_inbox, (unsigned long)stats.refusing,
            (unsigned long)stats.rooms, (unsigned long)stats.room_memberships);
    CHECK(left == 0);
  }
}

/* Something has happened, in all rounds together: a slow machine may have none in one. */
static unsigned long opened, closed, handled;

static void count(unsigned long more_opened, unsigned long more_closed, unsigned long more_handled) {
  opened += more_opened, closed += more_closed, handled += more_handled;
}

static void run_play(bool is_raw, uint64_t seed, uint64_t ms) {
  static struct play play;
  memset(&play, 0, sizeof play);
  play.is_raw = is_raw, play.seed = seed, play.dice = dice_of(seed, 1);
  wsg_options *options = NULL;
  wsg_error *error = NULL;
  struct crowd crowd;
  struct commander commanders[COMMANDERS];
  pthread_t application, threads[COMMANDERS];
  if (is_raw) ANSWERS(WSG_OK, wsg_options_from_json(TEXT(raw_policy), &options, &error));
  else ANSWERS(WSG_OK, wsg_options_from_json(TEXT(json_policy), &options, &error));
  ANSWERS(WSG_OK, wsg_options_set_inline(options, answer_inline, &play));
  wsg_status started = wsg_server_start(options, &play.server, &error);
  if (started < 0) fprintf(stderr, "%s\n", wsg_error_message(error).data);
  ANSWERS(WSG_OK, started);
  ANSWERS(WSG_OK, wsg_options_free(options));
  char address[64];
  snprintf(address, sizeof address, "%s", wsg_server_address(play.server).data);
  CHECK(pthread_create(&application, NULL, serve, &play) == 0);
  for (uint64_t i = 0; i < COMMANDERS; i++) {
    commanders[i].play = &play, commanders[i].dice = dice_of(seed, 10 + i);
    CHECK(pthread_create(&threads[i], NULL, give_commands, &commanders[i]) == 0);
  }
  crowd_come(&crowd, address, seed, is_raw);
  crowd_pause(ms);
  crowd_go(&crowd);
  atomic_store(&play.over, true);
  for (int i = 0; i < COMMANDERS; i++) pthread_join(threads[i], NULL);
  everything_is_given_back(play.server);
  for (size_t i = 0; i < RECENT; i++) CHECK(!wsg_conn_is_open(play.server, atomic_load(&play.recent[i])));
  ANSWERS(WSG_OK, wsg_server_drain(play.server, 1000, 0));
  pthread_join(application, NULL);
  for (size_t i = 0; i < RECENT; i++) CHECK(wsg_conn_data(play.server, atomic_load(&play.recent[i])) == NULL);
  ANSWERS(WSG_OK, wsg_server_free(play.server));
  printf("chaos: %s: %lu let in, %lu not, %lu opens, %lu messages, %lu inline, %lu violations, %lu drained, %lu failures,"
         " %lu stale, %lu commands\n", is_raw ? "raw" : "json", crowd.opened, crowd.refused, play.opens, play.messages,
         atomic_load(&play.inlines), play.violations, play.drained, play.failures, play.passed_over,
         atomic_load(&play.commands));
  CHECK(play.closes == play.kept);
  count(crowd.opened, play.closes, play.messages);
}

int main(int argc, char **argv) {
  uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 10;
  uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : crowd_now_ms(CLOCK_REALTIME) % 1000000;
  printf("chaos: seed %lu\n", (unsigned long)seed);
  fflush(stdout);
  for (uint64_t round = 0; round < 4; round++) run_play(round % 2 == 1, seed + round, seconds * 1000 / 4);
  CHECK(opened > 0 && closed > 0 && handled > 0);
  puts("chaos: everything that was taken is given back");
  return 0;
}

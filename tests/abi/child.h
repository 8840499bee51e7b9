/* Programs that are meant to end. */
#ifndef WSGUARD_ABI_CHILD_H
#define WSGUARD_ABI_CHILD_H

#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* Runs `body` in a child whose standard error is kept; its wait status. */
static inline int in_child(void (*body)(void), char *said, size_t room) {
  int pipe_fds[2], ended;
  CHECK(pipe(pipe_fds) == 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(pipe_fds[1], 2);
    close(pipe_fds[0]), close(pipe_fds[1]);
    alarm(30);
    body();
    _exit(0);
  }
  close(pipe_fds[1]);
  size_t len = 0;
  for (ssize_t got; len + 1 < room && (got = read(pipe_fds[0], said + len, room - len - 1)) > 0;) len += (size_t)got;
  said[len] = 0;
  close(pipe_fds[0]);
  CHECK(child > 0 && waitpid(child, &ended, 0) == child);
  return ended;
}

#endif

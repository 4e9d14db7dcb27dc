/* awake: keeps a processor from sleeping until the input ends. */

#include "bench.h"

#include <poll.h>
#include <sched.h>
#include <unistd.h>

enum { MILLISECOND = 1000000 };

int awake(int argc, char **argv) {
  struct sched_param none = {0};
  struct pollfd input = {STDIN_FILENO, POLLIN, 0};
  (void)argv;
  if (argc != 0) return 2;
  /* Any other process preempts this one immediately. */
  if (sched_setscheduler(0, SCHED_IDLE, &none) != 0) fail("sched_setscheduler");
  send_line("\"ready\"");
  while (poll(&input, 1, 0) == 0) {
    int64_t next = now() + MILLISECOND;
    while (now() < next) continue;
  }
  send_line("\"asleep\"");
  return 0;
}

/* handover PATH: see handover.mjs. */

#include "bench.h"

#include <stdio.h>
#include <string.h>

/* More than a process takes part in. */
enum { MAX_HAND_OVERS = CAPACITY / 2 };

static int64_t *const acquired = samples,
               *const released = samples + MAX_HAND_OVERS;

static void print_microseconds(const char *name, int64_t *times, size_t count) {
  printf(",\"%s\":[", name);
  for (size_t i = 0; i < count; i++) {
    printf("%s%.3f", i == 0 ? "" : ",", times[i] / 1e3);
  }
  printf("]");
}

int handover(int argc, char **argv) {
  char line[64];
  size_t count = 0;
  int fd = -1;
  if (argc != 1) return 2;
  send_line("\"ready\"");
  while (count < MAX_HAND_OVERS && receive_line(line, sizeof line)) {
    if (strcmp(line, "acquire\n") == 0) {
      send_line("\"waiting\"");
      fd = acquire(argv[0]);
      acquired[count] = now();
      send_line("\"acquired\"");
    } else {
      released[count++] = now();
      release(fd);
    }
  }
  printf("{");
  print_runtime();
  print_microseconds("acquired", acquired, count);
  print_microseconds("released", released, count);
  printf("}\n");
  return 0;
}

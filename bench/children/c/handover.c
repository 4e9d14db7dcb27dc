/* handover PATH: see handover.mjs. */

#include "bench.h"

#include <stdio.h>
#include <string.h>

/* A process takes part in far fewer hand-overs. */
enum { MOST = CAPACITY / 2 };

static int64_t *const acquired = noted, *const released = noted + MOST;

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
  say("\"ready\"");
  while (count < MOST && hear(line, sizeof line)) {
    if (strcmp(line, "acquire\n") == 0) {
      say("\"waiting\"");
      fd = acquire(argv[0]);
      acquired[count] = now();
      say("\"acquired\"");
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

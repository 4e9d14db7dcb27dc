/* contention PATH MILLISECONDS: see contention.mjs. */

#include "bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int open_counter(const char *path) {
  char name[4096];
  snprintf(name, sizeof name, "%s.count", path);
  int fd = open(name, O_RDWR | O_CLOEXEC);
  if (fd < 0) fail("open");
  return fd;
}

static void add_one(int fd) {
  int32_t number;
  if (pread(fd, &number, sizeof number, 0) != sizeof number) fail("pread");
  number++;
  if (pwrite(fd, &number, sizeof number, 0) != sizeof number) fail("pwrite");
}

/* Sleeps until a time of the wall clock, in milliseconds. */
static void sleep_until(long long moment) {
  struct timespec time = {moment / 1000, moment % 1000 * 1000000};
  clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, NULL);
}

int contention(int argc, char **argv) {
  char line[64];
  size_t count = 0, waits = 0;
  if (argc != 2) return 2;
  int counter = open_counter(argv[0]);
  send_line("\"ready\"");
  if (!receive_line(line, sizeof line)) return 1;
  sleep_until(atoll(line));
  int64_t last = now() + atoll(argv[1]) * 1000000;
  for (;;) {
    int64_t start = now();
    if (start >= last || waits == CAPACITY) break;
    int fd = acquire(argv[0]);
    int64_t end = now();
    samples[waits++] = end - start;
    /* An acquire that ends too late does not count. */
    if (end < last) add_one(counter), count++;
    release(fd);
  }
  printf("{");
  print_runtime();
  printf(",\"count\":%zu,\"samples\":[", count);
  print_histogram(waits);
  printf("]}\n");
  return 0;
}

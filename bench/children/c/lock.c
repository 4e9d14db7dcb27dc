/* The bare system calls, the clock, and the lines in and out. */

#include "bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

int64_t samples[CAPACITY];

int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void fail(const char *call) {
  perror(call);
  exit(1);
}

int acquire(const char *path) {
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) fail("open");
  if (flock(fd, LOCK_EX) != 0) fail("flock");
  return fd;
}

void release(int fd) {
  if (flock(fd, LOCK_UN) != 0) fail("flock");
  if (close(fd) != 0) fail("close");
}

int receive_line(char *line, int size) { return fgets(line, size, stdin) != NULL; }

void send_line(const char *line) {
  puts(line);
  fflush(stdout);
}

void print_runtime(void) {
  printf("\"runtime\":\"C compiler %s\"", __VERSION__);
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static int64_t three_digits(int64_t value) {
  int64_t unit = 1;
  while (value >= 1000 * unit) unit *= 10;
  return (value + unit / 2) / unit * unit;
}

void print_histogram(size_t count) {
  const char *separator = "";
  qsort(samples, count, sizeof *samples, ascending);
  for (size_t i = 0; i < count;) {
    int64_t value = three_digits(samples[i]);
    size_t first = i;
    while (i < count && three_digits(samples[i]) == value) i++;
    printf("%s[%lld,%zu]", separator, (long long)value, i - first);
    separator = ",";
  }
}

/* The bare system calls, as a process: SCENARIO PATH WARM_UP MILLISECONDS. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* More than can be taken within the time of a round. */
enum { CAPACITY = 1 << 21, CLOCK_READINGS = 10000 };

static int64_t taken[CAPACITY];

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fail(const char *call) {
  perror(call);
  exit(1);
}

static void acquire_and_release(const char *path) {
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) fail("open");
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) fail("flock");
  if (flock(fd, LOCK_UN) != 0) fail("flock");
  if (close(fd) != 0) fail("close");
}

/* Acquires and releases, one after the other, until the time is over. */
static size_t measure(const char *path, int64_t milliseconds) {
  size_t count = 0;
  int64_t end = now();
  int64_t last = end + milliseconds * 1000000;
  while (end < last && count < CAPACITY) {
    int64_t start = now();
    acquire_and_release(path);
    end = now();
    taken[count++] = end - start;
  }
  return count;
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static int64_t clock_cost(void) {
  static int64_t costs[CLOCK_READINGS];
  for (int i = 0; i < CLOCK_READINGS; i++) {
    int64_t start = now();
    costs[i] = now() - start;
  }
  qsort(costs, CLOCK_READINGS, sizeof *costs, ascending);
  return costs[CLOCK_READINGS / 2];
}

static int64_t three_digits(int64_t value) {
  int64_t unit = 1;
  while (value >= 1000 * unit) unit *= 10;
  return (value + unit / 2) / unit * unit;
}

static void print_histogram(size_t count) {
  const char *separator = "";
  qsort(taken, count, sizeof *taken, ascending);
  for (size_t i = 0; i < count;) {
    int64_t value = three_digits(taken[i]);
    size_t first = i;
    while (i < count && three_digits(taken[i]) == value) i++;
    printf("%s[%lld,%zu]", separator, (long long)value, i - first);
    separator = ",";
  }
}

int main(int argc, char **argv) {
  if (argc != 5 || strcmp(argv[1], "uncontended") != 0) {
    fprintf(stderr, "Usage: flock uncontended PATH WARM_UP MILLISECONDS\n");
    return 2;
  }
  measure(argv[2], atoll(argv[3]));
  size_t count = measure(argv[2], atoll(argv[4]));
  printf("{\"runtime\":\"C compiler %s\",\"clock\":%lld,\"samples\":[",
         __VERSION__, (long long)clock_cost());
  print_histogram(count);
  printf("]}\n");
  return 0;
}

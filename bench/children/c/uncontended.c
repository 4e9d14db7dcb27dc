/* uncontended PATH WARM_UP MILLISECONDS */

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

enum { CLOCK_READINGS = 10001 };

/* Acquires and releases repeatedly until the time is over. */
static size_t measure(const char *path, int64_t milliseconds) {
  size_t count = 0;
  int64_t end = now();
  int64_t last = end + milliseconds * 1000000;
  while (end < last && count < CAPACITY) {
    int64_t start = now();
    release(acquire(path));
    end = now();
    samples[count++] = end - start;
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

int uncontended(int argc, char **argv) {
  if (argc != 3) return 2;
  measure(argv[0], atoll(argv[1]));
  size_t count = measure(argv[0], atoll(argv[2]));
  printf("{");
  print_runtime();
  printf(",\"clock\":%lld,\"samples\":[", (long long)clock_cost());
  print_histogram(count);
  printf("]}\n");
  return 0;
}

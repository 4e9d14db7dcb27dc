/* The C contender, as a process: SCENARIO PATH ... */

#include "bench.h"

#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
} scenarios[] = {
    {"uncontended", uncontended},
    {"handover", handover},
    {"contention", contention},
    {"awake", awake},
};

int main(int argc, char **argv) {
  for (size_t i = 0; argc > 1 && i < sizeof scenarios / sizeof *scenarios; i++) {
    if (strcmp(argv[1], scenarios[i].name) == 0) {
      return scenarios[i].run(argc - 2, argv + 2);
    }
  }
  fprintf(stderr, "unknown scenario\n");
  return 2;
}

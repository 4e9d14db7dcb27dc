/* What the parts of the C contender share. */

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

/* More than can be taken within the time of a run. */
enum { CAPACITY = 1 << 22 };

/* Nanoseconds, or whatever a scenario notes one by one. */
extern int64_t noted[CAPACITY];

/* CLOCK_MONOTONIC, which all processes share, in nanoseconds. */
int64_t now(void);
void fail(const char *call);

/* Opens and locks, waiting if need be. */
int acquire(const char *path);
void release(int fd);

/* Print a part of a line. */
void print_runtime(void);
void print_histogram(size_t count);

/* Reads a line; returns 0 at the end of the input. */
int hear(char *line, int size);
/* Prints a line at once. */
void say(const char *line);

int uncontended(int argc, char **argv);
int handover(int argc, char **argv);
int contention(int argc, char **argv);
int awake(int argc, char **argv);

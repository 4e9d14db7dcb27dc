/* Shared by the parts of the C contender. */

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

/* More than a contender takes within the time of a run. */
enum { CAPACITY = 1 << 22 };

/* The samples of a scenario, in nanoseconds. */
extern int64_t samples[CAPACITY];

/* CLOCK_MONOTONIC, the same in all processes, in nanoseconds. */
int64_t now(void);
void fail(const char *call);

/* Opens and locks a file; blocks until the lock is acquired. */
int acquire(const char *path);
void release(int fd);

/* Print a part of a line. */
void print_runtime(void);
void print_histogram(size_t count);

/* Reads a line; returns 0 at the end of the input. */
int receive_line(char *line, int size);
/* Prints a line and flushes it. */
void send_line(const char *line);

int uncontended(int argc, char **argv);
int handover(int argc, char **argv);
int contention(int argc, char **argv);
int awake(int argc, char **argv);

/*
 * Functions of glibc that Debian's libstdc++ and libgcc need and musl does not
 * have. So a program for musl can load both libraries. A system with musl has
 * its own builds of them.
 */
#define _GNU_SOURCE
#include <locale.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

char __libc_single_threaded = 0;
unsigned __cpu_model[4], __cpu_features2[4];

int __cpu_indicator_init(void) { return 0; }

/* Finds no object, so that the unwinder searches as it does with musl. */
int _dl_find_object(void *address, void *result) {
  (void)address, (void)result;
  return -1;
}

size_t __strftime_l(char *text, size_t size, const char *format,
                    const struct tm *time, locale_t locale) {
  return strftime_l(text, size, format, time, locale);
}

uint32_t arc4random(void) {
  uint32_t number;
  if (getrandom(&number, sizeof number, 0) != sizeof number) abort();
  return number;
}

/* Runs the destructors of a thread in reverse order. */
struct ending {
  void (*end)(void *);
  void *object;
  struct ending *next;
};
static pthread_key_t endings;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void end_all(void *first) {
  for (struct ending *each = first, *next; each != NULL; each = next) {
    next = each->next;
    each->end(each->object);
    free(each);
  }
}

static void make_key(void) { pthread_key_create(&endings, end_all); }

int __cxa_thread_atexit_impl(void (*end)(void *), void *object, void *dso) {
  (void)dso;
  pthread_once(&once, make_key);
  struct ending *each = malloc(sizeof *each);
  if (each == NULL) return -1;
  *each = (struct ending){end, object, pthread_getspecific(endings)};
  return pthread_setspecific(endings, each);
}

/*
 * Prints the constants of this system's headers, one name and number a line.
 * The test compares them with the constants of the package by name.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#ifdef __APPLE__
#include <sys/mount.h>
#else
#include <limits.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#endif

#define NUMBER(name) printf("%s %lld\n", #name, (long long)(name))
#define FIELD(type, field)                                             \
  printf("%s.%s %zu\n%s.%s size %zu\n", #type, #field,                 \
         offsetof(struct type, field), #type, #field,                  \
         sizeof(((struct type *)0)->field))
#define SIZE(type) printf("%s size %zu\n", #type, sizeof(type))

int main(void) {
  NUMBER(LOCK_SH);
  NUMBER(LOCK_EX);
  NUMBER(LOCK_NB);
  NUMBER(LOCK_UN);
  NUMBER(EINTR);
  NUMBER(EACCES);
  NUMBER(EAGAIN);
  NUMBER(EWOULDBLOCK);
  NUMBER(O_APPEND);
  NUMBER(F_GETFL);
  NUMBER(F_SETFL);
  NUMBER(F_SETLK);
  NUMBER(F_SETLKW);
  NUMBER(F_OFD_GETLK);
  NUMBER(F_OFD_SETLK);
  NUMBER(F_OFD_SETLKW);
  NUMBER(F_RDLCK);
  NUMBER(F_WRLCK);
  NUMBER(F_UNLCK);
  FIELD(flock, l_type);
  FIELD(flock, l_whence);
  FIELD(flock, l_start);
  FIELD(flock, l_len);
  SIZE(struct flock);
  FIELD(stat, st_dev);
  FIELD(stat, st_ino);
  SIZE(struct stat);
  SIZE(struct statfs);
  SIZE(pthread_key_t);
#ifdef __APPLE__
  FIELD(statfs, f_flags);
  NUMBER(MNT_LOCAL);
#else
  NUMBER(PATH_MAX);
  NUMBER(O_NONBLOCK);
  NUMBER(O_CLOEXEC);
  NUMBER(O_PATH);
  NUMBER(IN_ATTRIB);
  NUMBER(IN_CLOSE);
  NUMBER(IN_MOVE_SELF);
  NUMBER(IN_DELETE_SELF);
  NUMBER(IN_Q_OVERFLOW);
  NUMBER(IN_NONBLOCK);
  NUMBER(IN_CLOEXEC);
  FIELD(inotify_event, wd);
  FIELD(inotify_event, mask);
  FIELD(inotify_event, len);
  printf("inotify_event.name %zu\n", offsetof(struct inotify_event, name));
  NUMBER(POLLIN);
  FIELD(pollfd, fd);
  FIELD(pollfd, events);
  SIZE(struct pollfd);
#endif
  return 0;
}

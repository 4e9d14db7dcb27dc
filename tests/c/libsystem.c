/*
 * Functions with the names and structs of macOS, implemented with the locks of
 * Linux: as many as locking needs. The source is the headers of XNU
 * (sys/fcntl.h, sys/stat.h, sys/mount.h, sys/errno.h), not the package.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifdef INTEL
/* The plain names have 32-bit inode numbers, as before 2007. */
#define NAMED(name) __asm__(#name "$INODE64")
#else
#define NAMED(name) __asm__(#name)
#endif

struct apple_flock {
  int64_t l_start, l_len;
  int32_t l_pid;
  int16_t l_type, l_whence;
};

struct apple_stat {
  int32_t st_dev;
  uint16_t st_mode, st_nlink;
  uint64_t st_ino;
  uint32_t st_uid, st_gid;
  int32_t st_rdev;
};

struct apple_statfs {
  uint32_t f_bsize;
  int32_t f_iosize;
  uint64_t f_blocks, f_bfree, f_bavail, f_files, f_ffree;
  int32_t f_fsid[2];
  uint32_t f_owner, f_type, f_flags, f_fssubtype;
};

static __thread int error;

int *__error(void) { return &error; }

static int done(long result) {
  if (result == 0) return 0;
  error = errno == EAGAIN ? 35 : errno == ENOLCK ? 77 : errno;
  /* For C code that reads errno. */
  errno = error;
  return -1;
}

int apple_strerror_r(int, char *, size_t) __asm__("strerror_r");
int apple_strerror_r(int code, char *words, size_t size) {
  snprintf(words, size, "error %d of a Mac", code);
  return 0;
}

int flock(int fd, int operation) {
  return done(syscall(SYS_flock, fd, operation));
}

static int lock(int fd, int command, struct apple_flock *theirs) {
  static const short types[] = {0, F_RDLCK, F_UNLCK, F_WRLCK};
  int ours = command == 8    ? F_SETLK
             : command == 9  ? F_SETLKW
             : command == 90 ? F_OFD_SETLK
             : command == 91 ? F_OFD_SETLKW
             : command == 92 ? F_OFD_GETLK
                             : -1;
  if (ours == -1 || theirs->l_type < 1 || theirs->l_type > 3) {
    errno = EINVAL;
    return done(-1);
  }
  struct flock struct_flock = {
      .l_type = types[theirs->l_type],
      .l_whence = theirs->l_whence,
      .l_start = theirs->l_start,
      .l_len = theirs->l_len,
      .l_pid = theirs->l_pid,
  };
  return done(syscall(SYS_fcntl, fd, ours, &struct_flock));
}

/* F_GETFL and F_SETFL, of whose flags only O_APPEND is translated. */
static int flags(int fd, int command, long theirs) {
  long ours = command == 3 ? 0 : theirs & 0x8 ? O_APPEND : 0;
  long result = syscall(SYS_fcntl, fd, command == 3 ? F_GETFL : F_SETFL, ours);
  if (result < 0) return done(result);
  return result & O_APPEND ? 0x8 : 0;
}

static int control(int fd, int command, long argument) {
  if (command == 3 || command == 4) return flags(fd, command, argument);
  return lock(fd, command, (struct apple_flock *)argument);
}

#ifdef INTEL
int apple_fcntl(int, int, long) __asm__("fcntl");
int apple_fcntl(int fd, int command, long argument) {
  return control(fd, command, argument);
}

/* The functions that a program with the plain names calls. */
int old_fstat(int, void *) __asm__("fstat");
int old_fstat(int fd, void *stat) {
  (void)fd;
  memset(stat, 0xff, 96);
  return 0;
}
int old_fstatfs(int, void *) __asm__("fstatfs");
int old_fstatfs(int fd, void *statfs) {
  (void)fd;
  memset(statfs, 0, 168);
  return 0;
}
#else
/* The variadic argument is on the stack, as a ninth argument is. */
int apple_fcntl(int, int, long, long, long, long, long, long,
                long) __asm__("fcntl");
int apple_fcntl(int fd, int command, long a, long b, long c, long d, long e,
                long f, long argument) {
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  return control(fd, command, argument);
}
#endif

int apple_fstat(int, struct apple_stat *) NAMED(fstat);
int apple_fstat(int fd, struct apple_stat *theirs) {
  struct stat ours;
  int result = done(fstatat(fd, "", &ours, AT_EMPTY_PATH));
  if (result != 0) return result;
  memset(theirs, 0xff, 144);
  theirs->st_dev = ours.st_dev;
  theirs->st_mode = ours.st_mode;
  theirs->st_nlink = ours.st_nlink;
  theirs->st_ino = ours.st_ino;
  return 0;
}

int apple_fstatfs(int, struct apple_statfs *) NAMED(fstatfs);
int apple_fstatfs(int fd, struct apple_statfs *theirs) {
  struct statfs ours;
  int result = done(syscall(SYS_fstatfs, fd, &ours));
  if (result != 0) return result;
  memset(theirs, 0xff, 2168);
  /* MNT_LOCAL, which is not set for /proc. */
  theirs->f_flags = ours.f_type == 0x9fa0 ? ~0x1000u : 0x1000u;
  return 0;
}

/*
 * Locks as Python's portalocker does on Windows. Reads one command a line from
 * standard input: "pywin32 PATH" and "msvcrt PATH" lock exclusively, "shared
 * PATH" locks as pywin32 does for readers, "open PATH" only opens the file,
 * "release" closes it. "alone PATH" checks whether no other process has the
 * file open. The result of each command is "1" for success, "0" for a conflict
 * with another process, or an error code.
 */

#include <fcntl.h>
#include <io.h>
#include <share.h>
#include <stdio.h>
#include <string.h>
#include <sys/locking.h>
#include <sys/stat.h>
#include <windows.h>

#include <errno.h>

/* portalocker passes the two halves of a length to pywin32: 0, -0x10000. */
static const DWORD LOW = 0, HIGH = (DWORD) -0x10000;
/* The number of bytes that portalocker locks with msvcrt.locking(). */
static const long FIRST = 0x10000;

static int fd = -1;
static int by_msvcrt;
static int locked;

static int by_pywin32(DWORD kind) {
  OVERLAPPED overlapped = {0};
  HANDLE handle = (HANDLE) _get_osfhandle(fd);
  if (LockFileEx(handle, kind | LOCKFILE_FAIL_IMMEDIATELY, 0, LOW, HIGH,
                 &overlapped)) {
    return 1;
  }
  DWORD error = GetLastError();
  return error == ERROR_LOCK_VIOLATION ? 0 : (int) error;
}

static int by_locking(void) {
  _lseek(fd, 0, SEEK_SET);
  if (_locking(fd, _LK_NBLCK, FIRST) == 0) return 1;
  return errno == EACCES ? 0 : errno;
}

static int lock(const char *how, const char *path) {
  fd = _sopen(path, _O_RDWR | _O_CREAT | _O_APPEND, _SH_DENYNO,
              _S_IREAD | _S_IWRITE);
  if (fd < 0) return 1000 + errno;
  locked = strcmp(how, "open") != 0;
  if (!locked) return 1;
  by_msvcrt = strcmp(how, "msvcrt") == 0;
  int answer = by_msvcrt ? by_locking()
      : by_pywin32(strcmp(how, "shared") == 0 ? 0 : LOCKFILE_EXCLUSIVE_LOCK);
  if (answer != 1) _close(fd);
  return answer;
}

static int alone(const char *path) {
  HANDLE handle = CreateFileA(path, GENERIC_READ, 0, NULL, OPEN_EXISTING,
                              FILE_ATTRIBUTE_NORMAL, NULL);
  if (handle != INVALID_HANDLE_VALUE) return CloseHandle(handle);
  DWORD error = GetLastError();
  return error == ERROR_SHARING_VIOLATION ? 0 : (int) error;
}

static int release(void) {
  int answer = 1;
  if (!locked) {
    _close(fd);
    return answer;
  }
  if (by_msvcrt) {
    _lseek(fd, 0, SEEK_SET);
    if (_locking(fd, _LK_UNLCK, FIRST) != 0) answer = errno;
  } else {
    OVERLAPPED overlapped = {0};
    HANDLE handle = (HANDLE) _get_osfhandle(fd);
    if (!UnlockFileEx(handle, 0, LOW, HIGH, &overlapped)) {
      answer = (int) GetLastError();
    }
  }
  _close(fd);
  return answer;
}

int main(void) {
  static char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\r\n")] = 0;
    char *path = strchr(line, ' ');
    if (path) *path++ = 0;
    printf("%d\n", !path ? release()
                   : strcmp(line, "alone") == 0 ? alone(path)
                   : lock(line, path));
    fflush(stdout);
  }
  return 0;
}

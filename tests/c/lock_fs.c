/*
 * A FUSE file system that shows a directory, and treats locks as its first
 * argument says. Usage: lock_fs MODE SOURCE MOUNTPOINT
 *
 *   honest      passes locks on to the files of the directory
 *   lies        grants every lock
 *   liesflock   grants every lock of flock(2)
 *   liesrarely  grants every 40th lock of flock(2) that it should refuse
 *   readers     treats shared locks as exclusive
 *   whole       locks the whole file instead of a range
 *   keeps       never releases a lock of flock(2)
 *   immortal    does not release a lock of flock(2) when the file is closed
 *   NUMBER      fails with this errno
 */

#define _GNU_SOURCE
#define FUSE_USE_VERSION 31

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAX_FILES 4096

static const char *mode;
static char source[PATH_MAX];
static atomic_int refusals;
/* Whether flock(2) has locked each descriptor. */
static atomic_bool locked[MAX_FILES];
/* The owner of the record locks of each descriptor. */
static _Atomic uint64_t owners[MAX_FILES];

static int is(const char *name) { return strcmp(mode, name) == 0; }

static const char *real(const char *path, char *buffer)
{
	snprintf(buffer, 2 * PATH_MAX, "%s%s", source, path);
	return buffer;
}

#define REAL(path) real(path, (char[2 * PATH_MAX]){0})
#define RESULT(call) ((call) == -1 ? -errno : 0)

static int do_getattr(const char *path, struct stat *st,
		      struct fuse_file_info *fi)
{
	if (fi)
		return RESULT(fstat(fi->fh, st));
	return RESULT(lstat(REAL(path), st));
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill,
		      off_t offset, struct fuse_file_info *fi,
		      enum fuse_readdir_flags flags)
{
	DIR *dir = opendir(REAL(path));
	struct dirent *entry;

	(void)offset, (void)fi, (void)flags;
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		fill(buffer, entry->d_name, NULL, 0, 0);
	closedir(dir);
	return 0;
}

static int do_mkdir(const char *path, mode_t bits)
{
	return RESULT(mkdir(REAL(path), bits));
}

static int do_rmdir(const char *path) { return RESULT(rmdir(REAL(path))); }

static int do_unlink(const char *path) { return RESULT(unlink(REAL(path))); }

static int do_rename(const char *from, const char *to, unsigned int flags)
{
	return RESULT(
	    renameat2(AT_FDCWD, REAL(from), AT_FDCWD, REAL(to), flags));
}

static int do_link(const char *from, const char *to)
{
	return RESULT(link(REAL(from), REAL(to)));
}

static int do_chmod(const char *path, mode_t bits, struct fuse_file_info *fi)
{
	(void)fi;
	return RESULT(chmod(REAL(path), bits));
}

static int do_chown(const char *path, uid_t uid, gid_t gid,
		    struct fuse_file_info *fi)
{
	(void)fi;
	return RESULT(lchown(REAL(path), uid, gid));
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	(void)fi;
	return RESULT(truncate(REAL(path), size));
}

static int do_utimens(const char *path, const struct timespec times[2],
		      struct fuse_file_info *fi)
{
	(void)fi;
	return RESULT(
	    utimensat(AT_FDCWD, REAL(path), times, AT_SYMLINK_NOFOLLOW));
}

static int do_statfs(const char *path, struct statvfs *st)
{
	return RESULT(statvfs(REAL(path), st));
}

static int do_create(const char *path, mode_t bits, struct fuse_file_info *fi)
{
	int fd = open(REAL(path), fi->flags, bits);

	fi->fh = fd;
	return fd == -1 ? -errno : 0;
}

static int do_open(const char *path, struct fuse_file_info *fi)
{
	return do_create(path, 0, fi);
}

static int do_read(const char *path, char *buffer, size_t size, off_t offset,
		   struct fuse_file_info *fi)
{
	ssize_t count = pread(fi->fh, buffer, size, offset);

	(void)path;
	return count == -1 ? -errno : count;
}

static int do_write(const char *path, const char *buffer, size_t size,
		    off_t offset, struct fuse_file_info *fi)
{
	ssize_t count = pwrite(fi->fh, buffer, size, offset);

	(void)path;
	return count == -1 ? -errno : count;
}

static int do_fsync(const char *path, int data, struct fuse_file_info *fi)
{
	(void)path, (void)data;
	return RESULT(fsync(fi->fh));
}

static int do_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	if ((is("immortal") || is("keeps")) && locked[fi->fh])
		return 0;
	locked[fi->fh] = 0;
	close(fi->fh);
	return 0;
}

static int do_flock(const char *path, struct fuse_file_info *fi, int operation)
{
	int unlocks = operation & LOCK_UN;

	(void)path;
	if (atoi(mode))
		return -atoi(mode);
	if (is("lies") || is("liesflock") || (is("keeps") && unlocks))
		return 0;
	if (is("readers") && (operation & LOCK_SH))
		operation = (operation & ~LOCK_SH) | LOCK_EX;
	if (flock(fi->fh, operation) == -1) {
		int error = errno;

		if (is("liesrarely") && ++refusals % 40 == 0)
			return 0;
		return -error;
	}
	locked[fi->fh] = !unlocks;
	return 0;
}

/* The locks of the open file, in place of those of the process. */
static int do_lock(const char *path, struct fuse_file_info *fi, int command,
		   struct flock *lock)
{
	(void)path;
	if (atoi(mode))
		return -atoi(mode);
	if (is("lies"))
		return 0;
	/* Each close(2) unlocks what the process owns, which an open file does not. */
	if (lock->l_type == F_UNLCK && owners[fi->fh] != fi->lock_owner)
		return 0;
	if (command != F_GETLK && lock->l_type != F_UNLCK)
		owners[fi->fh] = fi->lock_owner;
	if (is("whole"))
		lock->l_start = lock->l_len = 0;
	lock->l_pid = 0;
	command = command == F_GETLK   ? F_OFD_GETLK
		  : command == F_SETLK ? F_OFD_SETLK
				       : F_OFD_SETLKW;
	return RESULT(fcntl(fi->fh, command, lock));
}

static const struct fuse_operations operations = {
    .getattr = do_getattr,
    .readdir = do_readdir,
    .mkdir = do_mkdir,
    .rmdir = do_rmdir,
    .unlink = do_unlink,
    .rename = do_rename,
    .link = do_link,
    .chmod = do_chmod,
    .chown = do_chown,
    .truncate = do_truncate,
    .utimens = do_utimens,
    .statfs = do_statfs,
    .create = do_create,
    .open = do_open,
    .read = do_read,
    .write = do_write,
    .fsync = do_fsync,
    .release = do_release,
    .flock = do_flock,
    .lock = do_lock,
};

int main(int argc, char **argv)
{
	char *arguments[] = {argv[0], "-f", NULL, NULL};

	if (argc != 4 || !realpath(argv[2], source))
		return 2;
	mode = argv[1];
	arguments[2] = argv[3];
	umask(0);
	return fuse_main(3, arguments, &operations, NULL);
}

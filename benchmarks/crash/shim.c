/* Stands between the agent (SQLite included) and the C library: logs every durable call below one folder, and makes
 * one of them fail, fall short or never return. Loaded with LD_PRELOAD; armed by `crash_begin` (see shim.py).
 *
 * A call is counted when its path (of descriptors: /proc/self/fd) lies below the folder. One record a call is written
 * after it returned; its layout is `RECORD` in shim.py. Opening without O_CREAT, O_TRUNC is not durable: not counted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, TRUNCATE, FSYNC, FDATASYNC, RENAME, UNLINK, LINK, MKDIR, CHMOD, ALLOCATE, NOTE, RMDIR };
enum { CREATED = 1, TRUNCATED = 2, INJECTED = 4 };
enum { KILL = 1, FAIL = 2, FULL = 3, SHORT = 4 };

struct record {
  uint32_t op, flags;
  int32_t error;
  uint32_t mode;
  uint64_t number, inode, offset, size;
  uint32_t path_length, other_length, data_length, padding;
};

#define MAX_FAULTS 4
static struct { long at; int kind, error; } faults[MAX_FAULTS];
static int fault_count, armed, log_fd = -1, full_disk;
static char root[PATH_MAX];
static size_t root_length;
static long calls;

void crash_begin(const char *folder, int log) {
  strncpy(root, folder, sizeof root - 1);
  root_length = strlen(root);
  log_fd = log;
  calls = fault_count = full_disk = 0;
  armed = 1;
}
void crash_fault(long at, int kind, int error) {
  faults[fault_count].at = at;
  faults[fault_count].kind = kind;
  faults[fault_count++].error = error;
}
void crash_end(void) { armed = 0; }
long crash_calls(void) { return calls; }

static void put(struct record *r, const char *path, const char *other, const void *data) {
  r->path_length = path ? strlen(path) : 0;
  r->other_length = other ? strlen(other) : 0;
  if (!data) r->data_length = 0;
  struct iovec parts[4] = {{r, sizeof *r}, {(void *)path, r->path_length}, {(void *)other, r->other_length},
                           {(void *)data, r->data_length}};
  if (syscall(SYS_writev, log_fd, parts, 4) < 0) abort();
}
void crash_note(const char *text) {
  struct record r = {.op = NOTE, .number = calls, .data_length = strlen(text)};
  if (armed) put(&r, NULL, NULL, text);
}

static int below(const char *path) {
  return armed && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}
static void of_fd(int fd, char *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
  out[n > 0 ? n : 0] = 0;
}
static void absolute(int folder, const char *path, char *out) {
  if (path[0] == '/') {
    snprintf(out, PATH_MAX, "%s", path);
    return;
  }
  char base[PATH_MAX];
  if (folder == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) base[0] = 0;
  } else of_fd(folder, base);
  if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) abort();
}

/* Count a call and decide its fate: 0 do it, 1 fail with errno set, 2 do half of it. */
static int fate(struct record *r, const char *path, const char *other) {
  r->number = ++calls;
  for (int i = 0; i < fault_count; i++) {
    if (faults[i].at != calls) continue;
    r->flags |= INJECTED;
    switch (faults[i].kind) {
      case KILL:
        r->error = EINTR;
        put(r, path, other, NULL);
        kill(getpid(), SIGKILL);
        for (;;) pause();
      case FAIL: errno = faults[i].error; return 1;
      case FULL: full_disk = 1; break;
      case SHORT: return 2;
    }
  }
  if (full_disk && r->op != FSYNC && r->op != FDATASYNC && r->op != UNLINK && r->op != RMDIR && r->op != RENAME &&
      r->op != CHMOD && r->op != TRUNCATE) {
    r->flags |= INJECTED;
    errno = ENOSPC;
    return 1;
  }
  return 0;
}
static int done(struct record *r, const char *path, const char *other, const void *data, int result) {
  int error = errno;
  r->error = result < 0 ? error : 0;
  put(r, path, other, result < 0 ? NULL : data);
  errno = error;
  return result;
}
static uint64_t inode_of(const char *path, uint32_t *mode) {
  struct stat s;
  if (fstatat(AT_FDCWD, path, &s, AT_SYMLINK_NOFOLLOW)) return 0;
  if (mode) *mode = s.st_mode;
  return s.st_ino;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int open_any(int folder, const char *path, int flags, mode_t mode) {
  char at[PATH_MAX] = "";
  if (armed && flags & (O_CREAT | O_TRUNC)) absolute(folder, path, at);
  if (!at[0] || !below(at)) return syscall(SYS_openat, folder, path, flags, mode);
  struct record r = {.op = OPEN};
  int existed = inode_of(at, NULL) != 0;
  if (fate(&r, at, NULL) == 1) return done(&r, at, NULL, NULL, -1);
  int fd = syscall(SYS_openat, folder, path, flags, mode);
  if (fd >= 0) {
    r.inode = inode_of(at, &r.mode);
    if (!existed) r.flags |= CREATED;
    else if (flags & O_TRUNC) r.flags |= TRUNCATED;
  }
  return done(&r, at, NULL, NULL, fd);
}
#define MODE(flags, last) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, last); mode = va_arg(a, mode_t); va_end(a); }
int open(const char *path, int flags, ...) { MODE(flags, flags) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return open_any(AT_FDCWD, path, flags, mode); }
int openat(int d, const char *path, int flags, ...) { MODE(flags, flags) return open_any(d, path, flags, mode); }
int openat64(int d, const char *path, int flags, ...) { MODE(flags, flags) return open_any(d, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* Calls on descriptors: fill path, inode and mode; 0 if it is none of ours. */
static int ours(int fd, char *path, struct record *r) {
  if (!armed) return 0;
  of_fd(fd, path);
  if (!below(path)) return 0;
  struct stat s;
  if (fstat(fd, &s)) return 0;
  r->inode = s.st_ino;
  return S_ISREG(s.st_mode) || S_ISDIR(s.st_mode);
}
static ssize_t write_any(int fd, const void *data, size_t size, off_t offset, int positioned) {
  char path[PATH_MAX];
  struct record r = {.op = WRITE, .size = size};
  int mine = ours(fd, path, &r), what = mine ? fate(&r, path, NULL) : 0;
  if (mine) r.offset = positioned ? offset : syscall(SYS_lseek, fd, 0, SEEK_CUR);
  if (what == 1) return done(&r, path, NULL, NULL, -1);
  if (what == 2 && size > 1) size /= 2;
  ssize_t n = positioned ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
  if (!mine) return n;
  r.data_length = n > 0 ? n : 0;
  int error = errno;
  done(&r, path, NULL, data, n < 0 ? -1 : 0);
  errno = error;
  return n;
}
ssize_t write(int fd, const void *data, size_t size) { return write_any(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return write_any(fd, data, size, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return write_any(fd, data, size, offset, 1); }
ssize_t writev(int fd, const struct iovec *parts, int count) { /* a short write is allowed: the first part only */
  char path[PATH_MAX];
  struct record r = {.op = WRITE};
  if (!ours(fd, path, &r)) return syscall(SYS_writev, fd, parts, count);
  return count ? write_any(fd, parts[0].iov_base, parts[0].iov_len, 0, 0) : 0;
}

static int sync_any(int fd, int op) {
  char path[PATH_MAX];
  struct record r = {.op = op};
  int call = op == FSYNC ? SYS_fsync : SYS_fdatasync;
  if (!ours(fd, path, &r)) return syscall(call, fd);
  if (fate(&r, path, NULL) == 1) return done(&r, path, NULL, NULL, -1);
  return done(&r, path, NULL, NULL, syscall(call, fd));
}
int fsync(int fd) { return sync_any(fd, FSYNC); }
int fdatasync(int fd) { return sync_any(fd, FDATASYNC); }

int ftruncate(int fd, off_t size) {
  char path[PATH_MAX];
  struct record r = {.op = TRUNCATE, .size = size};
  if (!ours(fd, path, &r)) return syscall(SYS_ftruncate, fd, size);
  if (fate(&r, path, NULL) == 1) return done(&r, path, NULL, NULL, -1);
  return done(&r, path, NULL, NULL, syscall(SYS_ftruncate, fd, size));
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
int posix_fallocate(int fd, off_t offset, off_t size) {
  REAL(int, "posix_fallocate64", int, off_t, off_t);
  char path[PATH_MAX];
  struct record r = {.op = ALLOCATE, .offset = offset, .size = size};
  if (!ours(fd, path, &r)) return real(fd, offset, size);
  if (fate(&r, path, NULL) == 1) {
    done(&r, path, NULL, NULL, -1);
    return errno;
  }
  int error = real(fd, offset, size);
  errno = error;
  done(&r, path, NULL, NULL, error ? -1 : 0);
  return error;
}
int posix_fallocate64(int fd, off64_t offset, off64_t size) { return posix_fallocate(fd, offset, size); }

static int chmod_any(int op_fd, const char *at, mode_t mode, int (*act)(int, const char *, mode_t)) {
  char path[PATH_MAX] = "";
  struct record r = {.op = CHMOD, .mode = mode};
  int mine;
  if (at) {
    if (armed) absolute(op_fd, at, path);
    mine = below(path);
    if (mine) r.inode = inode_of(path, NULL);
  } else mine = ours(op_fd, path, &r);
  if (!mine) return act(op_fd, at, mode);
  if (fate(&r, path, NULL) == 1) return done(&r, path, NULL, NULL, -1);
  return done(&r, path, NULL, NULL, act(op_fd, at, mode));
}
static int act_chmod(int fd, const char *path, mode_t mode) {
  return path ? syscall(SYS_fchmodat, fd, path, mode) : syscall(SYS_fchmod, fd, mode);
}
int chmod(const char *path, mode_t mode) { return chmod_any(AT_FDCWD, path, mode, act_chmod); }
int fchmod(int fd, mode_t mode) { return chmod_any(fd, NULL, mode, act_chmod); }
int fchmodat(int fd, const char *path, mode_t mode, int flags) {
  (void)flags;
  return chmod_any(fd, path, mode, act_chmod);
}

static int rename_any(int from_fd, const char *from, int to_fd, const char *to) {
  char a[PATH_MAX] = "", b[PATH_MAX] = "";
  if (armed) absolute(from_fd, from, a), absolute(to_fd, to, b);
  struct record r = {.op = RENAME};
  if (!below(a) && !below(b)) return syscall(SYS_renameat, from_fd, from, to_fd, to);
  r.inode = inode_of(a, NULL);
  if (fate(&r, a, b) == 1) return done(&r, a, b, NULL, -1);
  int result = syscall(SYS_renameat, from_fd, from, to_fd, to);
  if (!result && strstr(b, "/reserve")) full_disk = 0;
  return done(&r, a, b, NULL, result);
}
int rename(const char *from, const char *to) { return rename_any(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int a, const char *from, int b, const char *to) { return rename_any(a, from, b, to); }

static int unlink_any(int fd, const char *name, int flags) {
  char path[PATH_MAX] = "";
  if (armed) absolute(fd, name, path);
  if (!below(path)) return syscall(SYS_unlinkat, fd, name, flags);
  struct record r = {.op = flags & AT_REMOVEDIR ? RMDIR : UNLINK};
  r.inode = inode_of(path, NULL);
  if (fate(&r, path, NULL) == 1) return done(&r, path, NULL, NULL, -1);
  int result = syscall(SYS_unlinkat, fd, name, flags);
  size_t n = strlen(path);
  if (!result && n > 8 && !strcmp(path + n - 8, "/reserve")) full_disk = 0; /* the reserve gives its blocks back */
  return done(&r, path, NULL, NULL, result);
}
int unlink(const char *path) { return unlink_any(AT_FDCWD, path, 0); }
int unlinkat(int fd, const char *path, int flags) { return unlink_any(fd, path, flags); }
int rmdir(const char *path) { return unlink_any(AT_FDCWD, path, AT_REMOVEDIR); }

static int link_any(int from_fd, const char *from, int to_fd, const char *to, int flags) {
  char a[PATH_MAX] = "", b[PATH_MAX] = "";
  if (armed) absolute(from_fd, from, a), absolute(to_fd, to, b);
  if (!below(b)) return syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
  struct record r = {.op = LINK};
  r.inode = inode_of(a, NULL);
  if (fate(&r, a, b) == 1) return done(&r, a, b, NULL, -1);
  return done(&r, a, b, NULL, syscall(SYS_linkat, from_fd, from, to_fd, to, flags));
}
int link(const char *from, const char *to) { return link_any(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return link_any(a, from, b, to, flags); }

static int mkdir_any(int fd, const char *name, mode_t mode) {
  char path[PATH_MAX] = "";
  if (armed) absolute(fd, name, path);
  if (!below(path)) return syscall(SYS_mkdirat, fd, name, mode);
  struct record r = {.op = MKDIR};
  if (fate(&r, path, NULL) == 1) return done(&r, path, NULL, NULL, -1);
  int result = syscall(SYS_mkdirat, fd, name, mode);
  if (!result) r.inode = inode_of(path, &r.mode);
  return done(&r, path, NULL, NULL, result);
}
int mkdir(const char *path, mode_t mode) { return mkdir_any(AT_FDCWD, path, mode); }
int mkdirat(int fd, const char *path, mode_t mode) { return mkdir_any(fd, path, mode); }

/* Counts what a program changes on the disk below SHIM_BELOW, and at the SHIM_AT-th change does what SHIM_MODE says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char below[4096];
static _Atomic uint64_t *count;
static uint64_t at;
static enum { COUNT, KILL, TORN, EIO_ONCE, FULL } mode;

#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); real; })

__attribute__((constructor)) static void begin(void) {
    char line[4096] = {0};
    int fd = REAL(open)("/proc/self/cmdline", O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0) close(fd);
    /* The child that parses writes nothing but its pipes. */
    if (n > 0 && memmem(line, n, "__read", 6)) return;
    const char *path = getenv("SHIM_COUNT"), *folder = getenv("SHIM_BELOW"), *how = getenv("SHIM_MODE");
    if (!path || !folder) return;
    snprintf(below, sizeof below, "%s/", folder);
    fd = REAL(open)(path, O_RDWR);
    if (fd < 0) abort();
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (count == MAP_FAILED) abort();
    at = getenv("SHIM_AT") ? strtoull(getenv("SHIM_AT"), NULL, 10) : 0;
    mode = !how ? COUNT : !strcmp(how, "kill") ? KILL : !strcmp(how, "torn") ? TORN : !strcmp(how, "eio") ? EIO_ONCE : FULL;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int is_below(const char *path) {
    return count && path && !strncmp(path, below, strlen(below));
}

static int fd_is_below(int fd) {
    char link[64], path[4096];
    if (!count) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return is_below(path);
}

/* Returns whether the change must fail; `half`, where it is not NULL, does half of it for a torn one. */
static int next(int takes_room) {
    uint64_t n = ++*count;
    if (!at || n < at) return 0;
    if (mode == KILL && n == at) die();
    if (mode == EIO_ONCE && n == at) { errno = EIO; return 1; }
    if (mode == FULL && takes_room) { errno = ENOSPC; return 1; }
    return 0;
}

static int is_torn(void) { return mode == TORN && at && *count >= at; }

ssize_t write(int fd, const void *bytes, size_t len) {
    if (fd_is_below(fd)) {
        if (next(1)) return -1;
        if (is_torn()) { REAL(write)(fd, bytes, len / 2); die(); }
    }
    return REAL(write)(fd, bytes, len);
}

#define BEFORE(condition, takes_room) \
    if (condition) { if (next(takes_room)) return -1; if (is_torn()) die(); }

int fsync(int fd) { BEFORE(fd_is_below(fd), 0) return REAL(fsync)(fd); }
int fdatasync(int fd) { BEFORE(fd_is_below(fd), 0) return REAL(fdatasync)(fd); }
int rename(const char *from, const char *to) { BEFORE(is_below(to), 0) return REAL(rename)(from, to); }
int unlink(const char *path) { BEFORE(is_below(path), 0) return REAL(unlink)(path); }
int mkdir(const char *path, mode_t m) { BEFORE(is_below(path), 1) return REAL(mkdir)(path, m); }
int ftruncate64(int fd, off64_t len) { BEFORE(fd_is_below(fd), 0) return REAL(ftruncate64)(fd, len); }

int open64(const char *path, int flags, ...) {
    mode_t m = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        m = va_arg(rest, mode_t);
        va_end(rest);
    }
    struct stat64 known;
    /* Only what makes a file: opening one that is there changes nothing. */
    if ((flags & O_CREAT) && is_below(path) && stat64(path, &known) != 0) { BEFORE(1, 1) }
    return REAL(open64)(path, flags, m);
}

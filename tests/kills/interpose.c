/* Loaded with LD_PRELOAD: counts the system calls that write, in all processes of a command, and
 * at the n-th kills or stops them, before the call is made (a torn write gets half of its bytes
 * down first). All else goes to the kernel as it would without us.
 *
 * The plan is a file that all of the processes map; preload.py knows its layout as well. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ANY, MAIN, WORKERS }; /* whose calls count */
enum { KILL_ALL, KILL_ONE, STOP_ALL };

static struct plan {
    int64_t left; /* calls until the act; disarmed at 0 and below */
    int32_t whose, act, torn, main_pid;
    char call[232]; /* where it happened */
} *plan;

int kills_open(const char *path) {
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    void *at = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED) return -1;
    plan = at;
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    if (getenv("KILLS_PLAN")) kills_open(getenv("KILLS_PLAN"));
}

/* A call on a path (fd -1), or on an open file: pipes, sockets and the terminal do not count. */
static void at(const char *call, int fd, const char *path, const void *data, size_t size,
               off_t offset) {
    struct stat status;
    char link[32], name[160] = "";
    if (!plan || __atomic_load_n(&plan->left, __ATOMIC_SEQ_CST) <= 0) return;
    if (fd >= 0 && (fd <= 2 || fstat(fd, &status) || !S_ISREG(status.st_mode))) return;
    int is_main = getpid() == plan->main_pid;
    if (plan->whose != ANY && (plan->whose == MAIN) != is_main) return;
    if (__atomic_sub_fetch(&plan->left, 1, __ATOMIC_SEQ_CST) != 0) return;
    if (fd >= 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, name, sizeof name - 1) > 0) path = name;
    }
    snprintf(plan->call, sizeof plan->call, "%s: %s %s", is_main ? "main" : "worker", call, path);
    if (plan->act == STOP_ALL) {
        kill(-getpgrp(), SIGSTOP);
        return;
    }
    if (plan->torn && data && offset < 0) syscall(SYS_write, fd, data, size / 2);
    if (plan->torn && data && offset >= 0) syscall(SYS_pwrite64, fd, data, size / 2, offset);
    kill(plan->act == KILL_ONE ? getpid() : -getpgrp(), SIGKILL);
    for (;;) pause();
}

#define CALL(TYPE, NAME, TAKES, FD, PATH, ...) \
    TYPE NAME TAKES { at(#NAME, FD, PATH, NULL, 0, 0); return syscall(__VA_ARGS__); }
#define OPEN(NAME, FOLDER, ...) \
    int NAME(__VA_ARGS__ const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more); \
        if (flags & (O_CREAT | O_TRUNC)) at(#NAME, -1, path, NULL, 0, 0); \
        return syscall(SYS_openat, FOLDER, path, flags, mode); \
    }
#define PWRITE(NAME, OFFSET) \
    ssize_t NAME(int fd, const void *data, size_t size, OFFSET offset) { \
        at(#NAME, fd, "", data, size, offset); \
        return syscall(SYS_pwrite64, fd, data, size, offset); \
    }
#define HERE AT_FDCWD
typedef const char *text;

ssize_t write(int fd, const void *data, size_t size) {
    at("write", fd, "", data, size, -1);
    return syscall(SYS_write, fd, data, size);
}
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
OPEN(open, HERE)
OPEN(open64, HERE)
OPEN(openat, dir, int dir,)
OPEN(openat64, dir, int dir,)
CALL(ssize_t, writev, (int fd, void *parts, int n), fd, "", SYS_writev, fd, parts, n)
CALL(ssize_t, sendfile, (int to, int fd, void *o, size_t n), to, "", SYS_sendfile, to, fd, o, n)
CALL(ssize_t, sendfile64, (int to, int fd, void *o, size_t n), to, "", SYS_sendfile, to, fd, o, n)
CALL(int, ftruncate, (int fd, off_t size), fd, "", SYS_ftruncate, fd, size)
CALL(int, ftruncate64, (int fd, off64_t size), fd, "", SYS_ftruncate, fd, size)
CALL(int, fsync, (int fd), fd, "", SYS_fsync, fd)
CALL(int, fdatasync, (int fd), fd, "", SYS_fdatasync, fd)
CALL(int, fchmod, (int fd, mode_t mode), fd, "", SYS_fchmod, fd, mode)
CALL(int, chmod, (text path, mode_t mode), -1, path, SYS_fchmodat, HERE, path, mode)
CALL(int, unlink, (text path), -1, path, SYS_unlinkat, HERE, path, 0)
CALL(int, unlinkat, (int dir, text path, int flags), -1, path, SYS_unlinkat, dir, path, flags)
CALL(int, rmdir, (text path), -1, path, SYS_unlinkat, HERE, path, AT_REMOVEDIR)
CALL(int, mkdir, (text path, mode_t mode), -1, path, SYS_mkdirat, HERE, path, mode)
CALL(int, rename, (text from, text path), -1, path, SYS_renameat2, HERE, from, HERE, path, 0)
CALL(int, mkdirat, (int dir, text path, mode_t mode), -1, path, SYS_mkdirat, dir, path, mode)
CALL(int, renameat, (int dir, text from, int to, text path), -1, path, SYS_renameat2, dir, from, to,
     path, 0)
CALL(int, link, (text from, text path), -1, path, SYS_linkat, HERE, from, HERE, path, 0)
CALL(int, linkat, (int dir, text from, int to, text path, int flags), -1, path, SYS_linkat, dir,
     from, to, path, flags)
CALL(int, symlink, (text from, text path), -1, path, SYS_symlinkat, from, HERE, path)

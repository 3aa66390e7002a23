/* Let a program fail to open one file: loaded before libc (LD_PRELOAD), this stands in for its functions that open.

   FAULT_LOG    file that gets a line per file: "r <path>" or "w <path>". Without it nothing is done.
   FAULT_ROOT   only files below this folder are considered.
   FAULT_PATH   the file that cannot be opened; without it, every file is listed and none fails.
   FAULT_ERRNO  the error; ENOSPC only if the file is opened for writing.
   FAULT_DELAY  milliseconds that the first SLOW files of a process take to open for writing, as on a slow disk. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLOW 10

static void delay(int writes)
{
    static int opened;
    const char *delay = getenv("FAULT_DELAY");
    if (!delay || !writes || opened++ >= SLOW)
        return;
    struct timespec time = {atoi(delay) / 1000, atoi(delay) % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

static int fails(const char *path, int writes)
{
    const char *log = getenv("FAULT_LOG"), *root = getenv("FAULT_ROOT"), *wanted = getenv("FAULT_PATH");
    if (!log || !root || !path)
        return 0;

    char full[2 * PATH_MAX] = "", line[2 * PATH_MAX + 4];
    if (path[0] != '/' && syscall(SYS_getcwd, full, PATH_MAX) > 0)
        strcat(full, "/");
    strncat(full, path, PATH_MAX - 1);
    if (strncmp(full, root, strlen(root)) || (wanted && strcmp(full, wanted)))
        return 0;

    int error = wanted ? atoi(getenv("FAULT_ERRNO")) : 0;
    if (error == ENOSPC && !writes)
        return 0;

    int length = snprintf(line, sizeof line, "%c %s\n", writes ? 'w' : 'r', full);
    int out = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (out >= 0) {
        if (write(out, line, length) != length)
            abort();
        close(out);
    }
    delay(writes);
    errno = error;
    return error != 0;
}

#define WRITES(flags) (((flags) & (O_CREAT | O_WRONLY | O_RDWR)) != 0)
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(flags) ({ va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); mode; })

int open(const char *path, int flags, ...)
{
    return fails(path, WRITES(flags)) ? -1 : REAL(open)(path, flags, MODE(flags));
}

int open64(const char *path, int flags, ...)
{
    return fails(path, WRITES(flags)) ? -1 : REAL(open64)(path, flags, MODE(flags));
}

int openat(int folder, const char *path, int flags, ...)
{
    return fails(path, WRITES(flags)) ? -1 : REAL(openat)(folder, path, flags, MODE(flags));
}

int openat64(int folder, const char *path, int flags, ...)
{
    return fails(path, WRITES(flags)) ? -1 : REAL(openat64)(folder, path, flags, MODE(flags));
}

FILE *fopen(const char *path, const char *mode)
{
    return fails(path, mode[0] != 'r' || strchr(mode, '+')) ? NULL : REAL(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    return fails(path, mode[0] != 'r' || strchr(mode, '+')) ? NULL : REAL(fopen64)(path, mode);
}

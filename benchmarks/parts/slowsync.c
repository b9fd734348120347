/* A disk of a chosen slowness: every fsync and fdatasync takes SLOWSYNC_US microseconds longer.
 * cc -O2 -shared -fPIC -o slowsync.so slowsync.c -ldl; SLOWSYNC_US=1000 LD_PRELOAD=./slowsync.so program */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int slowly(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *text = getenv("SLOWSYNC_US");
    long us = text ? atol(text) : 0;
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    int result = real(fd), kept = errno;
    while (us > 0 && nanosleep(&left, &left) == -1 && errno == EINTR) {}
    errno = kept;
    return result;
}

int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }

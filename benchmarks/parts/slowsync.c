/* A disk of a chosen slowness: every fsync and fdatasync takes SLOWSYNC_US microseconds longer, or as many as stand
 * in the file SLOWSYNC_FILE at that moment.
 * cc -O2 -shared -fPIC -o slowsync.so slowsync.c -ldl; SLOWSYNC_US=1000 LD_PRELOAD=./slowsync.so program */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int slowly(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *text = getenv("SLOWSYNC_US");
    const char *path = getenv("SLOWSYNC_FILE");
    long us = text ? atol(text) : 0;
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file) {
        if (fscanf(file, "%ld", &us) != 1) us = 0;
        fclose(file);
    }
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    int result = real(fd), kept = errno;
    while (us > 0 && nanosleep(&left, &left) == -1 && errno == EINTR) {}
    errno = kept;
    return result;
}

int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }

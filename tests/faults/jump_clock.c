/* LD_PRELOAD: the wall clock is off by as many seconds as the file named by JUMP_CLOCK says; the
 * monotonic clock is as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t which, struct timespec *found) {
    static int (*real)(clockid_t, struct timespec *) = NULL;
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(which, found);
    const char *path = which == CLOCK_REALTIME ? getenv("JUMP_CLOCK") : NULL;
    FILE *file = path ? fopen(path, "r") : NULL;
    long seconds = 0;
    if (!file) return result;
    if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
    fclose(file);
    found->tv_sec += seconds;
    return result;
}

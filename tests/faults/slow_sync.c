/* LD_PRELOAD: fsync and fdatasync take longer while the file named by SLOW_SYNC exists; the file
 * says how many milliseconds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void dawdle(void) {
    const char *path = getenv("SLOW_SYNC");
    FILE *file = path ? fopen(path, "r") : NULL;
    long milliseconds = 0;
    if (!file) return;
    if (fscanf(file, "%ld", &milliseconds) != 1) milliseconds = 0;
    fclose(file);
    struct timespec wait = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
    nanosleep(&wait, NULL);
}

int fsync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    dawdle();
    return real(descriptor);
}

int fdatasync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    dawdle();
    return real(descriptor);
}

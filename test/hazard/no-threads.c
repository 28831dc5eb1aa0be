/* Takes the place of pthread_create: while TERNION_TEST_NO_THREADS is a number, the system has so many threads left to give, and then none. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

typedef int create_thread(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static int given;

int pthread_create(pthread_t * thread, const pthread_attr_t * attributes, void * (*start)(void *), void * argument) {
    create_thread * next = (create_thread *) dlsym(RTLD_NEXT, "pthread_create");
    const char * left = getenv("TERNION_TEST_NO_THREADS");
    if (!left) {
        __atomic_store_n(&given, 0, __ATOMIC_RELAXED);
    } else if (__atomic_fetch_add(&given, 1, __ATOMIC_RELAXED) >= atoi(left)) {
        return EAGAIN;
    }
    return next(thread, attributes, start, argument);
}

/* Takes the place of pthread_create: while TERNION_TEST_NO_THREADS is set, the system has no thread left to give. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

typedef int create_thread(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int pthread_create(pthread_t * thread, const pthread_attr_t * attributes, void * (*start)(void *), void * argument) {
    create_thread * next = (create_thread *) dlsym(RTLD_NEXT, "pthread_create");
    return getenv("TERNION_TEST_NO_THREADS") ? EAGAIN : next(thread, attributes, start, argument);
}

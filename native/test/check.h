// The least that a C++ test needs: a check that names itself, and an exit code.
#pragma once

#include <cstdio>

inline int failures = 0;

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                               \
        }                                                                             \
    } while (false)

inline int finish_tests() {
    if (failures > 0) {
        std::fprintf(stderr, "%d checks failed\n", failures);
    }
    return failures == 0 ? 0 : 1;
}

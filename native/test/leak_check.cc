// leak-check.node: LeakSanitizer's look at the process, for a test file to end with. What runs inside Node is not looked at when it exits: V8 frees
// little then, and processes that end in the middle of things are what many tests are about.
#include <node_api.h>
#include <sanitizer/lsan_interface.h>

namespace {

napi_value leaks(napi_env env, napi_callback_info) {
    napi_value found = nullptr;
    napi_get_boolean(env, __lsan_do_recoverable_leak_check() != 0, &found);
    return found;
}

} // namespace

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
    napi_value function = nullptr;
    napi_create_function(env, "leaks", NAPI_AUTO_LENGTH, leaks, nullptr, &function);
    napi_set_named_property(env, exports, "leaks", function);
    return exports;
}

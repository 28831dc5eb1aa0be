// Work on the environment's I/O thread that a promise waits for.
#pragma once

#include "environment.h"
#include "napi_util.h"

#include <exception>
#include <string>
#include <utility>

namespace ternion::binding {

/// What may take long: files, checksums of 100 MB, drivers, which may throw. `work` gives a Result on the I/O thread, `settle` its value to the
/// promise; `what` says in an error's text what failed.
template <typename Work, typename Settle>
napi_value on_io(napi_env env, const char * what, Work work, Settle settle) {
    napi_value promise;
    const Promise settled(env, promise);
    Environment::of(env).io.post([what, work = std::move(work), settle = std::move(settle), settled](bool cancelled) {
        if (cancelled) {
            return;
        }
        try {
            auto result = work();
            if (!result) {
                settled.reject(result.error());
                return;
            }
            settle(settled, std::move(*result));
        } catch (const std::exception & e) {
            settled.reject(Error{ErrorCode::internal, std::string(what) + " failed: " + e.what()});
        }
    });
    return promise;
}

/// The value as make() has it.
inline constexpr auto resolve_made = [](const Promise & settled, auto value) {
    settled.resolve([value = std::move(value)](napi_env e) { return make(e, value); });
};
inline constexpr auto resolve_nothing = [](const Promise & settled, bool) { settled.resolve(nullptr); };

} // namespace ternion::binding

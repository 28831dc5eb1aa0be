// A thin reading of Node-API: values in, values out. No class hierarchy; JavaScript thread only.
#pragma once

#include "engine/error.h"

#include <node_api.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ternion::binding {

/// Thrown by the readers below, turned into a JavaScript TypeError by guarded(). It means a bug in lib/, which has
/// checked every value a user can set.
struct ArgumentError {
    std::string message;
};

// ---- JavaScript → C++ -----------------------------------------------------------------------------------------------

std::string to_string(napi_env env, napi_value value);
double to_number(napi_env env, napi_value value);
bool to_bool(napi_env env, napi_value value);
std::vector<std::string> to_strings(napi_env env, napi_value value);
std::vector<int32_t> to_int32s(napi_env env, napi_value value);   // Int32Array
std::vector<uint8_t> to_bytes(napi_env env, napi_value value);    // Uint8Array
std::vector<float> to_floats(napi_env env, napi_value value);     // Float32Array
bool is_nullish(napi_env env, napi_value value);
bool is_function(napi_env env, napi_value value);
size_t array_length(napi_env env, napi_value value);
napi_value element(napi_env env, napi_value array, size_t i);
napi_value property(napi_env env, napi_value object, const char * name);

// ---- C++ → JavaScript -----------------------------------------------------------------------------------------------

napi_value make(napi_env env, std::string_view text);
inline napi_value make(napi_env env, const char * text) { return make(env, std::string_view(text)); }
inline napi_value make(napi_env env, const std::string & text) { return make(env, std::string_view(text)); }
napi_value make(napi_env env, double number);
napi_value make(napi_env env, bool flag) = delete; // would be a number: make_bool
napi_value make_bool(napi_env env, bool value);
napi_value make_undefined(napi_env env);
napi_value make_object(napi_env env);
napi_value make_array(napi_env env, size_t length);
/// Copies into memory that V8 owns: Electron forbids buffers that it does not.
napi_value make_floats(napi_env env, const float * values, size_t n);
napi_value make_int32s(napi_env env, const int32_t * values, size_t n);
napi_value make_bytes(napi_env env, const uint8_t * values, size_t n);
/// An Error with `code` and `details`.
napi_value make_error(napi_env env, const Error & error);

/// Memory outside V8's heap that goes with a JavaScript object: what garbage collection should know of, so that it looks for the object in
/// time. JavaScript thread.
class ReportedMemory {
  public:
    /// What is held now, in place of what was reported before.
    void report(napi_env env, uint64_t bytes);

  private:
    int64_t reported_ = 0;
};

void set(napi_env env, napi_value object, const char * name, napi_value value);
inline void set(napi_env env, napi_value object, const char * name, double number) { set(env, object, name, make(env, number)); }
inline void set(napi_env env, napi_value object, const char * name, std::string_view text) { set(env, object, name, make(env, text)); }
void set_element(napi_env env, napi_value array, size_t i, napi_value value);

// ---- calls ----------------------------------------------------------------------------------------------------------

/// Arguments of a call, missing ones undefined.
struct Call {
    Call(napi_env env, napi_callback_info info);
    napi_value operator[](size_t i) const { return args[i]; }

    static constexpr size_t max_args = 4;
    napi_value args[max_args];
    napi_value self;
    void * data = nullptr;
};

/// Wraps a native function so that no C++ exception crosses into Node.
template <napi_value (*F)(napi_env, const Call &)>
napi_value guarded(napi_env env, napi_callback_info info) {
    try {
        return F(env, Call(env, info));
    } catch (const ArgumentError & e) {
        napi_throw_type_error(env, nullptr, e.message.c_str());
    } catch (const std::exception & e) {
        napi_throw_error(env, "ERR_INTERNAL", e.what());
    }
    return nullptr;
}

napi_value make_function(napi_env env, const char * name, napi_callback callback, void * data = nullptr);

/// Calls `function` without arguments or result; an exception from it is reported as uncaught.
void call_back(napi_env env, napi_value function, size_t argc = 0, const napi_value * argv = nullptr);

} // namespace ternion::binding

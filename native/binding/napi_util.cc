#include "napi_util.h"

#include <cstring>

namespace ternion::binding {
namespace {

void expect(napi_status status, const char * what) {
    if (status != napi_ok) {
        throw ArgumentError{std::string("native binding: expected ") + what};
    }
}

template <typename T>
std::vector<T> typed_array(napi_env env, napi_value value, napi_typedarray_type wanted, const char * what) {
    napi_typedarray_type type;
    size_t length = 0;
    void * data = nullptr;
    expect(napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr), what);
    expect(type == wanted ? napi_ok : napi_invalid_arg, what);
    const T * first = static_cast<const T *>(data);
    return length == 0 ? std::vector<T>() : std::vector<T>(first, first + length);
}

/// By JavaScript's own constructor, which throws where V8's would end the process: no memory, or longer than this V8's arrays can be.
template <typename T>
napi_value typed_array(napi_env env, const char * name, napi_typedarray_type wanted, const T * values, size_t n) {
    napi_value global = nullptr, constructor = nullptr, length = nullptr, array = nullptr;
    napi_get_global(env, &global);
    napi_get_named_property(env, global, name, &constructor);
    napi_create_double(env, static_cast<double>(n), &length);
    void * data = nullptr;
    size_t found = 0;
    napi_typedarray_type type;
    if (napi_new_instance(env, constructor, 1, &length, &array) != napi_ok ||
        napi_get_typedarray_info(env, array, &type, &found, &data, nullptr, nullptr) != napi_ok || type != wanted || found != n) {
        napi_value thrown = nullptr;
        napi_get_and_clear_last_exception(env, &thrown);
        const std::string bytes = std::to_string(n * sizeof(T));
        napi_throw(env, make_error(env, {ErrorCode::out_of_memory, "JavaScript has no room for an array of " + bytes + " bytes"}));
        return nullptr;
    }
    if (n > 0) {
        std::memcpy(data, values, n * sizeof(T));
    }
    return array;
}

} // namespace

std::string to_string(napi_env env, napi_value value) {
    size_t length = 0;
    expect(napi_get_value_string_utf8(env, value, nullptr, 0, &length), "a string");
    std::string text(length, '\0');
    napi_get_value_string_utf8(env, value, text.data(), length + 1, &length);
    return text;
}

double to_number(napi_env env, napi_value value) {
    double number = 0;
    expect(napi_get_value_double(env, value, &number), "a number");
    return number;
}

bool to_bool(napi_env env, napi_value value) {
    bool flag = false;
    expect(napi_get_value_bool(env, value, &flag), "a boolean");
    return flag;
}

std::vector<std::string> to_strings(napi_env env, napi_value value) {
    std::vector<std::string> texts;
    for (size_t i = 0; i < array_length(env, value); ++i) {
        texts.push_back(to_string(env, element(env, value, i)));
    }
    return texts;
}

std::vector<int32_t> to_int32s(napi_env env, napi_value value) {
    return typed_array<int32_t>(env, value, napi_int32_array, "an Int32Array");
}

std::vector<uint8_t> to_bytes(napi_env env, napi_value value) {
    return typed_array<uint8_t>(env, value, napi_uint8_array, "a Uint8Array");
}

std::vector<float> to_floats(napi_env env, napi_value value) {
    return typed_array<float>(env, value, napi_float32_array, "a Float32Array");
}

bool is_nullish(napi_env env, napi_value value) {
    napi_valuetype type;
    return napi_typeof(env, value, &type) != napi_ok || type == napi_undefined || type == napi_null;
}

bool is_function(napi_env env, napi_value value) {
    napi_valuetype type;
    return napi_typeof(env, value, &type) == napi_ok && type == napi_function;
}

size_t array_length(napi_env env, napi_value value) {
    uint32_t length = 0;
    expect(napi_get_array_length(env, value, &length), "an array");
    return length;
}

napi_value element(napi_env env, napi_value array, size_t i) {
    napi_value value = nullptr;
    expect(napi_get_element(env, array, static_cast<uint32_t>(i), &value), "an array element");
    return value;
}

napi_value property(napi_env env, napi_value object, const char * name) {
    napi_value value = nullptr;
    expect(napi_get_named_property(env, object, name, &value), name);
    return value;
}

napi_value make(napi_env env, std::string_view text) {
    napi_value value = nullptr;
    napi_create_string_utf8(env, text.data(), text.size(), &value);
    return value;
}

napi_value make(napi_env env, double number) {
    napi_value value = nullptr;
    napi_create_double(env, number, &value);
    return value;
}

napi_value make_bool(napi_env env, bool flag) {
    napi_value value = nullptr;
    napi_get_boolean(env, flag, &value);
    return value;
}

napi_value make_undefined(napi_env env) {
    napi_value value = nullptr;
    napi_get_undefined(env, &value);
    return value;
}

napi_value make_object(napi_env env) {
    napi_value value = nullptr;
    napi_create_object(env, &value);
    return value;
}

napi_value make_array(napi_env env, size_t length) {
    napi_value value = nullptr;
    napi_create_array_with_length(env, length, &value);
    return value;
}

napi_value make_floats(napi_env env, const float * values, size_t n) { return typed_array(env, "Float32Array", napi_float32_array, values, n); }
napi_value make_bytes(napi_env env, const uint8_t * values, size_t n) { return typed_array(env, "Uint8Array", napi_uint8_array, values, n); }
napi_value make_int32s(napi_env env, const int32_t * values, size_t n) { return typed_array(env, "Int32Array", napi_int32_array, values, n); }

napi_value make_error(napi_env env, const Error & error) {
    napi_value value = nullptr;
    napi_create_error(env, make(env, error_code_name(error.code)), make(env, error.message), &value);
    napi_value details = make_object(env);
    for (const ErrorDetail & detail : error.details) {
        napi_value converted = std::holds_alternative<std::string>(detail.value) ? make(env, std::get<std::string>(detail.value))
                               : std::holds_alternative<double>(detail.value)    ? make(env, std::get<double>(detail.value))
                                                                                 : make_bool(env, std::get<bool>(detail.value));
        set(env, details, detail.key.c_str(), converted);
    }
    set(env, value, "details", details);
    return value;
}

void ReportedMemory::report(napi_env env, uint64_t bytes) {
    int64_t total = 0;
    napi_adjust_external_memory(env, static_cast<int64_t>(bytes) - reported_, &total);
    reported_ = static_cast<int64_t>(bytes);
}

void set(napi_env env, napi_value object, const char * name, napi_value value) { napi_set_named_property(env, object, name, value); }

void set_element(napi_env env, napi_value array, size_t i, napi_value value) {
    napi_set_element(env, array, static_cast<uint32_t>(i), value);
}

Call::Call(napi_env env, napi_callback_info info) {
    size_t argc = max_args;
    expect(napi_get_cb_info(env, info, &argc, args, &self, &data), "a call");
}

napi_value make_function(napi_env env, const char * name, napi_callback callback, void * data) {
    napi_value value = nullptr;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, data, &value);
    return value;
}

void call_back(napi_env env, napi_value function, size_t argc, const napi_value * argv) {
    napi_value result = nullptr;
    if (napi_call_function(env, make_undefined(env), function, argc, argv, &result) == napi_pending_exception) {
        napi_value exception = nullptr;
        napi_get_and_clear_last_exception(env, &exception);
        napi_fatal_exception(env, exception);
    }
}

} // namespace ternion::binding

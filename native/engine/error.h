// Errors of the engine: values, never exceptions. Exceptions of llama.cpp and the standard library are caught at the
// call that can throw them and become an Error there.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace ternion {

/// One entry per code that the engine can produce; names are those of lib/errors.ts.
enum class ErrorCode {
    aborted,
    busy,
    context_full,
    device_lost,
    device_not_found,
    disposed,
    grammar_invalid,
    internal,
    invalid_arg,
    io,
    model_invalid,
    model_not_found,
    model_unsupported,
    out_of_memory,
    state_corrupt,
    state_mismatch,
    template_failed,
};

/// "ERR_ABORTED" …, static storage.
const char * error_code_name(ErrorCode code);

struct ErrorDetail {
    std::string key;
    std::variant<std::string, double, bool> value;
};

struct Error {
    ErrorCode code = ErrorCode::internal;
    std::string message;
    std::vector<ErrorDetail> details = {};
};

/// A value or an Error. Deliberately small: no monadic helpers, callers test and return.
template <typename T>
class [[nodiscard]] Result {
  public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    explicit operator bool() const { return state_.index() == 0; }
    T & operator*() { return std::get<0>(state_); }
    const T & operator*() const { return std::get<0>(state_); }
    T * operator->() { return &std::get<0>(state_); }
    const T * operator->() const { return &std::get<0>(state_); }
    Error & error() { return std::get<1>(state_); }
    const Error & error() const { return std::get<1>(state_); }

  private:
    std::variant<T, Error> state_;
};

} // namespace ternion

// Lists and whole numbers on their way to JavaScript.
#pragma once

#include "napi_util.h"

#include <cstdint>
#include <vector>

namespace ternion::binding {

inline double number(uint64_t value) { return static_cast<double>(value); }

template <typename T, typename F>
napi_value make_list(napi_env env, const std::vector<T> & items, F && convert) {
    napi_value array = make_array(env, items.size());
    for (size_t i = 0; i < items.size(); ++i) {
        set_element(env, array, i, convert(items[i]));
    }
    return array;
}

} // namespace ternion::binding

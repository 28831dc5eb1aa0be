#include "error.h"

namespace ternion {

const char * error_code_name(ErrorCode code) {
    switch (code) {
        case ErrorCode::aborted:           return "ERR_ABORTED";
        case ErrorCode::busy:              return "ERR_BUSY";
        case ErrorCode::context_full:      return "ERR_CONTEXT_FULL";
        case ErrorCode::device_lost:       return "ERR_DEVICE_LOST";
        case ErrorCode::device_not_found:  return "ERR_DEVICE_NOT_FOUND";
        case ErrorCode::disposed:          return "ERR_DISPOSED";
        case ErrorCode::grammar_invalid:   return "ERR_GRAMMAR_INVALID";
        case ErrorCode::internal:          return "ERR_INTERNAL";
        case ErrorCode::io:                return "ERR_IO";
        case ErrorCode::invalid_arg:       return "ERR_INVALID_ARG";
        case ErrorCode::model_invalid:     return "ERR_MODEL_INVALID";
        case ErrorCode::model_not_found:   return "ERR_MODEL_NOT_FOUND";
        case ErrorCode::model_unsupported: return "ERR_MODEL_UNSUPPORTED";
        case ErrorCode::out_of_memory:     return "ERR_OUT_OF_MEMORY";
        case ErrorCode::state_corrupt:     return "ERR_STATE_CORRUPT";
        case ErrorCode::state_mismatch:    return "ERR_STATE_MISMATCH";
        case ErrorCode::template_failed:   return "ERR_TEMPLATE";
    }
    return "ERR_INTERNAL";
}

} // namespace ternion

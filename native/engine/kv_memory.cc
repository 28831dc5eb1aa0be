#include "kv_memory.h"

#include <algorithm>
#include <new>

namespace ternion {
namespace {

llama_pos position(size_t n) { return static_cast<llama_pos>(n); }

} // namespace

KvMemory::KvMemory(llama_context * context) : context_(context), memory_(llama_get_memory(context)) {
    const llama_model * model = llama_get_model(context);
    window_ = static_cast<size_t>(std::max(0, llama_model_n_swa(model)));
    kind_ = llama_model_is_recurrent(model) || llama_model_is_hybrid(model) ? KvKind::recurrent : window_ > 0 ? KvKind::windowed : KvKind::full;
}

void KvMemory::clear(llama_seq_id sequence) { llama_memory_seq_rm(memory_, sequence, -1, -1); }

bool KvMemory::resumable(llama_seq_id sequence, size_t length, size_t keep, size_t window_from) const {
    if (keep == 0 || keep == length) {
        return keep <= length;
    }
    if (keep > length || kind_ == KvKind::recurrent) {
        return false;
    }
    const llama_pos oldest = std::max(llama_memory_seq_pos_min(memory_, sequence), position(window_from));
    return window_ == 0 || oldest <= std::max<llama_pos>(0, position(keep) - position(window_));
}

bool KvMemory::cut(llama_seq_id sequence, size_t keep) {
    if (keep > 0 && llama_memory_seq_rm(memory_, sequence, position(keep), -1)) {
        return true;
    }
    clear(sequence);
    return keep == 0;
}

void KvMemory::share(llama_seq_id from, llama_seq_id to, size_t begin, size_t end) {
    llama_memory_seq_cp(memory_, from, to, position(begin), position(end));
}

void KvMemory::close_gap(llama_seq_id sequence, size_t begin, size_t end) {
    llama_memory_seq_rm(memory_, sequence, position(begin), position(end));
    llama_memory_seq_add(memory_, sequence, position(end), -1, position(begin) - position(end));
}

// Upstream reads and writes tensors in destructors, where a lost device would end the process: it is to show before.
Bytes KvMemory::capture(llama_seq_id sequence, bool partial) const {
    llama_synchronize(context_);
    const llama_state_seq_flags flags = partial ? LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY : LLAMA_STATE_SEQ_FLAGS_NONE;
    Bytes bytes;
    try {
        bytes = Bytes::of(llama_state_seq_get_size_ext(context_, sequence, flags));
    } catch (const std::bad_alloc &) {
        return {};
    }
    if (bytes.size > 0 && llama_state_seq_get_data_ext(context_, bytes.data.get(), bytes.size, sequence, flags) != bytes.size) {
        return {};
    }
    return bytes;
}

bool KvMemory::restore(llama_seq_id sequence, const Bytes & bytes, bool partial) {
    llama_synchronize(context_);
    const llama_state_seq_flags flags = partial ? LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY : LLAMA_STATE_SEQ_FLAGS_NONE;
    if (bytes.size > 0 && llama_state_seq_set_data_ext(context_, bytes.data.get(), bytes.size, sequence, flags) == bytes.size) {
        return true;
    }
    if (!partial) {
        clear(sequence);
    }
    return false;
}

} // namespace ternion

// The KV cells and recurrent states of a llama_context, and what can be done with them.
#pragma once

#include "snapshot.h"

#include "llama.h"

#include <cstddef>
#include <cstdint>

namespace ternion {

/// What it takes to go back to an earlier position of a sequence.
enum class KvKind {
    full,      // nothing: every position has its cells
    windowed,  // some layers keep a window only (SWA): what lies before it must still be there, or a checkpoint
    recurrent, // some layers keep one state, of the last position: a checkpoint
};

/// Thin and checked: sequence ids are the caller's to keep in range. Positions count tokens from 0. Engine thread.
class KvMemory {
  public:
    KvMemory() = default;
    explicit KvMemory(llama_context * context);

    KvKind kind() const { return kind_; }
    /// Cells can be given other positions: roped keys are rotated on.
    bool can_shift() const { return kind_ == KvKind::full && llama_memory_can_shift(memory_); }
    /// Positions that a window looks back; 0: no window.
    size_t window() const { return window_; }

    /// Gives back everything that the sequence holds.
    void clear(llama_seq_id sequence);
    /// Whether the sequence, which holds [0, length) and from `window_from` on all that windows need, can go on behind its first
    /// `keep`.
    bool resumable(llama_seq_id sequence, size_t length, size_t keep, size_t window_from) const;
    /// Drops what lies behind the first `keep`. False: that went wrong, and the sequence holds nothing now.
    bool cut(llama_seq_id sequence, size_t keep);
    /// Marks the cells of [begin, end) of `from` as those of `to`, too. A recurrent state goes along whatever the range.
    void share(llama_seq_id from, llama_seq_id to, size_t begin, size_t end);
    /// Removes [begin, end) and moves [end, ...) to begin.
    void close_gap(llama_seq_id sequence, size_t begin, size_t end);

    /// All that the sequence holds as bytes; `partial`: without the cells that every position has (for checkpoints). Empty: there is
    /// no memory for them. Throws if the device is lost, as restore() does.
    Bytes capture(llama_seq_id sequence, bool partial) const;
    /// Replaces what the sequence holds by captured bytes. False: they do not fit, and the sequence holds nothing (of that part).
    bool restore(llama_seq_id sequence, const Bytes & bytes, bool partial);

    /// Positions that llama.cpp knows of for the sequence; for checks. -1: none.
    llama_pos last_position(llama_seq_id sequence) const { return llama_memory_seq_pos_max(memory_, sequence); }

  private:
    llama_context * context_ = nullptr;
    llama_memory_t memory_ = nullptr;
    KvKind kind_ = KvKind::full;
    size_t window_ = 0;
};

} // namespace ternion

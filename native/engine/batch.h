// A llama_batch in memory that is allocated once.
#pragma once

#include "llama.h"

namespace ternion {

/// Tokens of one decode call, at most `capacity` (one ubatch). Engine thread.
class Batch {
  public:
    Batch() = default;
    ~Batch() { release(); }
    Batch(const Batch &) = delete;
    Batch & operator=(const Batch &) = delete;

    void allocate(int32_t capacity) {
        release();
        batch_ = llama_batch_init(capacity, 0, 1);
        capacity_ = capacity;
    }

    void clear() { batch_.n_tokens = 0; }

    /// Returns the token's index in the batch, which is also how its logits are asked for.
    int32_t add(llama_token token, llama_pos position, llama_seq_id sequence, bool logits) {
        const int32_t i = batch_.n_tokens++;
        batch_.token[i] = token;
        batch_.pos[i] = position;
        batch_.n_seq_id[i] = 1;
        batch_.seq_id[i][0] = sequence;
        batch_.logits[i] = logits;
        return i;
    }

    int32_t size() const { return batch_.n_tokens; }
    int32_t room() const { return capacity_ - batch_.n_tokens; }
    bool empty() const { return batch_.n_tokens == 0; }
    const llama_batch & get() const { return batch_; }

  private:
    void release() {
        if (capacity_ > 0) {
            llama_batch_free(batch_);
        }
        capacity_ = 0;
    }

    llama_batch batch_ = {};
    int32_t capacity_ = 0;
};

} // namespace ternion

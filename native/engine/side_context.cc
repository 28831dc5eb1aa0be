#include "side_context.h"

#include "batch.h"
#include "log.h"
#include "sampler.h"
#include "upstream_assertions.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace ternion {
namespace {

struct Free {
    void operator()(llama_context * ctx) const { llama_free(ctx); }
};
using ContextPtr = std::unique_ptr<llama_context, Free>;

struct Abort {
    const std::atomic<bool> & cancel;
    const std::atomic<bool> & stopping;
    bool operator()() const { return cancel.load(std::memory_order_relaxed) || stopping.load(std::memory_order_relaxed); }
};

Error aborted() { return {ErrorCode::aborted, "the request was aborted"}; }

Result<ContextPtr> make_context(llama_model * model, llama_context_params params, const Abort & abort) {
    params.no_perf = true;
    params.kv_unified = true;
    params.abort_callback = [](void * user) { return (*static_cast<const Abort *>(user))(); };
    params.abort_callback_data = const_cast<Abort *>(&abort);
    LogCapture capture;
    const auto registry = registry_in_use();
    ContextPtr ctx(make_llama_context(model, params));
    if (!ctx) {
        return no_context("no context: ", capture.text("llama.cpp gave no reason"));
    }
    return ctx;
}

/// llama_decode's status, or device_lost_status.
constexpr int32_t device_lost_status = -100;

int32_t run_batch(const std::shared_ptr<Model> & model, ContextPtr & ctx, const Batch & batch) {
    try {
        const ThreadBudget::Turn turn;
        llama_attach_threadpool(ctx.get(), turn.pool(), turn.pool());
        const int32_t status = llama_get_memory(ctx.get()) ? llama_decode(ctx.get(), batch.get()) : llama_encode(ctx.get(), batch.get());
        if (status == 0) {
            llama_synchronize(ctx.get());
        }
        return status;
    } catch (const std::exception & e) {
        // The device is gone. Freeing the context would synchronise with it and end the process: it is leaked, and
        // with it the model that it points to.
        log_line(LogLevel::error, std::string("decode failed: ") + e.what());
        (void) ctx.release();
        new std::shared_ptr<Model>(model);
        return device_lost_status;
    }
}

Error failed(int32_t status, const Abort & abort) {
    if (status == device_lost_status) {
        return Error{ErrorCode::device_lost, "the device failed; load the model again"};
    }
    return status == 2 || abort() ? aborted() : Error{ErrorCode::internal, "llama.cpp returned " + std::to_string(status)};
}

} // namespace

void SideContext::stop() {
    stopping_ = true;
    worker_.stop();
}

void SideContext::embed(std::vector<std::string> texts, bool normalize, Cancel cancel, std::function<void(Result<Rows>)> done) {
    worker_.post([this, texts = std::move(texts), normalize, cancel = std::move(cancel), done = std::move(done)](bool cancelled) {
        if (cancelled || *cancel) {
            done(aborted());
            return;
        }
        try {
            done(run_embed(texts, normalize, *cancel));
        } catch (const std::bad_alloc &) {
            done(Error{ErrorCode::out_of_memory, "not enough memory for the embeddings of " + std::to_string(texts.size()) + " texts"});
        } catch (const std::exception & e) {
            done(Error{ErrorCode::internal, std::string("embedding failed: ") + e.what()});
        }
    });
}

void SideContext::post(std::vector<llama_token> tokens, Cancel cancel, Floats done,
                       Result<std::vector<float>> (SideContext::*work)(const std::vector<llama_token> &, const std::atomic<bool> &)) {
    worker_.post([this, work, tokens = std::move(tokens), cancel = std::move(cancel), done = std::move(done)](bool cancelled) {
        if (cancelled || *cancel) {
            done(aborted());
            return;
        }
        try {
            done((this->*work)(tokens, *cancel));
        } catch (const std::bad_alloc &) {
            done(Error{ErrorCode::out_of_memory, "not enough memory for the logits of " + std::to_string(tokens.size()) + " tokens"});
        } catch (const std::exception & e) {
            done(Error{ErrorCode::internal, std::string("computing the logits failed: ") + e.what()});
        }
    });
}

void SideContext::logits(std::vector<llama_token> tokens, Cancel cancel, Floats done) {
    post(std::move(tokens), std::move(cancel), std::move(done), &SideContext::run_logits);
}

void SideContext::score(std::vector<llama_token> tokens, Cancel cancel, Floats done) {
    post(std::move(tokens), std::move(cancel), std::move(done), &SideContext::run_score);
}

Result<SideContext::Rows> SideContext::run_embed(const std::vector<std::string> & texts, bool normalize, const std::atomic<bool> & cancel) {
    if (model_->info().pooling == "rank") {
        return Error{ErrorCode::model_unsupported, "the model ranks pairs of texts and has no embeddings"};
    }
    std::vector<std::vector<llama_token>> inputs;
    size_t longest = 1;
    const Abort abort{cancel, stopping_};
    for (const std::string & text : texts) {
        if (abort()) {
            return aborted();
        }
        auto tokens = model_->tokenize(text, true, true);
        if (!tokens) {
            return tokens.error();
        }
        if (tokens->empty()) {
            return Error{ErrorCode::invalid_arg, "text " + std::to_string(inputs.size()) + " has no tokens",
                         {{"index", static_cast<double>(inputs.size())}}};
        }
        if (tokens->size() > static_cast<size_t>(model_->info().trained_context)) {
            return Error{ErrorCode::context_full,
                         "text " + std::to_string(inputs.size()) + " has " + std::to_string(tokens->size()) +
                             " tokens, but the model was trained on " + std::to_string(model_->info().trained_context),
                         {{"index", static_cast<double>(inputs.size())},
                          {"promptTokens", static_cast<double>(tokens->size())},
                          {"context", static_cast<double>(model_->info().trained_context)}}};
        }
        longest = std::max(longest, tokens->size());
        inputs.push_back(std::move(*tokens));
    }
    Rows rows;
    if (inputs.empty()) {
        return rows;
    }

    // A pooled text must lie in one ubatch; several short ones share it.
    const uint32_t sequences = static_cast<uint32_t>(std::min<size_t>(inputs.size(), 16));
    // Of sequences that do not divide a ubatch, upstream reserves a graph for more tokens than outputs, and asserts.
    const uint32_t ubatch = (static_cast<uint32_t>(std::max<size_t>(longest, 512)) + sequences - 1) / sequences * sequences;
    llama_context_params params = llama_context_default_params();
    params.n_ctx = ubatch;
    params.n_batch = params.n_ubatch = ubatch;
    params.n_seq_max = sequences;
    params.kv_unified = true; // a cache for each sequence would cut texts of unlike lengths into several ubatches
    params.n_threads = params.n_threads_batch = threads_;
    params.embeddings = true;
    const bool unspecified = model_->info().pooling == "unspecified" || model_->info().pooling == "none";
    params.pooling_type = unspecified ? LLAMA_POOLING_TYPE_MEAN : LLAMA_POOLING_TYPE_UNSPECIFIED;
    auto ctx = make_context(model_->handle(), params, abort);
    if (!ctx) {
        return ctx.error();
    }
    const int32_t n_embd = llama_model_n_embd_out(model_->handle());
    Batch batch;
    batch.allocate(static_cast<int32_t>(ubatch));
    for (size_t next = 0; next < inputs.size();) {
        batch.clear();
        const size_t first = next;
        while (next < inputs.size() && next - first < sequences && inputs[next].size() <= static_cast<size_t>(batch.room())) {
            for (size_t i = 0; i < inputs[next].size(); ++i) {
                batch.add(inputs[next][i], static_cast<llama_pos>(i), static_cast<llama_seq_id>(next - first), true);
            }
            next++;
        }
        if (llama_memory_t memory = llama_get_memory(ctx->get())) {
            llama_memory_clear(memory, false);
        }
        if (const int32_t status = run_batch(model_, *ctx, batch); status != 0 || abort()) {
            return failed(status, abort);
        }
        for (size_t i = first; i < next; ++i) {
            const float * values = llama_get_embeddings_seq(ctx->get(), static_cast<llama_seq_id>(i - first));
            if (!values) {
                return Error{ErrorCode::model_unsupported, "the model gives no embeddings"};
            }
            std::vector<float> & row = rows.emplace_back(values, values + n_embd);
            double sum = 0.0;
            for (const float x : row) {
                sum += static_cast<double>(x) * x;
            }
            const double scale = normalize && sum > 0.0 ? 1.0 / std::sqrt(sum) : 1.0;
            for (float & x : row) {
                x = static_cast<float>(x * scale);
            }
        }
    }
    return rows;
}

Result<bool> SideContext::each_row(const std::vector<llama_token> & tokens, const std::atomic<bool> & cancel, const Row & take) {
    if (auto ok = model_->check_tokens(tokens); !ok) {
        return ok.error();
    }
    constexpr int32_t chunk = 128; // every position's logits are kept: 128 rows of a large vocabulary are 80 MB
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(tokens.size());
    params.n_batch = params.n_ubatch = chunk;
    params.n_seq_max = 1;
    params.type_k = kv_k_;
    params.type_v = kv_v_;
    params.n_threads = params.n_threads_batch = threads_;
    const Abort abort{cancel, stopping_};
    auto ctx = make_context(model_->handle(), params, abort);
    if (!ctx) {
        return ctx.error();
    }
    if (!llama_get_memory(ctx->get()) || !model_->info().causal) {
        return Error{ErrorCode::model_unsupported, "the model has no logits of a next token: it is an encoder"};
    }
    Batch batch;
    batch.allocate(chunk);
    for (size_t start = 0; start < tokens.size(); start += chunk) {
        batch.clear();
        const size_t end = std::min(start + chunk, tokens.size());
        for (size_t i = start; i < end; ++i) {
            batch.add(tokens[i], static_cast<llama_pos>(i), 0, true);
        }
        if (const int32_t status = run_batch(model_, *ctx, batch); status != 0 || abort()) {
            return failed(status, abort);
        }
        for (int32_t row = 0; row < batch.size(); ++row) {
            const float * logits = llama_get_logits_ith(ctx->get(), row);
            if (!logits) {
                return Error{ErrorCode::internal, "llama.cpp gave no logits"};
            }
            take(start + static_cast<size_t>(row), logits);
        }
    }
    return true;
}

Result<std::vector<float>> SideContext::run_logits(const std::vector<llama_token> & tokens, const std::atomic<bool> & cancel) {
    const auto n_vocab = static_cast<size_t>(model_->info().vocabulary);
    std::vector<float> out;
    if (tokens.empty()) {
        return out;
    }
    out.reserve(tokens.size() * n_vocab);
    if (auto ok = each_row(tokens, cancel, [&](size_t, const float * logits) { out.insert(out.end(), logits, logits + n_vocab); }); !ok) {
        return ok.error();
    }
    return out;
}

Result<std::vector<float>> SideContext::run_score(const std::vector<llama_token> & tokens, const std::atomic<bool> & cancel) {
    const auto n_vocab = model_->info().vocabulary;
    std::vector<float> out;
    if (tokens.size() < 2) {
        return out;
    }
    out.reserve(tokens.size() - 1);
    const auto take = [&](size_t position, const float * logits) {
        if (position + 1 == tokens.size()) {
            return; // what would follow the last token is not known
        }
        const float largest = logits[argmax(logits, n_vocab)];
        double sum = 0.0;
        for (int32_t i = 0; i < n_vocab; ++i) {
            sum += static_cast<double>(std::exp(logits[i] - largest));
        }
        out.push_back(static_cast<float>(static_cast<double>(logits[tokens[position + 1]] - largest) - std::log(sum)));
    };
    if (auto ok = each_row(tokens, cancel, take); !ok) {
        return ok.error();
    }
    return out;
}

} // namespace ternion

// From a request to prompt tokens, on the text thread: templates, tokenisation and grammars may take long, and the
// engine thread has other sequences to serve.
#include "context.h"

#include <algorithm>

namespace ternion {
namespace {

bool is_special(const llama_vocab * vocab, llama_token token) {
    return (llama_vocab_get_attr(vocab, token) & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED)) != 0;
}

} // namespace

Result<const ChatTemplate *> Context::chat_template() {
    if (!template_) {
        auto created = ChatTemplate::create(model_->handle());
        if (!created) {
            return created.error();
        }
        template_ = std::move(*created);
    }
    return static_cast<const ChatTemplate *>(template_.get());
}

void Context::render(std::vector<ChatMessage> messages, bool thinking, std::function<void(Result<std::string>)> done) {
    text_.post([this, messages = std::move(messages), thinking, done = std::move(done)](bool cancelled) {
        if (cancelled) {
            done(Error{ErrorCode::disposed, "the model was disposed"});
            return;
        }
        auto chat = chat_template();
        if (!chat) {
            done(chat.error());
            return;
        }
        auto rendered = (*chat)->render(messages, thinking);
        if (!rendered) {
            done(rendered.error());
            return;
        }
        done(rendered->prompt);
    });
}

void Context::prepare(const GenerationPtr & generation) {
    Result<bool> ready = true;
    if (!generation->cancelled) {
        try {
            ready = prepare_prompt(*generation);
        } catch (const std::exception & e) {
            ready = Error{ErrorCode::internal, e.what()};
        }
    }
    std::lock_guard lock(mutex_);
    commands_.push_back([this, generation, ready = std::move(ready)] {
        if (generation->state != Generation::State::preparing) {
            return; // already retired by cancel or stop
        }
        if (!ready) {
            fail(*generation, ready.error());
        } else {
            generation->feed = generation->prompt;
            generation->prepared = Clock::now();
            generation->state = Generation::State::queued;
        }
    });
    work_.notify_one();
}

Result<bool> Context::prepare_prompt(Generation & generation) {
    const GenerateRequest & request = generation.request;
    std::vector<std::string> stops = request.stop;
    ReasoningBudget budget;
    const Spelling & spelled = generation.session->spelled;

    if (request.chat) {
        auto chat = chat_template();
        if (!chat) {
            return chat.error();
        }
        auto rendered = (*chat)->render(request.messages, request.thinking);
        if (!rendered) {
            return rendered.error();
        }
        generation.rendered = std::make_shared<const RenderedChat>(std::move(*rendered));
        generation.prompt_text = generation.rendered->prompt;
        stops.insert(stops.end(), generation.rendered->stops.begin(), generation.rendered->stops.end());
        budget = {request.reasoning_budget, generation.rendered->thinking_start, generation.rendered->thinking_end,
                  generation.rendered->generation_prompt};
        for (const std::string & text : generation.rendered->preserved) {
            auto tokens = model_->tokenize(text, false, true);
            if (tokens && tokens->size() == 1) {
                generation.preserved.push_back(tokens->front());
            }
        }
    } else {
        generation.prompt_text = request.text;
    }

    if (!request.tokens.empty()) {
        if (auto known = model_->check_tokens(request.tokens); !known) {
            return known.error();
        }
        generation.prompt = request.tokens;
    }
    // Keep the ids that were chosen in earlier turns as far as the text is theirs; see Spelling. Only at a special token can
    // nothing be tokenised across the seam.
    if (request.chat) {
        const std::string & text = generation.prompt_text;
        const auto same = static_cast<size_t>(std::ranges::mismatch(spelled.text, text).in1 - spelled.text.begin());
        for (size_t i = spelled.seams.size(); i > 0 && generation.prompt.empty(); --i) {
            const Spelling::Seam seam = spelled.seams[i - 1];
            auto rest = seam.bytes <= same ? model_->tokenize(text.substr(seam.bytes), false, true) : Result<std::vector<llama_token>>(std::vector<llama_token>{});
            if (rest && !rest->empty() && is_special(model_->vocab(), rest->front())) {
                generation.prompt.assign(spelled.tokens.begin(), spelled.tokens.begin() + static_cast<std::ptrdiff_t>(seam.tokens));
                generation.prompt.insert(generation.prompt.end(), rest->begin(), rest->end());
                generation.seams.assign(spelled.seams.begin(), spelled.seams.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
    }
    if (generation.prompt.empty()) {
        auto tokens = model_->tokenize(generation.prompt_text, true, true);
        if (!tokens) {
            return tokens.error();
        }
        generation.prompt = std::move(*tokens);
    }

    const size_t needed = generation.prompt.size() + (request.max_tokens == 0 ? 0 : static_cast<size_t>(std::max(1, request.reserve)));
    if (generation.prompt.empty()) {
        return Error{ErrorCode::invalid_arg, "the prompt is empty: it has no tokens, and the vocabulary adds none"};
    }
    if (needed > context_) {
        return Error{ErrorCode::context_full,
                     "the prompt and what is to follow it take " + std::to_string(needed) + " tokens, but the context holds " +
                         std::to_string(context_) + "; shorten it, load the model with a larger context, or give the session an onFull",
                     {{"requested", static_cast<double>(needed)},
                      {"used", static_cast<double>(generation.session->n_tokens.load())},
                      {"available", static_cast<double>(context_)}}};
    }

    SamplingParams sampling = request.sampling;
    for (int32_t * last : {&sampling.penalty_last_n, &sampling.dry_penalty_last_n}) { // memory for each of them is taken at once
        *last = *last < 0 ? static_cast<int32_t>(context_) : std::min(*last, static_cast<int32_t>(context_));
    }
    auto sampler = Sampler::create(model_->handle(), sampling, budget);
    if (!sampler) {
        return sampler.error();
    }
    generation.sampler = std::move(*sampler);
    // The penalties look back over the prompt's end, as far as any of them may be asked to.
    for (const llama_token token : generation.prompt) {
        generation.sampler->accept(token, false);
    }
    generation.pipeline = std::make_unique<Pipeline>(stops, generation.rendered);
    return true;
}

} // namespace ternion

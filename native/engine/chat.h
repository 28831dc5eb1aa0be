// The model's own chat template (llama.cpp's jinja engine) and the parser that it implies.
#pragma once

#include "error.h"

#include "llama.h"

#include <memory>
#include <string>
#include <vector>

struct common_chat_templates;

namespace ternion {

struct ChatMessage {
    std::string role;
    std::string content;
    std::string reasoning;
};

/// What a template made of a conversation, and what it takes to read the answer. Immutable; shared between threads.
struct RenderedChat {
    std::string prompt;
    std::string generation_prompt; // the end of `prompt` that opens the assistant's turn
    std::string thinking_start;    // empty: the template knows no thinking
    std::string thinking_end;
    std::vector<std::string> stops;     // strings that end a turn beside the end-of-generation tokens
    std::vector<std::string> preserved; // control tokens whose text the parser must see
    bool plain = true;                  // the answer is content and nothing else: no parser needed
    struct Parser;
    std::shared_ptr<const Parser> parser;
};

/// Text and reasoning that became certain since the last call.
struct ChatDelta {
    std::string reasoning;
    std::string content;
};

/// A model's template. Used by the model's text thread alone.
class ChatTemplate {
  public:
    /// Fails with template_failed if the file's template cannot be parsed; a model without one gives an object whose
    /// render() says so.
    static Result<std::unique_ptr<ChatTemplate>> create(const llama_model * model);
    ~ChatTemplate();

    /// Ends with the generation prompt. `thinking` is the template's enable_thinking switch.
    Result<RenderedChat> render(const std::vector<ChatMessage> & messages, bool thinking) const;

  private:
    ChatTemplate() = default;
    std::unique_ptr<common_chat_templates, void (*)(common_chat_templates *)> templates_{nullptr, nullptr};
    bool exists_ = false;
};

/// Splits an answer into reasoning and content while it grows. Engine thread.
///
/// Upstream's parser takes the whole text each time; it is called once per delivery to JavaScript, not per token.
class ChatParser {
  public:
    explicit ChatParser(std::shared_ptr<const RenderedChat> chat);

    /// `text` is new; `last` says that no more will come. Text that the parser cannot place is content: nothing is lost.
    ChatDelta feed(const std::string & text, bool last);

  private:
    std::shared_ptr<const RenderedChat> chat_;
    std::string text_;
    std::string sent_reasoning_;
    std::string sent_content_;
    size_t parsed_bytes_ = 0; // of text_, when something was last sent
    bool broken_ = false;
};

} // namespace ternion

#include "chat.h"

#include "log.h"
#include "template_bounds.h"

#include <chat.h> // common's; ours is included with quotes

namespace ternion {

struct RenderedChat::Parser {
    common_chat_parser_params params;
};

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::create(const llama_model * model) {
    std::unique_ptr<ChatTemplate> self(new ChatTemplate);
    if (!llama_model_chat_template(model, nullptr) && !llama_model_chat_template(model, "tool_use")) {
        return self;
    }
    for (const char * name : {static_cast<const char *>(nullptr), "tool_use"}) {
        const char * source = llama_model_chat_template(model, name);
        if (auto sound = source ? check_template(source) : Result<bool>(true); !sound) {
            return sound.error();
        }
    }
    LogCapture capture;
    const TemplateBounds bounds(0, 0);
    try {
        self->templates_ = {common_chat_templates_init(model, "").release(), common_chat_templates_free};
        self->exists_ = true;
        if (bounds.exceeded()) {
            return TemplateBounds::error();
        }
    } catch (const std::exception & e) {
        if (bounds.exceeded()) {
            return TemplateBounds::error();
        }
        return Error{ErrorCode::template_failed, std::string("the model's chat template cannot be parsed: ") + capture.text(e.what())};
    }
    return self;
}

ChatTemplate::~ChatTemplate() = default;

Result<RenderedChat> ChatTemplate::render(const std::vector<ChatMessage> & messages, bool thinking) const {
    if (!exists_) {
        return Error{ErrorCode::template_failed, "the model has no chat template; use complete() with a prompt of your own"};
    }
    common_chat_templates_inputs inputs;
    for (const ChatMessage & message : messages) {
        common_chat_msg & msg = inputs.messages.emplace_back();
        msg.role = message.role;
        msg.content = message.content;
        msg.reasoning_content = message.reasoning;
    }
    inputs.use_jinja = true;
    inputs.add_generation_prompt = true;
    inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK; // reasoning apart from content
    inputs.enable_thinking = thinking;
    size_t input_bytes = 0;
    for (const ChatMessage & message : messages) {
        input_bytes += message.content.size() + message.reasoning.size();
    }
    LogCapture capture;
    const TemplateBounds bounds(messages.size(), input_bytes);
    try {
        const common_chat_params params = common_chat_templates_apply(templates_.get(), inputs);
        if (bounds.exceeded()) {
            return TemplateBounds::error();
        }
        RenderedChat chat;
        chat.prompt = params.prompt;
        chat.generation_prompt = params.generation_prompt;
        chat.thinking_start = params.thinking_start_tag;
        chat.thinking_end = params.thinking_end_tags.empty() ? "" : params.thinking_end_tags.front();
        chat.stops = params.additional_stops;
        chat.preserved = params.preserved_tokens;
        chat.plain = params.format == COMMON_CHAT_FORMAT_CONTENT_ONLY && !params.supports_thinking;
        if (!chat.plain) {
            auto parser = std::make_shared<RenderedChat::Parser>();
            parser->params = common_chat_parser_params(params);
            parser->params.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
            if (!params.parser.empty()) {
                parser->params.parser.load(params.parser);
            }
            chat.parser = std::move(parser);
        }
        return chat;
    } catch (const std::exception & e) {
        if (bounds.exceeded()) {
            return TemplateBounds::error();
        }
        return Error{ErrorCode::template_failed, std::string("the chat template failed: ") + e.what()};
    }
}

ChatParser::ChatParser(std::shared_ptr<const RenderedChat> chat) : chat_(std::move(chat)) {}

ChatDelta ChatParser::feed(const std::string & text, bool last) {
    if (chat_->plain || broken_) {
        return {{}, text};
    }
    text_ += text;
    ChatDelta delta;
    try {
        const common_chat_msg msg = common_chat_parse(text_, !last, chat_->parser->params);
        // A later parse may take back what an earlier one said (a tag that turned out to be text). What was sent
        // stays sent, so only growth is passed on.
        const bool grew = msg.reasoning_content.starts_with(sent_reasoning_) && msg.content.starts_with(sent_content_);
        if (grew) {
            delta.reasoning = msg.reasoning_content.substr(sent_reasoning_.size());
            delta.content = msg.content.substr(sent_content_.size());
            sent_reasoning_ = msg.reasoning_content;
            sent_content_ = msg.content;
            if (!delta.reasoning.empty() || !delta.content.empty()) {
                parsed_bytes_ = text_.size();
            }
            return delta;
        }
        if (!last) {
            return delta;
        }
    } catch (const std::exception & e) {
        if (!last) {
            return delta; // a prefix that no rule accepts yet
        }
        log_line(LogLevel::warn, std::string("chat parser: ") + e.what());
    }
    // The end, and the text fits no rule: hand over, as it is, what came after the last text that did.
    broken_ = true;
    delta.content = text_.substr(parsed_bytes_);
    return delta;
}

} // namespace ternion

#include "template_bounds.h"

#include <jinja/lexer.h>
#include <jinja/value.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

namespace ternion {
namespace {

constexpr size_t largest_source = 256 * 1024;
constexpr int deepest = 100;
constexpr size_t longest_block = 4000; // tokens

// Published templates stay below 10,000 steps for a short conversation, all renderings of the analysis together.
constexpr size_t steps = 1'000'000, steps_per_message = 2000;
constexpr size_t bytes = 64 << 20, bytes_per_message = 64 << 10, bytes_per_byte = 256;
// Each level is a few hundred bytes of stack to some kilobytes; threads have 8 MiB.
constexpr int deepest_recursion = 400;

Error refused(const std::string & found, const std::string & most) {
    return Error{ErrorCode::template_failed, "the model's chat template has " + found + "; at most " + most +
                                                 " are taken. Use complete() with a prompt of your own, or a file with another template"};
}

template <class T, class U>
bool is_one_of(const T & value, std::initializer_list<U> values) {
    return std::any_of(values.begin(), values.end(), [&](const U & other) { return value == other; });
}

/// Whether the `set` at `i` has its value beside it; else its statement goes on to an `endset`.
bool assigns(const std::vector<jinja::token> & tokens, size_t i) {
    for (int brackets = 0; i < tokens.size() && tokens[i].t != jinja::token::close_statement; ++i) {
        using Token = jinja::token;
        brackets += is_one_of(tokens[i].t, {Token::open_paren, Token::open_square_bracket, Token::open_curly_bracket});
        brackets -= is_one_of(tokens[i].t, {Token::close_paren, Token::close_square_bracket, Token::close_curly_bracket});
        if (brackets == 0 && tokens[i].t == Token::equals) {
            return true;
        }
    }
    return false;
}

} // namespace

Result<bool> check_template(const std::string & source) {
    using Token = jinja::token;
    if (source.size() > largest_source) {
        return refused(std::to_string(source.size()) + " bytes", std::to_string(largest_source));
    }
    jinja::lexer_result lexed;
    try {
        lexed = jinja::lexer().tokenize(source);
    } catch (const std::exception & e) {
        return Error{ErrorCode::template_failed, std::string("the model's chat template cannot be parsed: ") + e.what()};
    }
    std::vector<int> open; // levels of each open statement: an `elif` is parsed as an `if` inside
    int levels = 0, brackets = 0;
    size_t length = 0;
    const auto & tokens = lexed.tokens;
    for (size_t i = 0; i < tokens.size(); ++i) {
        if (is_one_of(tokens[i].t, {Token::open_statement, Token::open_expression})) {
            length = 0;
            brackets = 0;
        }
        brackets += is_one_of(tokens[i].t, {Token::open_paren, Token::open_square_bracket, Token::open_curly_bracket});
        brackets -= is_one_of(tokens[i].t, {Token::close_paren, Token::close_square_bracket, Token::close_curly_bracket});
        if (tokens[i].t == Token::open_statement && i + 1 < tokens.size()) {
            const std::string & word = tokens[i + 1].value;
            if (is_one_of(word, {"if", "for", "macro", "call", "filter"}) || (word == "set" && !assigns(tokens, i + 1))) {
                open.push_back(1);
                levels++;
            } else if (word == "elif" && !open.empty()) {
                open.back()++;
                levels++;
            } else if (is_one_of(word, {"endif", "endfor", "endmacro", "endcall", "endfilter", "endset"}) && !open.empty()) {
                levels -= open.back();
                open.pop_back();
            }
        }
        if (++length > longest_block) {
            return refused("a block of more than " + std::to_string(longest_block) + " tokens", std::to_string(longest_block));
        }
        if (brackets > deepest || levels > deepest) {
            return refused((brackets > deepest ? "brackets" : "statements") + std::string(" nested in more than ") + std::to_string(deepest) + " levels",
                           std::to_string(deepest));
        }
    }
    return true;
}

TemplateBounds::TemplateBounds(size_t messages, size_t input_bytes) {
    jinja::allowance & allowance = jinja::allowance::here();
    allowance.steps = steps + steps_per_message * messages;
    allowance.bytes = bytes + bytes_per_message * messages + bytes_per_byte * input_bytes;
    allowance.depth = deepest_recursion;
    allowance.exceeded = false;
    allowance.bounded = true;
}

TemplateBounds::~TemplateBounds() {
    jinja::allowance::here() = {};
    jinja::forget_containers();
}

bool TemplateBounds::exceeded() const { return jinja::allowance::here().exceeded; }

Error TemplateBounds::error() {
    return Error{ErrorCode::template_failed, "the model's chat template does not end within its bounds of steps, memory and recursion; "
                                             "use complete() with a prompt of your own, or a file with another template"};
}

} // namespace ternion

#include "io/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <candela/core/error.h>

#include "io/utf8.h"

namespace candela::io {
namespace {

// PCRE2's own \s under UCP also takes U+180E, which has not been White_Space since Unicode 6.3, and its \w
// lacks marks.
constexpr std::string_view kSpaceRanges =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kWordOniguruma =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr std::string_view kWordRust = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d})";

// Bounds on backtracking: a pattern that needs more on some text is reported instead of hanging.
constexpr std::uint32_t kMatchLimit = 50'000'000;
constexpr std::uint32_t kHeapLimitKib = 256 * 1024;

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

bool compiles(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF,
                                   &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

/// Rewrites the escapes that take an argument, \p{Name} and \uHHHH, at `pattern[i]` (the letter); moves `i`
/// to their last character. Empty if there is none here.
std::string translate_long_escape(std::string_view pattern, std::size_t& i) {
  const char letter = pattern[i];
  if (letter == 'u' && i + 4 < pattern.size()) {
    const std::string_view digits = pattern.substr(i + 1, 4);
    if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) return {};
    i += 4;
    return fmt::format("\\x{{{}}}", digits);
  }
  if ((letter == 'p' || letter == 'P') && i + 1 < pattern.size() && pattern[i + 1] == '{') {
    const std::size_t end = pattern.find('}', i);
    if (end == std::string_view::npos) return {};
    const std::string_view name = pattern.substr(i + 2, end - i - 2);
    // A bare script name means Script to Oniguruma, but Script_Extensions to PCRE2.
    const bool negated = name.starts_with('^');
    const std::string script =
        fmt::format("\\{}{{{}sc:{}}}", letter, negated ? "^" : "", name.substr(negated ? 1 : 0));
    const std::string plain(fmt::format("\\{}", pattern.substr(i, end + 1 - i)));
    i = end;
    return compiles(script) ? script : plain;
  }
  return {};
}

/// What replaces the escape `\letter` outside and inside a bracketed class; empty if it stays as it is.
std::string translate_escape(char letter, bool in_class, PatternSyntax syntax, const std::string& where) {
  const std::string_view word = syntax == PatternSyntax::Rust ? kWordRust : kWordOniguruma;
  switch (letter) {
    case 's':
      return in_class ? std::string(kSpaceRanges) : fmt::format("[{}]", kSpaceRanges);
    case 'S':
      return in_class ? R"(\P{White_Space})" : fmt::format("[^{}]", kSpaceRanges);
    case 'w':
      return in_class ? std::string(word) : fmt::format("[{}]", word);
    case 'W':
      require<Unsupported>(!in_class, "{}: \\W inside a bracketed class is not supported in a pattern",
                           where);
      return fmt::format("[^{}]", word);
    case 'b':  // in a class: a backspace
      return in_class ? std::string() : fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", word);
    case 'B':
      return in_class ? std::string() : fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", word);
    case 'd':
      return R"(\p{Nd})";
    case 'D':
      return R"(\P{Nd})";
    case 'h':
    case 'H':
    case 'K':
    case 'y':
    case 'Y':
    case 'O':
    case 'C':
    case 'Q':
    case 'E':
      throw Unsupported(fmt::format("{}: \\{} is not supported in a pattern", where, letter));
    default:
      return {};
  }
}

}  // namespace

std::string translate_pattern(std::string_view pattern, PatternSyntax syntax, const std::string& where) {
  std::string result;
  result.reserve(pattern.size() * 2);
  int class_depth = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      require<IoError>(i + 1 < pattern.size(), "{}: a pattern must not end in a backslash", where);
      const char letter = pattern[++i];
      std::string replacement = translate_long_escape(pattern, i);
      if (replacement.empty()) replacement = translate_escape(letter, class_depth > 0, syntax, where);
      result += replacement.empty() ? std::string{'\\', letter} : replacement;
      continue;
    }
    if (class_depth == 0) {
      if (c == '[') {
        ++class_depth;
        result += c;
        // A closing bracket that comes first in a class is a member of it.
        if (i + 1 < pattern.size() && pattern[i + 1] == '^') result += pattern[++i];
        if (i + 1 < pattern.size() && pattern[i + 1] == ']') {
          result += "\\]";
          ++i;
        }
        continue;
      }
      require<Unsupported>(pattern.substr(i, 2) != "(*", "{}: a pattern must not contain verbs (*...)",
                           where);
      require<Unsupported>(pattern.substr(i, 3) != "(?C", "{}: a pattern must not contain callouts (?C...)",
                           where);
      result += c;
      continue;
    }
    if (c == '[') {
      const std::size_t end = pattern.find(":]", i);
      const bool posix = pattern.substr(i, 2) == "[:" && end != std::string_view::npos;
      require<Unsupported>(posix, "{}: a class inside a class is not supported in a pattern", where);
      result += pattern.substr(i, end + 2 - i);
      i = end + 1;
      continue;
    }
    require<Unsupported>(pattern.substr(i, 2) != "&&",
                         "{}: the intersection && is not supported in a pattern", where);
    if (c == ']') --class_depth;
    result += c;
  }
  return result;
}

struct Regex::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  bool jit = false;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

Regex::Regex(std::string_view pattern, std::string where, PatternSyntax syntax) : where_(std::move(where)) {
  require<IoError>(is_valid_utf8(pattern), "{}: a pattern must be valid UTF-8", where_);
  require<IoError>(pattern.size() <= 65536, "{}: a pattern must be at most 65536 bytes; got {}", where_,
                   pattern.size());
  const std::string translated = translate_pattern(pattern, syntax, where_);
  auto code = std::make_shared<Code>();
  int error = 0;
  PCRE2_SIZE offset = 0;
  // MULTILINE: ^ and $ match at every line in Ruby's syntax.
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                             &offset, nullptr);
  if (!code->code) {
    throw IoError(
        fmt::format("{}: the pattern {:?} must compile; got: {}", where_, pattern, pcre2_message(error)));
  }
  code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  code->context = pcre2_match_context_create(nullptr);
  require<DeviceError>(code->context != nullptr, "{}: out of memory while compiling a pattern", where_);
  pcre2_set_match_limit(code->context, kMatchLimit);
  pcre2_set_heap_limit(code->context, kHeapLimitKib);
  code_ = std::move(code);
}

std::vector<Span> Regex::find_all(std::string_view text) const {
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  require<DeviceError>(match != nullptr, "{}: out of memory while matching a pattern", where_);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());

  std::vector<Span> result;
  std::size_t position = 0;
  std::optional<std::size_t> last_end;
  while (position <= text.size()) {
    int status = code_->jit ? pcre2_jit_match(code_->code, subject, text.size(), position, 0, match.get(),
                                              code_->context)
                            : PCRE2_ERROR_JIT_STACKLIMIT;
    if (status == PCRE2_ERROR_JIT_STACKLIMIT) {
      // The interpreter keeps its backtracking points on the heap, up to the limit above.
      status = pcre2_match(code_->code, subject, text.size(), position, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                           match.get(), code_->context);
    }
    if (status == PCRE2_ERROR_NOMATCH) break;
    if (status < 0) {
      throw InvalidArgument(fmt::format("{}: the pattern must match within its limits; got: {}", where_,
                                        pcre2_message(status)));
    }
    const Span found{bounds[0], bounds[1]};
    if (found.size() == 0 && last_end == found.end) {
      if (position >= text.size()) break;
      position += code_point_at(text, position).bytes;
      continue;
    }
    require<InvalidArgument>(found.begin <= found.end && found.end >= position,
                             "{}: the pattern must move forward", where_);
    result.push_back(found);
    position = found.end;
    last_end = found.end;
  }
  return result;
}

}  // namespace candela::io

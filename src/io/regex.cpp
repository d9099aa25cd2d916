#include "io/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <algorithm>
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

// Bounds on backtracking: a pattern that needs more on some text is reported instead of hanging. From each
// position, so many steps are free: what words take, but for long runs of one kind. A step of the JIT may
// read many characters. What it reads without a step is not bounded: possessive and atomic runs, those that
// PCRE2 makes possessive because what follows cannot match in them (a+[bc]), and the search backwards for one
// character (.*b). From each start of a long run, that is quadratic: seconds for 100 kB, minutes for 1 MB.
// PCRE2_NO_AUTO_POSSESS would count some of it, make it some fifty times slower, and still miss the others.
constexpr std::uint32_t kFreeJitSteps = 128;
constexpr std::uint32_t kFreeSteps = 1024;
constexpr std::uint32_t kHeapLimitKib = 256 * 1024;

/// The steps that one match may take. Those that a long run of one kind takes are linear in its length.
std::uint64_t most_steps(std::size_t bytes) {
  return (1U << 16U) + std::min<std::uint64_t>(16 * std::uint64_t{bytes}, 1U << 30U);
}

/// The steps that all matches in a text may take together beyond the free ones. Runs of one kind that are
/// tried anew from each of their characters and digits that are grouped from the right take a number
/// quadratic in their length: `least` is for those in short texts.
std::uint64_t step_budget(std::size_t bytes, std::uint64_t least) {
  constexpr std::uint64_t kPerByte = 2048;
  return least + kPerByte * bytes;
}

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

/// Rewrites the escapes that take an argument, \p{Name}, \uHHHH and \x{H}, at `pattern[i]` (the letter);
/// moves `i` to their last character. Empty if there is none here.
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
  if ((letter == 'x' || letter == 'o' || letter == 'g' || letter == 'k' || letter == 'N') &&
      pattern.substr(i + 1, 1) == "{") {
    const std::size_t begin = i - 1;
    i = std::min(pattern.find('}', i), pattern.size() - 1);
    return std::string(pattern.substr(begin, i + 1 - begin));
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

/// The quantifier {n}, {n,}, {,m} or {n,m} at `pattern[begin]`; empty if the brace there is a plain
/// character.
std::string_view interval_at(std::string_view pattern, std::size_t begin) {
  constexpr std::string_view kDigits = "0123456789";
  const auto skip_digits = [&](std::size_t at) {
    return std::min(pattern.find_first_not_of(kDigits, at), pattern.size());
  };
  std::size_t end = skip_digits(begin + 1);
  bool digits = end > begin + 1;
  if (end < pattern.size() && pattern[end] == ',') {
    const std::size_t second = end + 1;
    end = skip_digits(second);
    digits = digits || end > second;
  }
  return digits && end < pattern.size() && pattern[end] == '}' ? pattern.substr(begin, end + 1 - begin)
                                                               : std::string_view();
}

/// One walk over a pattern.
class Translator {
 public:
  Translator(std::string_view pattern, PatternSyntax syntax, const std::string& where)
      : pattern_(pattern), syntax_(syntax), where_(where) {
    result_.reserve(pattern.size() * 2);
  }

  std::string translate() {
    for (; at_ < pattern_.size(); ++at_) {
      if (pattern_[at_] == '\\') {
        add_escape();
      } else if (in_class_) {
        add_in_class();
      } else {
        add_outside();
      }
    }
    return std::move(result_);
  }

 private:
  std::string_view rest(std::size_t bytes) const { return pattern_.substr(at_, bytes); }

  void add_escape() {
    require<IoError>(at_ + 1 < pattern_.size(), "{}: a pattern must not end in a backslash", where_);
    if (!in_class_) atom_ = result_.size();
    const char letter = pattern_[++at_];
    std::string replacement = translate_long_escape(pattern_, at_);
    if (replacement.empty()) replacement = translate_escape(letter, in_class_, syntax_, where_);
    result_ += replacement.empty() ? std::string{'\\', letter} : replacement;
  }

  void add_in_class() {
    const char c = pattern_[at_];
    if (c == '[') {
      const std::size_t end = pattern_.find(":]", at_);
      const bool posix = rest(2) == "[:" && end != std::string_view::npos;
      require<Unsupported>(posix, "{}: a class inside a class is not supported in a pattern", where_);
      result_ += pattern_.substr(at_, end + 2 - at_);
      at_ = end + 1;
      return;
    }
    require<Unsupported>(rest(2) != "&&", "{}: the intersection && is not supported in a pattern", where_);
    in_class_ = c != ']';
    result_ += c;
  }

  void add_outside() {
    require<Unsupported>(rest(2) != "(*", "{}: a pattern must not contain verbs (*...)", where_);
    require<Unsupported>(rest(3) != "(?C", "{}: a pattern must not contain callouts (?C...)", where_);
    const char c = pattern_[at_];
    const std::size_t comment_end = rest(3) == "(?#" ? pattern_.find(')', at_) : std::string_view::npos;
    if (comment_end != std::string_view::npos) {
      at_ = comment_end;
      return;
    }
    switch (c) {
      case '[':
        open_class();
        return;
      case '{':
        add_brace();
        return;
      case '(':
        groups_.push_back(result_.size());
        break;
      case ')':
        if (groups_.empty()) break;  // does not compile
        atom_ = groups_.back();
        groups_.pop_back();
        break;
      case '*':
      case '+':
      case '?':
        break;
      default:
        if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) atom_ = result_.size();
    }
    result_ += c;
  }

  void open_class() {
    atom_ = result_.size();
    in_class_ = true;
    result_ += '[';
    // A closing bracket that comes first in a class is a member of it.
    if (rest(2) == "[^") result_ += pattern_[++at_];
    if (at_ + 1 < pattern_.size() && pattern_[at_ + 1] == ']') {
      result_ += "\\]";
      ++at_;
    }
  }

  /// After a count, neither Ruby's syntax nor Rust's knows + for possessive, nor Ruby's, where it is one
  /// number, ? for lazy: they are quantifiers of their own, of all that is before them.
  void add_brace() {
    const std::string_view interval = interval_at(pattern_, at_);
    if (interval.empty()) {
      atom_ = result_.size();
      result_ += "\\{";
      return;
    }
    result_ += interval[1] == ',' ? fmt::format("{{0{}", interval.substr(1)) : std::string(interval);
    at_ += interval.size() - 1;
    const char next = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    const bool lazy = syntax_ == PatternSyntax::Rust || interval.find(',') != std::string_view::npos;
    if (next == '+' || next == '*' || next == '{' || (next == '?' && !lazy)) {
      result_.insert(atom_, "(?:");
      result_ += ')';
    }
  }

  std::string_view pattern_;
  PatternSyntax syntax_;
  const std::string& where_;
  std::string result_;
  std::size_t at_ = 0;  // in pattern_
  bool in_class_ = false;
  std::size_t atom_ = 0;             // where in result_ that begins which a quantifier would repeat
  std::vector<std::size_t> groups_;  // where in result_ the open groups begin
};

}  // namespace

std::string translate_pattern(std::string_view pattern, PatternSyntax syntax, const std::string& where) {
  return Translator(pattern, syntax, where).translate();
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
  pcre2_set_match_limit(code->context, code->jit ? kFreeJitSteps : kFreeSteps);
  pcre2_set_heap_limit(code->context, kHeapLimitKib);
  code_ = std::move(code);
}

/// The matches of one pattern in one text.
class Regex::Search {
 public:
  Search(const Code& code, std::string_view text, const std::string& where, std::uint64_t least_steps)
      : code_(code),
        text_(text),
        where_(where),
        match_(pcre2_match_data_create(1, nullptr), pcre2_match_data_free),
        slow_(nullptr, pcre2_match_context_free),
        most_(step_budget(text.size(), least_steps)),
        budget_(most_) {
    require<DeviceError>(match_ != nullptr, "{}: out of memory while matching a pattern", where_);
  }

  /// The first match that starts at `position` or later.
  std::optional<Span> next(std::size_t position) {
    const int status = code_.jit ? pcre2_jit_match(code_.code, subject(), text_.size(), position, 0,
                                                   match_.get(), code_.context)
                                 : interpret(position, 0, code_.context);
    const bool hard = status == PCRE2_ERROR_MATCHLIMIT || status == PCRE2_ERROR_JIT_STACKLIMIT;
    return hard ? next_slowly(position) : found(status);
  }

 private:
  PCRE2_SPTR subject() const { return reinterpret_cast<PCRE2_SPTR>(text_.data()); }

  /// The interpreter keeps its backtracking points on the heap, up to the limit above.
  int interpret(std::size_t position, std::uint32_t options, pcre2_match_context* context) {
    return pcre2_match(code_.code, subject(), text_.size(), position,
                       PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT | options, match_.get(), context);
  }

  std::optional<Span> found(int status) const {
    if (status == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (status < 0) {
      throw InvalidArgument(fmt::format("{}: the pattern must match within its limits; got: {}", where_,
                                        pcre2_message(status)));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match_.get());
    return Span{bounds[0], bounds[1]};
  }

  /// As next(), one start after the other, so that what each takes can be counted: by the interpreter, whose
  /// steps are all about as long.
  std::optional<Span> next_slowly(std::size_t position) {
    if (!slow_) slow_.reset(pcre2_match_context_copy(code_.context));
    require<DeviceError>(slow_ != nullptr, "{}: out of memory while matching a pattern", where_);
    for (;;) {
      const int status = match_at(position);
      if (status != PCRE2_ERROR_NOMATCH) return found(status);
      if (position >= text_.size()) return std::nullopt;
      position += code_point_at(text_, position).bytes;
    }
  }

  /// PCRE2 does not tell what a match took: the limit rises until it suffices, and is paid for each time. As
  /// neighbours take about as many steps, it begins at half of what sufficed for the start before.
  int match_at(std::size_t position) {
    for (steps_ = std::max(steps_ / 2, kFreeSteps);; steps_ *= 2) {
      const std::uint64_t price = steps_ > kFreeSteps ? steps_ : 0;
      require<InvalidArgument>(
          price <= std::min(budget_, most_steps(text_.size())),
          "{}: the pattern must match within its limits; on {} bytes of text a match takes "
          "more than {} steps or all together take more than {}; simplify it, or shorten "
          "the text",
          where_, text_.size(), most_steps(text_.size()), most_);
      budget_ -= price;
      pcre2_set_match_limit(slow_.get(), steps_);
      const int status = interpret(position, PCRE2_ANCHORED, slow_.get());
      if (status != PCRE2_ERROR_MATCHLIMIT) return status;
    }
  }

  const Code& code_;
  std::string_view text_;
  const std::string& where_;
  std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match_;
  std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> slow_;
  std::uint64_t most_;                // steps of all matches together
  std::uint64_t budget_;              // what is left of them
  std::uint32_t steps_ = kFreeSteps;  // what the last start got
};

std::vector<Span> Regex::find_all(std::string_view text, std::uint64_t least_steps) const {
  Search search(*code_, text, where_, least_steps);
  std::vector<Span> result;
  std::size_t position = 0;
  std::optional<std::size_t> last_end;
  while (position <= text.size()) {
    const std::optional<Span> found = search.next(position);
    if (!found) break;
    if (found->size() == 0 && last_end == found->end) {
      if (position >= text.size()) break;
      position += code_point_at(text, position).bytes;
      continue;
    }
    require<InvalidArgument>(found->begin <= found->end && found->end >= position,
                             "{}: the pattern must move forward", where_);
    result.push_back(*found);
    position = found->end;
    last_end = found->end;
  }
  return result;
}

}  // namespace candela::io

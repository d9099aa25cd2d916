#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Patterns as tokenizer.json writes them (Oniguruma's Ruby syntax), run by PCRE2 with its JIT.
namespace candela::io {

/// A half-open range of bytes.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;

  std::size_t size() const { return end - begin; }
  bool operator==(const Span&) const = default;
};

/// Whose meaning of \w and X{n}? a pattern has. To both, \w is Alphabetic, Mark, Decimal_Number and
/// Connector_Punctuation; Oniguruma adds the superscript digits and fractions of Latin-1, Rust adds
/// Join_Control. X{n}? is optional to Oniguruma, lazy to Rust.
enum class PatternSyntax { Oniguruma, Rust };

/// A compiled pattern. Matching is const and safe from several threads.
class Regex {
 public:
  /// Enough to try a run of 20 000 characters anew from each of them; used up in 10 to 20 seconds.
  static constexpr std::uint64_t kLeastSteps = std::uint64_t{1} << 30;

  /// Unsupported if the pattern uses what PCRE2 would read differently, IoError if it does not compile; both
  /// open with `where`.
  Regex(std::string_view pattern, std::string where, PatternSyntax syntax = PatternSyntax::Oniguruma);

  /// All matches in `text` (valid UTF-8) from the left. An empty match directly after another match is
  /// skipped. InvalidArgument if one match takes steps out of all proportion to the length of the text, or
  /// all together more than `least_steps` and a share per byte (a second for 50 to 100 million). Not counted
  /// is what possessive and atomic runs read (a++), be it that PCRE2 made them possessive (a+ before [bc]),
  /// and the search for the character after a run (.*b): there a text of n bytes may take time quadratic in
  /// n.
  std::vector<Span> find_all(std::string_view text, std::uint64_t least_steps = kLeastSteps) const;

  const std::string& where() const { return where_; }

 private:
  struct Code;
  class Search;
  std::shared_ptr<const Code> code_;
  std::string where_;
};

/// The pattern rewritten for PCRE2 so that its escapes mean what they mean in `syntax`: \s is White_Space, \d
/// is Decimal_Number, \w as above, \b and \B its borders, \p{Script} the script without its extensions,
/// {,n} is {0,n}, and X{n,m}+ and, for Oniguruma, X{n}? repeat X{n,m} and X{n} as a whole.
std::string translate_pattern(std::string_view pattern, PatternSyntax syntax, const std::string& where);

}  // namespace candela::io

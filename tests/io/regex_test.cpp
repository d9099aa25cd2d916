#include "io/regex.h"

#include <cstdint>

#include <candela/core/error.h>

#include "io/files.h"

namespace candela::io {
namespace {

using test::error_of;
using test::expect_contains;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  std::vector<std::string> found;
  for (const Span& span : Regex(pattern, "t.json").find_all(text))
    found.emplace_back(text.substr(span.begin, span.size()));
  return found;
}

using Texts = std::vector<std::string>;

/// As Hugging Face's tokenizers 0.23 (Oniguruma, Ruby's syntax) finds them.
TEST(Regex, TakesAQuantifierAfterACountForOneOfItsOwn) {
  EXPECT_EQ(matches(R"(\p{N}{1,3}+)", "1234567"), Texts{"1234567"});
  EXPECT_EQ(matches(R"(\p{N}{2}+)", "1234567"), Texts{"123456"});
  EXPECT_EQ(matches(R"(\p{N}{1,3}+7)", "1234567"), Texts{"1234567"});  // not possessive
  EXPECT_EQ(matches(R"((a|(bc)){1,2}+\})", "abca}"), Texts{"abca}"});
  EXPECT_EQ(matches(R"([ab]{1,2}+)", "ababababx"), Texts{"abababab"});
  EXPECT_EQ(matches(R"(\x{61}{1,2}+)", "aaaaa"), Texts{"aaaaa"});
  EXPECT_EQ(matches("é{1,2}+", "ééé"), Texts{"ééé"});
  EXPECT_EQ(matches("a{2}*", "aaaaa"), (Texts{"aaaa", ""}));
  EXPECT_EQ(matches("a{2}?b", "aab b"), (Texts{"aab", "b"}));  // one number: not lazy, but optional
  EXPECT_EQ(matches("a{1,2}?", "aa"), (Texts{"a", "a"}));      // two: lazy
  EXPECT_EQ(translate_pattern("a{2}?b{2}+", PatternSyntax::Oniguruma, "t.json"), "(?:a{2})?(?:b{2})+");
  EXPECT_EQ(translate_pattern("a{2}?b{2}+", PatternSyntax::Rust, "t.json"), "a{2}?(?:b{2})+");
}

TEST(Regex, CountsFromZeroWhereTheFirstNumberIsMissing) {
  EXPECT_EQ(matches("a{,2}b", "aaab b"), (Texts{"aab", "b"}));
  EXPECT_EQ(matches("a{,2}+b", "aaaaab"), Texts{"aaaaab"});
  EXPECT_EQ(matches("a{,}b", "aab a{,}b"), Texts{"a{,}b"});
  EXPECT_EQ(matches("a{, 2}b", "aab a{, 2}b"), Texts{"a{, 2}b"});
  EXPECT_EQ(matches("(?#[)a{,2}(?#{)b", "aab"), Texts{"aab"});
}

TEST(Regex, FollowsLongRuns) {
  constexpr std::size_t kLong = 100'000;
  for (const char* run : {" ", "a", "A", "!", "\n", "漢"}) {
    std::string text;
    while (text.size() < kLong) text += run;
    EXPECT_EQ(matches(kLlama3, text), Texts{text}) << run;
  }
  const std::string spaces(kLong, ' ');
  EXPECT_EQ(matches(kLlama3, spaces + "x"), (Texts{spaces.substr(1), " x"}));
  EXPECT_EQ(matches(R"(\p{N}{1,3}(?=(?:\p{N}{3})*$))", std::string(3000, '1')).size(), 1000U);
}

TEST(Regex, FollowsLongRunsInShortTexts) {
  const std::string spaces(4000, ' ');
  EXPECT_EQ(matches(R"(\s+$)", "x" + spaces + "x" + spaces), Texts{spaces});
  EXPECT_EQ(matches(R"(\d{1,3}(?=(?:\d{3})*\b))", std::string(15'000, '1')).size(), 5000U);
}

TEST(Regex, RefusesToSearchForTooLong) {
  const Regex cubic(R"((?:.{0,300}.{0,300}.{0,300}\x{1})|.)", "t.json: pattern");
  EXPECT_EQ(cubic.find_all("abc").size(), 3U);
  for (const std::size_t size : {900U, 100'000U}) {
    const std::string error = error_of<InvalidArgument>([&] { cubic.find_all(std::string(size, 'a')); });
    expect_contains(error, "t.json: pattern: the pattern must match within its limits; on ");
  }
  const Regex quadratic(R"(.*[\x{1}\x{2}]|.)", "t.json: pattern");
  EXPECT_EQ(quadratic.find_all(std::string(500, 'a')).size(), 500U);
  constexpr std::uint64_t kFewSteps = 1'000'000;
  error_of<InvalidArgument>([&] { quadratic.find_all(std::string(10'000, 'a'), kFewSteps); });
}

}  // namespace
}  // namespace candela::io

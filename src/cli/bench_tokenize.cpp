#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include <candela/core/random.h>
#include <candela/io/tokenizer.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "io/json.h"

namespace candela::cli {
namespace {

struct TokenizeBench {
  std::string tokenizer;
  std::string file;
  bool json = false;
};

/// Small words first, as in any text: they are drawn most often.
constexpr std::array<std::string_view, 64> kWords = {
    "the",      "of",      "and",    "to",     "a",       "in",      "is",     "that",
    "it",       "was",     "for",    "on",     "as",      "with",    "he",     "be",
    "at",       "by",      "had",    "not",    "this",    "but",     "from",   "they",
    "she",      "which",   "or",     "we",     "an",      "there",   "their",  "were",
    "been",     "has",     "when",   "who",    "will",    "more",    "would",  "about",
    "into",     "time",    "could",  "people", "first",   "water",   "little", "after",
    "question", "company", "system", "number", "because", "between", "school", "house",
    "don't",    "isn't",   "café",   "naïve",  "weather", "machine", "letter", "development"};
constexpr std::array<std::string_view, 16> kSyllables = {
    "ba", "con", "der", "el", "fi", "ga", "ing", "lo", "ma", "ner", "pro", "ran", "sti", "tor", "un", "ver"};

/// A word of syllables put together anew: what no cache of words holds.
std::string rare_word(Generator& generator) {
  std::string word;
  const std::uint64_t count = 2 + generator.next_below(3);
  for (std::uint64_t i = 0; i < count; ++i) word += kSyllables[generator.next_below(kSyllables.size())];
  return word;
}

/// Prose of a kind: 2 MB of sentences of common words, one word in ten a rare one, one in fifty a number.
std::string built_in_text() {
  constexpr std::size_t kBytes = 2'000'000;
  Generator generator(1);
  std::string text;
  text.reserve(kBytes + 256);
  while (text.size() < kBytes) {
    const std::uint64_t words = 4 + generator.next_below(16);
    for (std::uint64_t i = 0; i < words; ++i) {
      const std::uint64_t kind = generator.next_below(50);
      std::string word;
      if (kind == 0) {
        word = std::to_string(generator.next_below(10'000));
      } else if (kind <= 5) {
        word = rare_word(generator);
      } else {
        word = kWords[generator.next_below(1 + generator.next_below(kWords.size()))];
      }
      if (i == 0) word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
      text += (i == 0 ? "" : generator.next_below(12) == 0 ? ", " : " ") + word;
    }
    text += generator.next_below(5) == 0 ? ".\n" : ". ";
  }
  return text;
}

struct Speed {
  /// median seconds of a tokenizer's first reading, and of its second
  double first = 0, again = 0;
  std::size_t tokens = 0;
};

/// A tokenizer keeps the words it has met: so each round loads it anew.
Speed measure(const TokenizeBench& options, std::string_view text) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRounds = 5;
  Speed speed;
  std::array<std::vector<double>, 2> seconds;
  for (int round = 0; round < kRounds; ++round) {
    const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
    for (std::vector<double>& reading : seconds) {
      const auto start = Clock::now();
      speed.tokens = tokenizer.encode(text, false).size();
      reading.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  for (std::vector<double>& reading : seconds) std::sort(reading.begin(), reading.end());
  speed.first = seconds[0][kRounds / 2];
  speed.again = seconds[1][kRounds / 2];
  return speed;
}

void bench_tokenize(const TokenizeBench& options) {
  const std::string text = options.file.empty() ? built_in_text() : io::read_file(options.file);
  require<IoError>(!text.empty(), "{}: must hold text to tokenize; it is empty", options.file);
  const std::string name = options.file.empty() ? "built-in text" : options.file;
  const Speed speed = measure(options, text);
  const auto bytes = static_cast<double>(text.size());
  const auto tokens = static_cast<double>(speed.tokens);
  if (options.json) {
    print_out("{}\n", nlohmann::json{{"tokenizer", options.tokenizer},
                                     {"text", name},
                                     {"bytes", text.size()},
                                     {"tokens", speed.tokens},
                                     {"threads", 1},
                                     {"seconds", speed.first},
                                     {"mb_per_s", bytes / 1e6 / speed.first},
                                     {"tokens_per_s", tokens / speed.first},
                                     {"mb_per_s_again", bytes / 1e6 / speed.again}}
                          .dump(2));
    return;
  }
  print_out("{}, {}: {:.2f} MB, {} tokens, one thread\n", options.tokenizer, name, bytes / 1e6,
            format_count(static_cast<std::int64_t>(speed.tokens)));
  print_out("{:.1f} MB/s, {} tok/s; the same text again: {:.1f} MB/s\n", bytes / 1e6 / speed.first,
            format_count(static_cast<std::int64_t>(tokens / speed.first)), bytes / 1e6 / speed.again);
}

}  // namespace

void add_bench_tokenize(CLI::App& bench, Action& action) {
  auto options = std::make_shared<TokenizeBench>();
  CLI::App* command =
      bench.add_subcommand("tokenize", "Turning text into token ids: MB/s and tokens/s of one thread");
  add_path(*command, "--tokenizer", options->tokenizer, "tokenizer.json, or the folder that holds it")
      ->required();
  add_path(*command, "--file", options->file, "Text to read; without it, 2 MB of generated English prose");
  command->add_flag("--json", options->json, "Print JSON instead of text");
  command->footer(
      "Example:\n  candela bench tokenize --tokenizer models/stories-7m\n"
      "The median of five readings, each by a tokenizer that has met no word yet. MB are 10^6 bytes.");
  command->callback([&action, options] { action = [options] { bench_tokenize(*options); }; });
}

}  // namespace candela::cli

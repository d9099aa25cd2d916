#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"

/// What the components of a tokenizer.json (its normalizer, pre_tokenizer and decoder) have in common: how
/// they are listed, and bounds on what they may do.
namespace candela::io {

/// Bounds on what a tokenizer.json may ask for, which is done to every text. Models stay far below them.
constexpr std::size_t kMostComponents = 256;   // of a normalizer, a pre_tokenizer or a decoder
constexpr std::size_t kMostStringBytes = 512;  // of a string that components look for or put in

/// Keeps what is made of one text in proportion to it: a file could otherwise ask for any amount of memory by
/// replacing and replacing again.
class Growth {
 public:
  /// `bytes` is the size of the text, `unit` that of what is made of it. `source`, which opens the error,
  /// must outlive this.
  Growth(std::size_t bytes, std::string_view source, const char* unit = "bytes");

  /// InvalidArgument if `amount`, made of the current part of the text, and what all parts before it took are
  /// out of proportion to the text.
  void check(std::size_t amount) {
    most_ = std::max(most_, amount);
    if (before_ + most_ > limit_) refuse();
  }
  /// The next part of the text follows; the current one counts with the most that it took at any time.
  void next_part() {
    before_ += most_;
    most_ = 0;
  }

 private:
  [[noreturn]] void refuse() const;

  std::size_t bytes_;
  std::string_view source_;
  const char* unit_;
  std::size_t limit_;
  std::size_t before_ = 0;
  std::size_t most_ = 0;
};

/// The string `key` (`otherwise` where it is absent); IoError if it has more than kMostStringBytes.
std::string short_string(const JsonObject& description, const char* key,
                         std::optional<std::string> otherwise = {});

/// The string `key` (`otherwise` where it is absent); IoError unless it is one character.
std::string one_character(const JsonObject& description, const char* key,
                          std::optional<std::string> otherwise = {});

/// The components that the field `key` of `file` asks for, in order: none, one, or those in the lists `list`
/// of a Sequence and of the Sequences in it. IoError if there are more than kMostComponents.
std::vector<JsonObject> components(const JsonObject& file, const char* key, const char* list);

}  // namespace candela::io

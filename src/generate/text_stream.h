#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <candela/generate/generate.h>

namespace candela {

/// The text of one continuation as its tokens come: whole characters, cut before a stop string.
class TextStream {
 public:
  TextStream(const std::optional<Tokenizer>& tokenizer, const std::vector<std::string>& stop_strings,
             StreamCallback callback);

  enum class State { Going, StopString, Cancelled };
  State add(TokenId id);
  /// Gives out what was held back; `decoder` text that never became whole included.
  State finish();
  const std::string& text() const { return text_; }

 private:
  State take(std::string_view piece, bool last);
  State give(std::size_t bytes);

  std::optional<StreamDecoder> decoder_;
  std::vector<std::string> stop_strings_;
  StreamCallback callback_;
  std::string text_;     // given out
  std::string pending_;  // may begin a stop string
};

}  // namespace candela

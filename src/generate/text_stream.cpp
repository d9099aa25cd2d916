#include "generate/text_stream.h"

#include <algorithm>

namespace candela {
namespace {

/// The length of the longest end of `text` that begins `stop` but is not all of it.
std::size_t partial_stop(std::string_view text, std::string_view stop) {
  for (std::size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.ends_with(stop.substr(0, length))) return length;
  }
  return 0;
}

}  // namespace

TextStream::TextStream(const std::optional<Tokenizer>& tokenizer,
                       const std::vector<std::string>& stop_strings, StreamCallback callback)
    : stop_strings_(stop_strings), callback_(std::move(callback)) {
  if (tokenizer.has_value()) decoder_.emplace(*tokenizer);
}

TextStream::State TextStream::give(std::size_t bytes) {
  const std::string piece = pending_.substr(0, bytes);
  pending_.erase(0, bytes);
  text_ += piece;
  return piece.empty() || !callback_ || callback_(piece) ? State::Going : State::Cancelled;
}

TextStream::State TextStream::take(std::string_view piece, bool last) {
  pending_ += piece;
  std::size_t first = std::string::npos;
  std::size_t held = 0;
  for (const std::string& stop : stop_strings_) {
    first = std::min(first, pending_.find(stop));
    held = std::max(held, partial_stop(pending_, stop));
  }
  if (first != std::string::npos) {
    const State given = give(first);
    pending_.clear();
    return given == State::Cancelled ? given : State::StopString;
  }
  return give(last ? pending_.size() : pending_.size() - held);
}

TextStream::State TextStream::add(TokenId id) {
  return decoder_ ? take(decoder_->add(id), false) : State::Going;
}

TextStream::State TextStream::finish() {
  return decoder_ ? take(decoder_->finish(), true) : State::Going;
}

}  // namespace candela

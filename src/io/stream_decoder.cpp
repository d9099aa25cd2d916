#include <candela/io/tokenizer.h>

namespace candela {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
// A character takes at most four byte tokens: of a longer run that still ends in U+FFFD, only the last four
// can change.
constexpr std::size_t kMaxHeldTokens = 16;
constexpr std::size_t kMaxProvisional = 4;

}  // namespace

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

std::string StreamDecoder::add(TokenId id) {
  // What decoding leaves out must not pile up in the window either.
  const bool skipped = skip_special_tokens_ && tokenizer_.is_special(id);
  if (skipped || !tokenizer_.id_to_token(id)) return {};
  ids_.push_back(id);
  return next(false);
}

std::string StreamDecoder::finish() {
  std::string rest = next(true);
  ids_.clear();
  context_ = 0;
  given_bytes_ = 0;
  return rest;
}

// Decoding needs the tokens before (a decoder may treat the first token in a special way), but only the last
// few: what was given last serves as context, and the new text is what the whole window has beyond it.
std::string StreamDecoder::next(bool all) {
  const std::string window = tokenizer_.decode(ids_, skip_special_tokens_);
  std::size_t end = window.size();
  const bool unfinished = window.ends_with(kReplacement) && !all;
  if (unfinished && ids_.size() - context_ <= kMaxHeldTokens) return {};
  for (std::size_t i = 0; unfinished && i < kMaxProvisional; ++i) {
    if (std::string_view(window).substr(0, end).ends_with(kReplacement)) end -= kReplacement.size();
  }
  if (end <= given_bytes_) return {};
  std::string fresh = window.substr(given_bytes_, end - given_bytes_);
  given_bytes_ = end;
  if (!unfinished) {
    ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(context_));
    context_ = ids_.size();
    given_bytes_ = tokenizer_.decode(ids_, skip_special_tokens_).size();
  }
  return fresh;
}

}  // namespace candela

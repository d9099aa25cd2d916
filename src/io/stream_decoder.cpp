#include <candela/io/tokenizer.h>

namespace candela {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
// A character takes at most four byte tokens. A longer run without a whole character is given as it is.
constexpr std::size_t kMaxHeldTokens = 64;

}  // namespace

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

std::string StreamDecoder::add(TokenId id) {
  ids_.push_back(id);
  return next(false);
}

std::string StreamDecoder::finish() {
  std::string rest = next(true);
  ids_.clear();
  given_ = 0;
  context_text_.clear();
  return rest;
}

// Decoding needs the tokens before (a decoder may treat the first token in a special way), but only the last
// few: what was given last serves as context, and the new text is what the whole window has beyond it.
std::string StreamDecoder::next(bool all) {
  const std::string window = tokenizer_.decode(ids_, skip_special_tokens_);
  const bool unfinished = window.ends_with(kReplacement) && ids_.size() - given_ <= kMaxHeldTokens;
  if (window.size() <= context_text_.size() || (unfinished && !all)) return {};
  std::string fresh = window.substr(context_text_.size());
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(given_));
  given_ = ids_.size();
  context_text_ = tokenizer_.decode(ids_, skip_special_tokens_);
  return fresh;
}

}  // namespace candela

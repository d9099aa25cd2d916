#include <algorithm>

#include <candela/io/text_frame.h>

namespace candela {

std::vector<TokenId> TextFrame::framed(std::vector<TokenId> ids) const {
  const bool there = ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
  if (!there) ids.insert(ids.begin(), prefix.begin(), prefix.end());
  return ids;
}

TextFrame text_frame(const Tokenizer& tokenizer, const TextConfig& config) {
  const auto id_of = [&](const std::optional<std::string>& token) {
    return token ? tokenizer.token_to_id(*token) : std::nullopt;
  };
  TextFrame frame{tokenizer.prefix(), id_of(config.eos_token)};
  if (config.add_bos_token) {
    std::optional<TokenId> bos = id_of(config.bos_token);
    if (!bos && config.bos_token_id) bos = static_cast<TokenId>(*config.bos_token_id);
    if (!*config.add_bos_token) {
      frame.prefix.clear();
    } else if (bos) {
      frame.prefix = {*bos};
    }
  }
  const std::vector<std::int64_t>& ends = config.eos_token_ids;
  const bool ends_texts = frame.eos && std::find(ends.begin(), ends.end(), *frame.eos) != ends.end();
  if (!ends.empty() && !ends_texts) frame.eos = static_cast<TokenId>(ends.front());
  return frame;
}

}  // namespace candela

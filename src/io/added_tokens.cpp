#include "io/added_tokens.h"

#include "io/utf8.h"

namespace candela::io {
namespace {

/// Of an added token: from each position of a text, so many bytes may be compared with it.
constexpr std::size_t kMostBytes = 512;

/// The start of the character that ends at `end`.
std::size_t character_before(std::string_view text, std::size_t end) {
  std::size_t start = end - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return start;
}

/// `begin` moved left over white space, not below `limit`.
std::size_t strip_left(std::string_view text, std::size_t begin, std::size_t limit) {
  while (begin > limit) {
    const std::size_t start = character_before(text, begin);
    if (!is_whitespace(code_point_at(text, start).value)) break;
    begin = start;
  }
  return begin;
}

std::size_t strip_right(std::string_view text, std::size_t end) {
  while (end < text.size()) {
    const CodePoint c = code_point_at(text, end);
    if (!is_whitespace(c.value)) break;
    end += c.bytes;
  }
  return end;
}

AddedToken read_token(const JsonObject& entry) {
  AddedToken token;
  const std::int64_t id = entry.integer("id");
  if (id < 0 || id > Vocabulary::kMaxId)
    entry.fail("id", fmt::format("an integer in [0, {}]", Vocabulary::kMaxId));
  token.id = static_cast<std::int32_t>(id);
  token.content = entry.string("content");
  token.single_word = entry.boolean("single_word", false);
  token.lstrip = entry.boolean("lstrip", false);
  token.rstrip = entry.boolean("rstrip", false);
  token.special = entry.boolean("special", false);
  token.normalized = entry.boolean("normalized", !token.special);
  return token;
}

}  // namespace

TokenTrie::TokenTrie() : nodes_(1) {}

void TokenTrie::add(std::string_view text, std::size_t index) {
  if (text.empty()) return;
  starts_[static_cast<unsigned char>(text[0])] = true;
  std::size_t node = 0;
  for (const char c : text) {
    const auto [entry, inserted] = nodes_[node].next.emplace(static_cast<unsigned char>(c), nodes_.size());
    node = entry->second;
    if (inserted) nodes_.emplace_back();
  }
  nodes_[node].index = static_cast<std::ptrdiff_t>(index);
}

std::vector<TokenTrie::Match> TokenTrie::find_all(std::string_view text) const {
  std::vector<Match> result;
  if (empty()) return result;
  for (std::size_t i = 0; i < text.size();) {
    if (!starts_[static_cast<unsigned char>(text[i])]) {
      ++i;
      continue;
    }
    std::size_t longest = 0;
    std::size_t index = 0;
    std::size_t node = 0;
    for (std::size_t at = i; at < text.size(); ++at) {
      const auto next = nodes_[node].next.find(static_cast<unsigned char>(text[at]));
      if (next == nodes_[node].next.end()) break;
      node = next->second;
      if (nodes_[node].index < 0) continue;
      longest = at + 1 - i;
      index = static_cast<std::size_t>(nodes_[node].index);
    }
    if (longest == 0) {
      ++i;
      continue;
    }
    result.push_back({{i, i + longest}, index});
    i += longest;
  }
  return result;
}

AddedTokens::AddedTokens(const JsonObject& file, const Vocabulary& vocabulary, const Normalizer& normalizer)
    : word_start_(R"(\A\w)", file.source(), PatternSyntax::Rust),
      word_end_(R"(\w\z)", file.source(), PatternSyntax::Rust) {
  if (!file.has("added_tokens")) return;
  const std::vector<JsonObject> entries = file.objects("added_tokens");
  Growth growth(entries.size() * kMostBytes, file.source());
  for (const JsonObject& entry : entries) {
    const AddedToken token = read_token(entry);
    if (token.content.empty()) continue;  // Hugging Face's tokenizers ignore it as well
    const auto known = vocabulary.find(token.content);
    const std::string* taken = vocabulary.token(token.id);
    if (known && *known != token.id) entry.fail("id", fmt::format("{}, as in model.vocab", *known));
    if (!known && taken) entry.fail("id", fmt::format("free in model.vocab, where {:?} has it", *taken));
    if (!by_id_.emplace(token.id, tokens_.size()).second) entry.fail("id", "the id of one added token only");
    if (!by_content_.emplace(token.content, tokens_.size()).second) entry.fail("content", "listed once");
    const auto check_size = [&](const std::string& text) {
      if (text.size() > kMostBytes) entry.fail("content", fmt::format("at most {} bytes", kMostBytes));
    };
    check_size(token.content);
    const std::string text = token.normalized ? normalizer.apply(token.content, growth) : token.content;
    check_size(text);
    growth.next_part();
    (token.normalized ? normalized_ : raw_).add(text, tokens_.size());
    tokens_.push_back(token);
  }
}

std::vector<Segment> AddedTokens::split(std::string_view text, const TokenTrie& trie) const {
  std::vector<Segment> result;
  std::size_t position = 0;
  for (const TokenTrie::Match& match : trie.find_all(text)) {
    const AddedToken& token = tokens_[match.index];
    auto [begin, end] = match.span;
    if (token.single_word) {
      const std::string_view before =
          begin == 0 ? std::string_view()
                     : text.substr(character_before(text, begin), begin - character_before(text, begin));
      const std::string_view after =
          end == text.size() ? std::string_view() : text.substr(end, code_point_at(text, end).bytes);
      if (!word_end_.find_all(before).empty() || !word_start_.find_all(after).empty()) continue;
    }
    if (begin < position) continue;  // the white space of the token before it reached over this one
    if (token.lstrip) begin = strip_left(text, begin, position);
    if (token.rstrip) end = strip_right(text, end);
    if (position < begin) result.push_back({{position, begin}, -1});
    result.push_back({{begin, end}, token.id});
    position = end;
  }
  if (position < text.size()) result.push_back({{position, text.size()}, -1});
  return result;
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(content);
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::find(std::int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

}  // namespace candela::io

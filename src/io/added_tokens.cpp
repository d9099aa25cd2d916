#include "io/added_tokens.h"

#include <algorithm>

#include "io/utf8.h"

namespace candela::io {
namespace {

/// Of an added token: from each position of a text, so many bytes may be compared with it.
constexpr std::size_t kMostBytes = 512;

std::size_t byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

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

TokenMatcher::TokenMatcher(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::erase_if(entries_, [](const Entry& entry) { return entry.text.empty(); });
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    const int order = a.text.compare(b.text);
    return order != 0 ? order < 0 : a.index > b.index;
  });
  const auto same = [](const Entry& a, const Entry& b) { return a.text == b.text; };
  entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
  for (const Entry& entry : entries_) ++begins_[byte_at(entry.text, 0) + 1];
  for (std::size_t byte = 0; byte < 256; ++byte) begins_[byte + 1] += begins_[byte];
}

TokenMatcher::Match TokenMatcher::longest(std::string_view text) const {
  Match result{{0, 0}, 0};
  auto begin = entries_.begin() + static_cast<std::ptrdiff_t>(begins_[byte_at(text, 0)]);
  auto end = entries_.begin() + static_cast<std::ptrdiff_t>(begins_[byte_at(text, 0) + 1]);
  // Here [begin, end) are the entries that start with the first `size` bytes of the text, a shorter one
  // first.
  for (std::size_t size = 1; begin != end; ++size) {
    if (begin->text.size() == size) {
      result = {{0, size}, begin->index};
      ++begin;
    }
    if (size == text.size()) break;
    const std::size_t byte = byte_at(text, size);
    begin = std::partition_point(begin, end, [&](const Entry& e) { return byte_at(e.text, size) < byte; });
    end = std::partition_point(begin, end, [&](const Entry& e) { return byte_at(e.text, size) == byte; });
  }
  return result;
}

std::vector<TokenMatcher::Match> TokenMatcher::find_all(std::string_view text) const {
  std::vector<Match> result;
  if (entries_.empty()) return result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t first = byte_at(text, i);
    if (begins_[first] == begins_[first + 1]) {
      ++i;
      continue;
    }
    Match match = longest(text.substr(i));
    const std::size_t size = match.span.size();
    if (size > 0) {
      match.span = {i, i + size};
      result.push_back(match);
    }
    i += std::max<std::size_t>(size, 1);
  }
  return result;
}

AddedTokens::AddedTokens(const JsonObject& file, const Vocabulary& vocabulary, const Normalizer& normalizer)
    : word_start_(R"(\A\w)", file.source(), PatternSyntax::Rust),
      word_end_(R"(\w\z)", file.source(), PatternSyntax::Rust) {
  if (!file.has("added_tokens")) return;
  const std::vector<JsonObject> entries = file.objects("added_tokens");
  Growth growth(entries.size() * kMostBytes, file.source());
  std::vector<TokenMatcher::Entry> raw;
  std::vector<TokenMatcher::Entry> normalized;
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
    (token.normalized ? normalized : raw).push_back({text, tokens_.size()});
    tokens_.push_back(token);
  }
  raw_ = TokenMatcher(std::move(raw));
  normalized_ = TokenMatcher(std::move(normalized));
}

std::vector<Segment> AddedTokens::split(std::string_view text, const TokenMatcher& matcher) const {
  std::vector<Segment> result;
  std::size_t position = 0;
  for (const TokenMatcher::Match& match : matcher.find_all(text)) {
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

#include "io/unigram.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "io/utf8.h"

namespace candela::io {
namespace {

constexpr double kUnknownPenalty = 10;
/// Bounds the memory that a file asks for; large models have a million.
constexpr std::size_t kMostPrefixes = std::size_t{1} << 24;

std::vector<std::pair<std::string, std::int64_t>> numbered(const std::vector<Unigram::Scored>& vocabulary) {
  std::vector<std::pair<std::string, std::int64_t>> entries;
  entries.reserve(vocabulary.size());
  for (const auto& [token, score] : vocabulary)
    entries.emplace_back(token, static_cast<std::int64_t>(entries.size()));
  return entries;
}

}  // namespace

UnigramOptions read_unigram_options(const JsonObject& model) {
  UnigramOptions options;
  if (model.has("unk_id")) options.unk_id = model.integer("unk_id");
  options.byte_fallback = model.boolean("byte_fallback", false);
  return options;
}

Unigram::Unigram(const std::vector<Scored>& vocabulary, UnigramOptions options, const std::string& source)
    : vocabulary_(numbered(vocabulary), source), options_(options), source_(source) {
  require<IoError>(!vocabulary.empty(), "{}: model.vocab must hold tokens; it is empty", source);
  if (options_.unk_id) {
    require<IoError>(*options_.unk_id >= 0 && *options_.unk_id < static_cast<std::int64_t>(vocabulary.size()),
                     "{}: model.unk_id must be in [0, {}) as model.vocab has; got {}", source,
                     vocabulary.size(), *options_.unk_id);
  }
  double least = std::numeric_limits<double>::infinity();
  scores_.reserve(vocabulary.size());
  for (const auto& [token, score] : vocabulary) {
    scores_.push_back(score);
    least = std::min(least, score);
  }
  unk_score_ = least - kUnknownPenalty;
  if (options_.byte_fallback) {
    for (int byte = 0; byte < 256; ++byte)
      byte_tokens_.push_back(vocabulary_.find(fmt::format("<0x{:02X}>", byte)).value_or(-1));
  }
  build_trie(vocabulary);
}

void Unigram::build_trie(const std::vector<Scored>& vocabulary) {
  std::vector<std::int32_t> order(vocabulary.size());
  std::iota(order.begin(), order.end(), 0);
  const auto token = [&](std::int32_t id) -> const std::string& {
    return vocabulary[static_cast<std::size_t>(id)].first;
  };
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return token(a) < token(b); });
  // A node and the tokens, sorted, that start with its prefix; breadth first, so that siblings are adjacent.
  struct Open {
    std::size_t node, begin, end, depth;
  };
  nodes_.push_back({});
  std::vector<Open> open = {{0, 0, order.size(), 0}};
  for (std::size_t next = 0; next < open.size(); ++next) {
    auto [node, begin, end, level] = open[next];
    const auto depth = level;  // clang before 16 captures no structured binding
    if (begin < end && token(order[begin]).size() == depth) nodes_[node].id = order[begin++];
    nodes_[node].first_child = static_cast<std::uint32_t>(nodes_.size());
    while (begin < end) {
      const char byte = token(order[begin])[depth];
      const auto last = std::find_if(order.begin() + static_cast<std::ptrdiff_t>(begin),
                                     order.begin() + static_cast<std::ptrdiff_t>(end),
                                     [&](std::int32_t id) { return token(id)[depth] != byte; });
      const auto group_end = static_cast<std::size_t>(last - order.begin());
      require<IoError>(nodes_.size() < kMostPrefixes,
                       "{}: the tokens of model.vocab must have at most {} different prefixes", source_,
                       kMostPrefixes);
      open.push_back({nodes_.size(), begin, group_end, depth + 1});
      nodes_.push_back({0, 0, static_cast<std::uint8_t>(byte), -1});
      ++nodes_[node].child_count;
      begin = group_end;
    }
  }
  // An empty token covers nothing: it stays in the vocabulary and is never found.
  nodes_[0].id = -1;
}

const Unigram::Node* Unigram::child(const Node& node, char byte) const {
  const auto begin = nodes_.begin() + node.first_child;
  const auto end = begin + node.child_count;
  const auto wanted = static_cast<std::uint8_t>(byte);
  const auto found =
      std::lower_bound(begin, end, wanted, [](const Node& a, std::uint8_t b) { return a.byte < b; });
  return found != end && found->byte == wanted ? &*found : nullptr;
}

std::vector<Unigram::Best> Unigram::search(std::string_view piece) const {
  std::vector<Best> best(piece.size() + 1);
  const auto offer = [&](std::size_t begin, std::size_t end, double score, std::int32_t id) {
    Best& target = best[end];
    if (target.begin < 0 || score > target.score) target = {score, static_cast<std::int64_t>(begin), id};
  };
  for (std::size_t begin = 0; begin < piece.size();) {
    const double before = best[begin].score;
    const std::size_t character = code_point_at(piece, begin).bytes;
    bool covered = false;  // the character is a token of its own
    const Node* node = nodes_.data();
    for (std::size_t end = begin; end < piece.size() && (node = child(*node, piece[end])) != nullptr;) {
      ++end;
      if (node->id < 0) continue;
      offer(begin, end, before + scores_[static_cast<std::size_t>(node->id)], node->id);
      covered = covered || end - begin == character;
    }
    if (!covered) offer(begin, begin + character, before + unk_score_, -1);
    begin += character;
  }
  return best;
}

/// A stretch that no token covers: its bytes' tokens where all are there, else one unknown token.
void Unigram::add_unknown(std::string_view text, std::vector<std::int32_t>& ids) const {
  const bool bytes = !byte_tokens_.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return byte_tokens_[static_cast<unsigned char>(c)] >= 0;
  });
  if (bytes) {
    for (const char c : text) ids.push_back(byte_tokens_[static_cast<unsigned char>(c)]);
    return;
  }
  require<InvalidArgument>(
      options_.unk_id.has_value(),
      "{}: model.vocab has no token for {:?}, and there is no unk_id; use another tokenizer", source_, text);
  ids.push_back(static_cast<std::int32_t>(*options_.unk_id));
}

void Unigram::encode(std::string_view piece, std::vector<std::int32_t>& ids, Growth& growth) const {
  if (piece.empty()) return;
  const std::vector<Best> best = search(piece);
  struct Token {
    std::size_t begin, end;
    std::int32_t id;
  };
  std::vector<Token> tokens;  // the last one first
  for (std::size_t end = piece.size(); end > 0;) {
    const Best& last = best[end];
    const auto begin = static_cast<std::size_t>(last.begin);
    const std::int32_t id = options_.unk_id && last.id == *options_.unk_id ? -1 : last.id;
    if (id < 0 && !tokens.empty() && tokens.back().id < 0) {
      tokens.back().begin = begin;
    } else {
      tokens.push_back({begin, end, id});
    }
    end = begin;
  }
  const std::size_t before = ids.size();
  for (auto token = tokens.rbegin(); token != tokens.rend(); ++token) {
    if (token->id >= 0) {
      ids.push_back(token->id);
    } else if (const auto whole = vocabulary_.find(piece.substr(token->begin, token->end - token->begin))) {
      ids.push_back(*whole);  // unknown characters may join to a token
    } else {
      add_unknown(piece.substr(token->begin, token->end - token->begin), ids);
    }
    growth.check(ids.size() - before);
  }
}

}  // namespace candela::io

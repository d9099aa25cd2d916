#include "io/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <tuple>

#include "io/byte_level.h"
#include "io/utf8.h"

namespace candela::io {
namespace {

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

/// As in StringHash, the seed is what whoever wrote the file does not know.
std::size_t slot_of(std::uint64_t pair, std::uint64_t seed, std::size_t mask) {
  return static_cast<std::size_t>(mixed(pair ^ seed)) & mask;
}

}  // namespace

BpeOptions read_bpe_options(const JsonObject& model) {
  BpeOptions options;
  if (model.has("dropout") && model.number("dropout") != 0) {
    throw Unsupported(fmt::format("{}: {} is not supported (its encoding is random); set it to null",
                                  model.source(), model.path_of("dropout")));
  }
  options.has_unk = model.has("unk_token");
  options.unk_token = model.string("unk_token", "");
  options.fuse_unk = model.boolean("fuse_unk", false);
  options.byte_fallback = model.boolean("byte_fallback", false);
  options.ignore_merges = model.boolean("ignore_merges", false);
  options.prefix = short_string(model, "continuing_subword_prefix", "");
  options.suffix = short_string(model, "end_of_word_suffix", "");
  return options;
}

Bpe::Bpe(std::vector<std::pair<std::string, std::int64_t>> vocabulary, const std::vector<Merge>& merges,
         BpeOptions options, const std::string& source)
    : vocabulary_(std::move(vocabulary), source),
      options_(std::move(options)),
      source_(source),
      seed_(random_seed()) {
  require<IoError>(vocabulary_.size() > 0, "{}: model.vocab must hold tokens; it is empty", source);
  if (options_.has_unk) {
    unk_ = vocabulary_.find(options_.unk_token);
    require<IoError>(unk_.has_value(), "{}: model.unk_token must be in model.vocab; got {:?}", source,
                     options_.unk_token);
  }
  if (options_.byte_fallback) {
    byte_tokens_.reserve(256);
    for (int byte = 0; byte < 256; ++byte) {
      byte_tokens_.push_back(vocabulary_.find(fmt::format("<0x{:02X}>", byte)).value_or(-1));
    }
  }
  rules_.assign(std::bit_ceil(merges.size() * 2 + 1), Rule{0, -1, -1});
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const auto id = [&](const std::string& token) {
      const auto found = vocabulary_.find(token);
      require<IoError>(found.has_value(),
                       "{}: model.merges[{}] must name tokens of model.vocab; {:?} is not there", source,
                       rank, token);
      return *found;
    };
    require<IoError>(right.starts_with(options_.prefix), "{}: model.merges[{}]: {:?} must start with {:?}",
                     source, rank, right, options_.prefix);
    const std::int32_t joined = id(left + right.substr(options_.prefix.size()));
    add_rule({pair_key(id(left), id(right)), static_cast<std::int32_t>(rank), joined});
  }
}

void Bpe::add_rule(const Rule& rule) {
  const std::size_t mask = rules_.size() - 1;
  std::size_t slot = slot_of(rule.pair, seed_, mask);
  while (rules_[slot].rank >= 0 && rules_[slot].pair != rule.pair) slot = (slot + 1) & mask;
  rules_[slot] = rule;  // a pair that is listed again counts at its last rank, as in Hugging Face's map
}

const Bpe::Rule* Bpe::find_rule(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_key(left, right);
  const std::size_t mask = rules_.size() - 1;
  for (std::size_t slot = slot_of(pair, seed_, mask); rules_[slot].rank >= 0; slot = (slot + 1) & mask) {
    if (rules_[slot].pair == pair) return &rules_[slot];
  }
  return nullptr;
}

bool Bpe::add_byte_tokens(std::string_view character, std::vector<Symbol>& symbols) const {
  for (const char byte : character) {
    if (byte_tokens_[static_cast<unsigned char>(byte)] < 0) return false;
  }
  for (const char byte : character)
    symbols.push_back({byte_tokens_[static_cast<unsigned char>(byte)], -1, -1});
  return true;
}

void Bpe::drop(std::string_view character) const {
  if (!options_.byte_level) return;
  std::string bytes;
  append_from_byte_level(bytes, character);
  throw Unsupported(
      fmt::format("{}: model.vocab must have a token for each byte of a text, as there is no unk_token; the "
                  "byte 0x{:02X} "
                  "({:?}) has none",
                  source_, static_cast<unsigned char>(bytes[0]), character));
}

std::vector<Bpe::Symbol> Bpe::symbols_of(std::string_view piece, Growth& growth) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  bool unknown = false;  // an unknown token is held back so that a run of them can be fused
  std::string decorated;
  for (std::size_t i = 0; i < piece.size();) {
    const std::size_t bytes = code_point_at(piece, i).bytes;
    std::string_view character = piece.substr(i, bytes);
    const bool first = i == 0;
    i += bytes;
    const bool last = i >= piece.size();
    if ((!first && !options_.prefix.empty()) || (last && !options_.suffix.empty())) {
      decorated = first ? "" : options_.prefix;
      decorated += character;
      if (last) decorated += options_.suffix;
      character = decorated;
    }
    if (const auto id = vocabulary_.find(character)) {
      if (unknown) symbols.push_back({*unk_, -1, -1});
      unknown = false;
      symbols.push_back({*id, -1, -1});
      continue;
    }
    if (options_.byte_fallback && add_byte_tokens(character, symbols)) {
      growth.check(symbols.size());  // prefix and suffix may be far longer than the character
      continue;
    }
    if (!unk_) {
      drop(piece.substr(i - bytes, bytes));
      continue;
    }
    if (unknown && !options_.fuse_unk) symbols.push_back({*unk_, -1, -1});
    unknown = true;
  }
  if (unknown) symbols.push_back({*unk_, -1, -1});
  require<InvalidArgument>(symbols.size() <= std::numeric_limits<std::int32_t>::max(),
                           "{}: a text must come in pieces of at most 2^31 - 1 characters; got {}", source_,
                           symbols.size());
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<std::int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<std::int32_t>(i) + 1 : -1;
  }
  return symbols;
}

void Bpe::encode(std::string_view piece, std::vector<std::int32_t>& ids, Growth& growth) const {
  if (piece.empty()) return;
  if (options_.ignore_merges) {
    if (const auto id = vocabulary_.find(piece)) {
      ids.push_back(*id);
      return;
    }
  }
  std::vector<Symbol> symbols = symbols_of(piece, growth);

  // The lowest rank, then the leftmost. An entry is stale once either symbol has been joined to something
  // else.
  struct Candidate {
    std::int32_t rank;
    std::int32_t position;
    std::int32_t joined;
  };
  const auto later = [](const Candidate& a, const Candidate& b) {
    return std::tie(a.rank, a.position) > std::tie(b.rank, b.position);
  };
  std::vector<Candidate> heap;
  heap.reserve(symbols.size());
  const auto candidate = [&](std::int32_t position) -> std::optional<Candidate> {
    const Symbol& left = symbols[static_cast<std::size_t>(position)];
    if (left.next < 0) return std::nullopt;
    const Rule* rule = find_rule(left.id, symbols[static_cast<std::size_t>(left.next)].id);
    if (!rule) return std::nullopt;
    return Candidate{rule->rank, position, rule->joined};
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
    if (const auto found = candidate(static_cast<std::int32_t>(i))) heap.push_back(*found);
  }
  std::make_heap(heap.begin(), heap.end(), later);

  const auto push = [&](std::int32_t position) {
    if (const auto found = candidate(position)) {
      heap.push_back(*found);
      std::push_heap(heap.begin(), heap.end(), later);
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate top = heap.back();
    heap.pop_back();
    Symbol& left = symbols[static_cast<std::size_t>(top.position)];
    if (left.id < 0) continue;
    const auto now = candidate(top.position);
    if (!now || now->joined != top.joined) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    left.id = top.joined;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = top.position;
    if (left.previous >= 0) push(left.previous);
    push(top.position);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
}

}  // namespace candela::io

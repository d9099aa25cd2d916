#include <algorithm>
#include <mutex>
#include <unordered_map>

#include <candela/io/hub_cache.h>
#include <candela/io/tokenizer.h>

#include "io/added_tokens.h"
#include "io/bpe.h"
#include "io/byte_level.h"
#include "io/decoder.h"
#include "io/json.h"
#include "io/normalizer.h"
#include "io/post_processor.h"
#include "io/pre_tokenizer.h"
#include "io/seeded_hash.h"
#include "io/tokenizer_file.h"
#include "io/unigram.h"
#include "io/utf8.h"
#include "io/word_piece.h"

namespace candela {
namespace {

using io::JsonObject;

/// The ids of pieces seen before. Real text repeats its words, so most look-ups end here.
class WordCache {
 public:
  /// The ids of `word`; `compute` appends them where they are not known.
  template <class Compute>
  void append(std::string_view word, std::vector<TokenId>& out, Compute&& compute) {
    if (word.size() > kMaxWordBytes) return compute(out);
    const auto found = entries_.find(word);
    if (found != entries_.end()) {
      const auto begin = ids_.begin() + found->second.begin;
      out.insert(out.end(), begin, begin + found->second.count);
      return;
    }
    if (entries_.size() >= kMaxWords || ids_.size() >= kMaxIds) {
      entries_.clear();
      ids_.clear();
    }
    const auto begin = static_cast<std::uint32_t>(ids_.size());
    compute(ids_);
    const auto count = static_cast<std::uint32_t>(ids_.size()) - begin;
    entries_.emplace(word, Entry{begin, count});
    out.insert(out.end(), ids_.begin() + begin, ids_.end());
  }

 private:
  static constexpr std::size_t kMaxWordBytes = 256;
  static constexpr std::size_t kMaxWords = 1 << 16;
  static constexpr std::size_t kMaxIds = 1 << 22;

  struct Entry {
    std::uint32_t begin;
    std::uint32_t count;
  };
  std::unordered_map<std::string, Entry, io::StringHash, std::equal_to<>> entries_;
  std::vector<TokenId> ids_;
};

/// One cache per concurrent call: taken at its start, given back at its end.
class WordCaches {
 public:
  std::unique_ptr<WordCache> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<WordCache>();
    auto cache = std::move(free_.back());
    free_.pop_back();
    return cache;
  }
  void give_back(std::unique_ptr<WordCache> cache) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(cache));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<WordCache>> free_;
};

/// The value of `model.type`, or what the fields of older files without it tell.
std::string model_type(const JsonObject& model, const io::TokenizerFile& file) {
  if (model.has("type")) return model.string("type");
  if (file.has_merges) return "BPE";
  if (file.has_scored_vocabulary) return "Unigram";
  if (model.has("continuing_subword_prefix") || model.has("max_input_chars_per_word")) return "WordPiece";
  return "absent, without merges";
}

std::unique_ptr<io::TokenModel> make_model(const JsonObject& top, io::TokenizerFile& file, bool byte_level) {
  const JsonObject model = top.object("model");
  const std::string type = model_type(model, file);
  require<Unsupported>(type == "BPE" || type == "WordPiece" || type == "Unigram",
                       "{}: model.type must be BPE, WordPiece or Unigram; got {}", top.source(), type);
  if (type == "Unigram") {
    if (!file.has_scored_vocabulary) model.fail("vocab", "a list of [token, score]");
    return std::make_unique<io::Unigram>(file.scored_vocabulary, io::read_unigram_options(model),
                                         top.source());
  }
  if (!file.has_vocabulary) model.fail("vocab", "an object of tokens and their ids");
  if (type == "WordPiece") {
    return std::make_unique<io::WordPiece>(std::move(file.vocabulary), io::read_word_piece_options(model),
                                           top.source());
  }
  if (!file.has_merges) model.fail("merges", "a list of merges");
  io::BpeOptions options = io::read_bpe_options(model);
  options.byte_level = byte_level;
  return std::make_unique<io::Bpe>(std::move(file.vocabulary), file.merges, std::move(options), top.source());
}

/// What the steps of encoding make of one text.
struct Growths {
  Growths(std::size_t bytes, const std::string& source)
      : normalized(bytes, source), pieces(bytes, source), tokens(bytes, source, "tokens") {}

  io::Growth normalized;
  io::Growth pieces;
  io::Growth tokens;
};

}  // namespace

class Tokenizer::Impl {
 public:
  Impl(io::TokenizerFile file, const std::string& source) : Impl(file, JsonObject(file.document, source)) {}

  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const;
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const;

  const std::string* token(TokenId id) const {
    const io::AddedToken* added = added_.find(static_cast<std::int64_t>(id));
    return added ? &added->content : model_->vocabulary().token(id);
  }

 private:
  Impl(io::TokenizerFile& file, const JsonObject& top)
      : source_(top.source()),
        normalizer_(top),
        pre_tokenizer_(top),
        model_(make_model(top, file, pre_tokenizer_.byte_level())),
        added_(top, model_->vocabulary(), normalizer_),
        post_processor_(top.has("post_processor") ? io::PostProcessor(top.object("post_processor"))
                                                  : io::PostProcessor()),
        decoder_(top.has("decoder") ? std::optional(io::Decoder(top)) : std::nullopt),
        truncation_(io::read_truncation(top)),
        padding_(io::read_padding(top)) {
    for (const TokenId id : post_processor_.apply({})) {
      require<IoError>(token(id) != nullptr,
                       "{}: post_processor adds the id {}, which must be one of model.vocab or added_tokens",
                       top.source(), id);
    }
  }

  void encode_plain(std::string_view text, bool at_start, WordCache& cache, Growths& growths,
                    std::vector<TokenId>& ids) const;

  std::string source_;
  io::Normalizer normalizer_;
  io::PreTokenizer pre_tokenizer_;
  std::unique_ptr<io::TokenModel> model_;
  io::AddedTokens added_;
  io::PostProcessor post_processor_;
  std::optional<io::Decoder> decoder_;
  std::optional<Truncation> truncation_;
  std::optional<Padding> padding_;
  mutable WordCaches caches_;

  friend class Tokenizer;
};

void Tokenizer::Impl::encode_plain(std::string_view text, bool at_start, WordCache& cache, Growths& growths,
                                   std::vector<TokenId>& ids) const {
  io::Pieces pieces;
  pieces.pieces.push_back({text, at_start});
  pre_tokenizer_.apply(pieces, growths.pieces);
  growths.pieces.next_part();
  for (const io::Piece& piece : pieces.pieces) {
    cache.append(piece.text, ids, [&](std::vector<TokenId>& out) {
      if (pre_tokenizer_.byte_level()) {
        model_->encode(io::to_byte_level(piece.text), out, growths.tokens);
      } else {
        model_->encode(piece.text, out, growths.tokens);
      }
    });
    growths.tokens.check(ids.size());
  }
}

std::vector<TokenId> Tokenizer::Impl::encode(std::string_view text, bool add_special_tokens) const {
  std::string mended;
  if (!io::is_valid_utf8(text)) {
    mended = io::lossy_utf8(text);
    text = mended;
  }
  Growths growths(text.size(), source_);
  std::vector<TokenId> ids;
  auto cache = caches_.take();
  for (const io::Segment& raw : added_.split_raw(text)) {
    if (raw.id >= 0) {
      ids.push_back(raw.id);
      continue;
    }
    std::string normalized;
    std::string_view part = text.substr(raw.span.begin, raw.span.size());
    if (!normalizer_.empty()) {
      normalized = normalizer_.apply(std::string(part), growths.normalized);
      growths.normalized.next_part();
      part = normalized;
    }
    for (const io::Segment& segment : added_.split_normalized(part)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
      } else {
        encode_plain(part.substr(segment.span.begin, segment.span.size()),
                     raw.span.begin + segment.span.begin == 0, *cache, growths, ids);
      }
    }
  }
  caches_.give_back(std::move(cache));
  return add_special_tokens ? post_processor_.apply(std::move(ids)) : ids;
}

std::string Tokenizer::Impl::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const TokenId id : ids) {
    const io::AddedToken* added = added_.find(static_cast<std::int64_t>(id));
    if (added && added->special && skip_special_tokens) continue;
    if (const std::string* text = token(id)) tokens.push_back(*text);
  }
  std::string result;
  if (decoder_) {
    for (const std::string& part : decoder_->apply(std::move(tokens))) result += part;
    return result;
  }
  for (const std::string& part : tokens) {
    if (!result.empty()) result += ' ';
    result += part;
  }
  return result;
}

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& name) {
  std::error_code error;
  const std::filesystem::path path = local_path(name);
  const auto file = std::filesystem::is_directory(path, error) ? path / "tokenizer.json" : path;
  return parse(io::read_file(file), file.string());
}

Tokenizer Tokenizer::parse(std::string_view json, const std::string& source) {
  return Tokenizer(std::make_shared<const Impl>(io::parse_tokenizer_file(json, source), source));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  return impl_->encode(text, add_special_tokens);
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, const Truncation& truncation) const {
  const auto special = static_cast<std::int64_t>(impl_->post_processor_.apply({}).size());
  const std::int64_t room = truncation.max_length - special;
  require(room >= 0, "tokenizer: max_length must be at least {}, the number of special tokens; got {}",
          special, truncation.max_length);
  std::vector<TokenId> ids = impl_->encode(text, false);
  const auto kept = static_cast<std::ptrdiff_t>(std::min<std::int64_t>(room, std::ssize(ids)));
  if (truncation.left) {
    ids.erase(ids.begin(), ids.end() - kept);
  } else {
    ids.erase(ids.begin() + kept, ids.end());
  }
  return impl_->post_processor_.apply(std::move(ids));
}

const std::optional<Truncation>& Tokenizer::truncation() const {
  return impl_->truncation_;
}

const std::optional<Padding>& Tokenizer::padding() const {
  return impl_->padding_;
}

std::vector<TokenId> Tokenizer::prefix() const {
  return impl_->post_processor_.prefix();
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  return impl_->decode(ids, skip_special_tokens);
}

std::size_t Tokenizer::vocab_size() const {
  const io::Vocabulary& vocabulary = impl_->model_->vocabulary();
  std::size_t extra = 0;
  for (const io::AddedToken& token : impl_->added_.tokens()) extra += vocabulary.token(token.id) ? 0 : 1;
  return vocabulary.size() + extra;
}

TokenId Tokenizer::max_id() const {
  TokenId largest = impl_->model_->vocabulary().max_id();
  for (const io::AddedToken& token : impl_->added_.tokens()) largest = std::max(largest, token.id);
  return largest;
}

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token) const {
  if (const io::AddedToken* added = impl_->added_.find(token)) return added->id;
  return impl_->model_->vocabulary().find(token);
}

std::optional<std::string> Tokenizer::id_to_token(TokenId id) const {
  const std::string* token = impl_->token(id);
  return token ? std::optional(*token) : std::nullopt;
}

bool Tokenizer::is_special(TokenId id) const {
  const io::AddedToken* added = impl_->added_.find(static_cast<std::int64_t>(id));
  return added && added->special;
}

}  // namespace candela

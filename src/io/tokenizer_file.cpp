#include "io/tokenizer_file.h"

#include <cmath>

namespace candela::io {
namespace {

/// Far above any there is; what is made of an entry takes several times its bytes.
constexpr std::size_t kMostTokens = std::size_t{1} << 22U;
constexpr std::size_t kMostMerges = std::size_t{1} << 22U;

/// Builds the document and takes `model.vocab` and `model.merges` out of the stream of events.
class Reader final : public JsonBuilder {
 public:
  Reader(std::string_view text, const std::string& source, TokenizerFile& file)
      : JsonBuilder(text, source), file_(file) {}

  bool null() override { return taking() ? refuse("null") : JsonBuilder::null(); }
  bool boolean(bool value) override {
    return taking() ? refuse("a truth value") : JsonBuilder::boolean(value);
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (state_ == State::Scored && pair_size_ == 1) return take_score(value, text);
    return taking() ? refuse(text) : JsonBuilder::number_float(value, text);
  }
  bool number_integer(number_integer_t value) override {
    if (state_ == State::Scored && pair_size_ == 1) return take_score(static_cast<double>(value), "");
    return taking() ? take_id(value) : JsonBuilder::number_integer(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (!taking()) return JsonBuilder::number_unsigned(value);
    if (state_ == State::Scored && pair_size_ == 1) return take_score(static_cast<double>(value), "");
    if (value > static_cast<number_unsigned_t>(Vocabulary::kMaxId)) return refuse(std::to_string(value));
    return take_id(static_cast<std::int64_t>(value));
  }

  bool string(string_t& value) override {
    if (state_ == State::None) return JsonBuilder::string(value);
    if (state_ == State::Merges) return take_merge_text(value);
    if (state_ == State::Scored && pair_size_ == 0) {
      pair_size_ = 1;
      token_ = std::move(value);
      return true;
    }
    if (state_ == State::Pair && pair_size_ < 2) {
      (pair_size_++ == 0 ? pair_.first : pair_.second) = std::move(value);
      return true;
    }
    return refuse(fmt::format("{:?}", value));
  }

  bool start_object(std::size_t elements) override {
    if (taking()) return refuse("an object");
    if (!at_model_field("vocab")) return JsonBuilder::start_object(elements);
    begin_vocabulary();
    file_.has_vocabulary = true;
    state_ = State::Vocabulary;
    return true;
  }

  bool key(string_t& value) override {
    if (state_ == State::Vocabulary) {
      token_ = std::move(value);
      return true;
    }
    if (depth() == 1) {
      in_model_ = value == "model";
      model_field_.clear();
    } else if (depth() == 2) {
      model_field_ = value;
    }
    return JsonBuilder::key(value);
  }

  bool end_object() override {
    if (state_ == State::None) return JsonBuilder::end_object();
    state_ = State::None;
    return true;
  }

  bool start_array(std::size_t elements) override {
    if (state_ == State::Merges) {
      state_ = State::Pair;
      pair_size_ = 0;
      return true;
    }
    if (state_ == State::ScoredVocabulary) {
      state_ = State::Scored;
      pair_size_ = 0;
      return true;
    }
    if (taking()) return refuse("an array");
    if (at_model_field("vocab")) {
      begin_vocabulary();
      file_.has_scored_vocabulary = true;
      state_ = State::ScoredVocabulary;
      return true;
    }
    if (!at_model_field("merges")) return JsonBuilder::start_array(elements);
    require<IoError>(!file_.has_merges, "{}: model.merges must occur once", source());
    file_.has_merges = true;
    state_ = State::Merges;
    return true;
  }

  bool end_array() override {
    if (state_ == State::Pair) {
      if (pair_size_ != 2) return refuse("an array of fewer than two strings");
      check_merges();
      file_.merges.push_back(std::move(pair_));
      state_ = State::Merges;
      return true;
    }
    if (state_ == State::Scored) {
      if (pair_size_ != 2) return refuse("an array of fewer than two elements");
      require<IoError>(file_.scored_vocabulary.size() < kMostTokens,
                       "{}: model.vocab must have at most {} tokens; got more", source(), kMostTokens);
      file_.scored_vocabulary.emplace_back(std::move(token_), score_);
      state_ = State::ScoredVocabulary;
      return true;
    }
    if (state_ == State::None) return JsonBuilder::end_array();
    state_ = State::None;
    return true;
  }

 private:
  /// Where the reader is: in the object of tokens and ids, in the list of merges or a pair of it, in the list
  /// of tokens and scores or a pair of it.
  enum class State { None, Vocabulary, Merges, Pair, ScoredVocabulary, Scored };

  bool taking() const { return state_ != State::None; }

  bool at_model_field(const char* name) const { return depth() == 2 && in_model_ && model_field_ == name; }

  void begin_vocabulary() const {
    require<IoError>(!file_.has_vocabulary && !file_.has_scored_vocabulary, "{}: model.vocab must occur once",
                     source());
  }

  bool take_score(double value, const std::string& text) {
    if (!std::isfinite(value)) return refuse(text);
    score_ = value;
    pair_size_ = 2;
    return true;
  }

  bool take_id(std::int64_t value) {
    if (state_ != State::Vocabulary) return refuse(std::to_string(value));
    require<IoError>(file_.vocabulary.size() < kMostTokens,
                     "{}: model.vocab must have at most {} tokens; got more", source(), kMostTokens);
    file_.vocabulary.emplace_back(std::move(token_), value);
    return true;
  }

  bool take_merge_text(const std::string& text) {
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      return refuse(fmt::format("{:?}", text));
    }
    check_merges();
    file_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    return true;
  }

  void check_merges() const {
    require<IoError>(file_.merges.size() < kMostMerges,
                     "{}: model.merges must have at most {} entries; got more", source(), kMostMerges);
  }

  bool refuse(const std::string& got) const {
    if (state_ == State::Vocabulary) {
      throw IoError(fmt::format("{}: model.vocab must map tokens to ids up to {}; got {} for {:?}", source(),
                                Vocabulary::kMaxId, got, token_));
    }
    if (state_ == State::ScoredVocabulary || state_ == State::Scored) {
      throw IoError(fmt::format("{}: model.vocab[{}] must be [token, score] with a finite score; got {}",
                                source(), file_.scored_vocabulary.size(), got));
    }
    throw IoError(fmt::format("{}: model.merges[{}] must be \"left right\" or [left, right]; got {}",
                              source(), file_.merges.size(), got));
  }

  TokenizerFile& file_;
  State state_ = State::None;
  bool in_model_ = false;
  std::string model_field_;
  std::string token_;
  double score_ = 0;
  Merge pair_;
  int pair_size_ = 0;
};

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view text, const std::string& source) {
  TokenizerFile file;
  Reader reader(text, source, file);
  parse_json_events(text, source, reader);
  file.document = reader.take();
  return file;
}

namespace {

bool read_left(const JsonObject& description) {
  const std::string direction = description.string("direction", "Right");
  if (direction != "Left" && direction != "Right") description.fail("direction", "Left or Right");
  return direction == "Left";
}

}  // namespace

std::optional<Truncation> read_truncation(const JsonObject& file) {
  if (!file.has("truncation")) return std::nullopt;
  const JsonObject description = file.object("truncation");
  return Truncation{description.positive("max_length"), read_left(description)};
}

std::optional<Padding> read_padding(const JsonObject& file) {
  if (!file.has("padding")) return std::nullopt;
  const JsonObject description = file.object("padding");
  Padding padding;
  const std::int64_t id = description.integer("pad_id", 0);
  if (id < 0 || id > Vocabulary::kMaxId) description.fail("pad_id", "the id of a token");
  padding.id = static_cast<TokenId>(id);
  padding.left = read_left(description);
  padding.multiple = description.positive("pad_to_multiple_of", 1);
  if (const Json& strategy = description.at("strategy"); strategy.is_object()) {
    padding.length = description.object("strategy").positive("Fixed");
  } else if (strategy != "BatchLongest") {
    description.fail("strategy", "BatchLongest or {\"Fixed\": length}");
  }
  return padding;
}

}  // namespace candela::io

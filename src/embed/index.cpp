#include <algorithm>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/embed/index.h>
#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>
#include <candela/ops/matmul.h>

#include "embed/pooling.h"

namespace candela {
namespace {

constexpr const char* kEmbeddings = "embeddings";
constexpr const char* kTexts = "texts";
constexpr const char* kOffsets = "offsets";
/// Embeddings that are compared with the questions at once.
constexpr std::int64_t kBlock = 65536;

Similarity similarity_named(const std::string& name, const std::string& source) {
  for (const Similarity similarity :
       {Similarity::Cosine, Similarity::Dot, Similarity::Euclidean, Similarity::Manhattan}) {
    if (name == to_string(similarity)) return similarity;
  }
  throw IoError(
      fmt::format("{}: similarity must be cosine, dot, euclidean or manhattan; got {:.100}", source, name));
}

/// Whether `a` stands before `b`.
bool better(const Index::Hit& a, const Index::Hit& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

}  // namespace

Index::Index(std::string model, std::int64_t dimensions, Similarity similarity)
    : model_(std::move(model)), dimensions_(dimensions), similarity_(similarity) {
  require(dimensions > 0, "index: dimensions must be positive; got {}", dimensions);
}

Index Index::open(const std::filesystem::path& path) {
  const SafetensorsReader reader = SafetensorsReader::open(path);
  const std::string source = path.string();
  const auto& metadata = reader.metadata();
  const auto field = [&](const char* key) {
    const auto found = metadata.find(key);
    require<IoError>(found != metadata.end(), "{}: is not an index: its metadata has no {}", source, key);
    return found->second;
  };
  const std::string model = field("model");
  const Similarity similarity = similarity_named(field("similarity"), source);
  for (const char* name : {kEmbeddings, kTexts, kOffsets})
    require<IoError>(reader.contains(name), "{}: is not an index: missing: {}", source, name);
  const Tensor embeddings = reader.tensor(kEmbeddings);
  const Tensor texts = reader.tensor(kTexts);
  const Tensor offsets = reader.tensor(kOffsets);
  require<IoError>(embeddings.dtype() == DType::F32 && embeddings.rank() == 2 && embeddings.size(1) > 0,
                   "{}: embeddings must be f32 [N, D]; got {}", source, embeddings);
  require<IoError>(texts.dtype() == DType::U8 && texts.rank() == 1, "{}: texts must be u8 [bytes]; got {}",
                   source, texts);
  require<IoError>(offsets.dtype() == DType::I64 && offsets.shape() == Shape{embeddings.size(0) + 1},
                   "{}: offsets must be i64 [{}]; got {}", source, embeddings.size(0) + 1, offsets);
  Index result(model, embeddings.size(1), similarity);
  result.offsets_ = offsets.to_vector<std::int64_t>();
  const bool sound = result.offsets_.front() == 0 && result.offsets_.back() == texts.numel() &&
                     std::is_sorted(result.offsets_.begin(), result.offsets_.end());
  require<IoError>(sound, "{}: offsets must rise from 0 to the {} bytes of texts", source, texts.numel());
  result.embeddings_ = embeddings;
  result.stored_texts_ = texts;
  return result;
}

std::string_view Index::text(std::int64_t id) const {
  require(id >= 0 && id < size(), "index: text must be in [0, {}); got {}", size(), id);
  const auto begin = static_cast<std::size_t>(offsets_[static_cast<std::size_t>(id)]);
  const auto end = static_cast<std::size_t>(offsets_[static_cast<std::size_t>(id) + 1]);
  const std::size_t stored =
      stored_texts_.defined() ? static_cast<std::size_t>(stored_texts_.numel()) : std::size_t{0};
  if (begin == end) return {};
  if (begin >= stored) return std::string_view(added_texts_).substr(begin - stored, end - begin);
  return {reinterpret_cast<const char*>(stored_texts_.data<std::uint8_t>()) + begin, end - begin};
}

void Index::check_model(const Embedder& embedder, const std::string& source) const {
  require(embedder.fingerprint() == model_,
          "{}: was made with another model ({}; this one is {}); use that model, or build the index anew",
          source, model_, embedder.fingerprint());
}

void Index::add(std::span<const std::string> texts, const Tensor& embeddings) {
  const auto count = static_cast<std::int64_t>(texts.size());
  require(embeddings.dtype() == DType::F32 && embeddings.shape() == (Shape{count, dimensions_}),
          "index: embeddings must be f32 [{}, {}]; got {}", count, dimensions_, embeddings);
  const NoGrad guard;
  const Tensor ready = similarity_ == Similarity::Cosine ? unit_rows(embeddings) : contiguous(embeddings);
  embeddings_ = embeddings_.defined() ? concat({embeddings_, ready}, 0) : ready;
  for (const std::string& text : texts) {
    added_texts_ += text;
    offsets_.push_back(offsets_.back() + static_cast<std::int64_t>(text.size()));
  }
}

std::vector<std::vector<Index::Hit>> Index::search(const Tensor& questions, std::int64_t k) const {
  require(questions.dtype() == DType::F32 && questions.rank() == 2 && questions.size(1) == dimensions_,
          "index: questions must be f32 [Q, {}]; got {}", dimensions_, questions);
  require(k > 0, "index: k must be positive; got {}", k);
  const NoGrad guard;
  const auto kept = static_cast<std::size_t>(std::min(k, size()));
  std::vector<std::vector<Hit>> results(static_cast<std::size_t>(questions.size(0)));
  if (kept == 0) return results;
  const Tensor asked = similarity_ == Similarity::Cosine ? unit_rows(questions) : questions;
  for (std::int64_t first = 0; first < size(); first += kBlock) {
    const Tensor block = slice(embeddings_, 0, first, std::min(first + kBlock, size()));
    const bool product = similarity_ == Similarity::Cosine || similarity_ == Similarity::Dot;
    const Tensor scores =
        product ? matmul(asked, transpose(block, 0, 1)) : similarities(asked, block, similarity_);
    const std::vector<float> values = scores.to_vector<float>();
    const auto width = static_cast<std::size_t>(block.size(0));
    for (std::size_t q = 0; q < results.size(); ++q) {
      std::vector<Hit>& best = results[q];
      for (std::size_t i = 0; i < width; ++i) {
        const Hit hit{first + static_cast<std::int64_t>(i), values[q * width + i]};
        if (best.size() == kept && !better(hit, best.back())) continue;
        if (best.size() == kept) best.pop_back();
        best.insert(std::upper_bound(best.begin(), best.end(), hit, better), hit);
      }
    }
  }
  return results;
}

void Index::save(const std::filesystem::path& path) const {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(static_cast<std::size_t>(offsets_.back()));
  if (stored_texts_.defined()) {
    const std::vector<std::uint8_t> stored = stored_texts_.to_vector<std::uint8_t>();
    bytes.insert(bytes.end(), stored.begin(), stored.end());
  }
  bytes.insert(bytes.end(), added_texts_.begin(), added_texts_.end());
  const Tensor embeddings = embeddings_.defined() ? embeddings_ : Tensor::empty({0, dimensions_});
  write_safetensors(path,
                    {{kEmbeddings, embeddings},
                     {kTexts, Tensor::from_values(bytes, {static_cast<std::int64_t>(bytes.size())})},
                     {kOffsets, Tensor::from_values(offsets_, {size() + 1})}},
                    {{"model", model_}, {"similarity", std::string(to_string(similarity_))}});
}

}  // namespace candela

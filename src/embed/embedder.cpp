#include <algorithm>
#include <bit>
#include <fmt/ranges.h>
#include <numeric>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/embed/embedder.h>
#include <candela/io/hub_cache.h>
#include <candela/models/save.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/reduce.h>

#include "embed/folder.h"
#include "embed/pooling.h"

namespace candela {
namespace {

namespace fs = std::filesystem;

/// The text without white space around it, as sentence-transformers encodes it.
std::string_view stripped(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\f\v\x1c\x1d\x1e\x1f";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

Tensor index_tensor(const std::vector<std::int32_t>& values, Device device) {
  return Tensor::from_values(values, {static_cast<std::int64_t>(values.size())}, device);
}

}  // namespace

Embedder Embedder::load(const fs::path& name, const LoadOptions& options) {
  const fs::path folder = local_path(name);
  Embedder result;
  result.folder_ = folder;
  result.plain_ = !is_sentence_folder(folder);
  if (!result.plain_) {
    SentenceFolder read = read_sentence_folder(folder);
    result.folder_ = std::move(read.transformer);
    result.config_ = std::move(read.config);
  }
  LoadOptions backbone = options;
  backbone.backbone_only = true;
  result.model_ = load_model(result.folder_, backbone);
  const ModelConfig& config = result.model_->config();
  if (result.plain_) {
    result.set_pooling({result.model_->backbone().sees_both_ways() ? Pooling::Mean : Pooling::LastToken},
                       true);
  }
  check_widths(result.config_, config.hidden_size, folder.string());
  const std::int64_t room = result.model_->backbone().max_tokens();
  std::int64_t& most = result.config_.max_tokens;
  most = most == 0 ? room : std::min(most, room);
  std::error_code error;
  const fs::path tokenizer = result.folder_ / "tokenizer.json";
  if (fs::exists(tokenizer, error)) result.tokenizer_ = Tokenizer::load(tokenizer);
  return result;
}

Embedder Embedder::of_model(std::unique_ptr<Model> model, EmbedderConfig config) {
  Embedder result;
  result.model_ = std::move(model);
  result.config_ = std::move(config);
  check_widths(result.config_, result.model_->config().hidden_size, "embedder");
  const std::int64_t room = result.model_->backbone().max_tokens();
  std::int64_t& most = result.config_.max_tokens;
  most = most == 0 ? room : std::min(most, room);
  return result;
}

const Tokenizer& Embedder::tokenizer() const {
  require<IoError>(tokenizer_.has_value(), "{}: no such file; texts cannot be embedded without it",
                   (folder_ / "tokenizer.json").string());
  return *tokenizer_;
}

void Embedder::set_pooling(std::vector<Pooling> pooling, bool normalize) {
  require(!pooling.empty(), "embedder: pooling must name at least one mode");
  require(plain_, "{}: modules.json says how it pools; leave pooling out", folder_.string());
  config_.pooling = std::move(pooling);
  config_.steps.clear();
  if (normalize) config_.steps.emplace_back();
}

std::int64_t Embedder::dimensions() const {
  return check_widths(config_, model_->config().hidden_size, folder_.string());
}

std::string Embedder::fingerprint() const {
  // FNV-1a over a sample of all weights: other weights, or an adapter, give other samples.
  constexpr std::uint64_t kPrime = 1099511628211ULL;
  std::uint64_t hash = 14695981039346656037ULL;
  const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * kPrime; };
  const NoGrad guard;
  const auto add_rows = [&](const Tensor& table, std::int64_t rows) {
    const std::int64_t stride = std::max<std::int64_t>(table.size(0) / rows, 1);
    for (std::int64_t row = 0; row < table.size(0); row += stride) {
      const Tensor values =
          to_device(cast(slice(table.detach(), 0, row, row + 1), DType::F32), Device::cpu());
      for (const float value : values.to_vector<float>()) add(std::bit_cast<std::uint32_t>(value));
    }
  };
  add_rows(model_->backbone().embedding(), 64);
  for (const Linear& layer : model_->linears()) {
    add_rows(layer.weight.dense(), 1);
    if (!layer.adapted()) continue;
    add_rows(layer.adapter.a, 1);
    add_rows(layer.adapter.b, 1);
    add(std::bit_cast<std::uint64_t>(layer.adapter.scale));
  }
  for (const Pooling pooling : config_.pooling) add(static_cast<std::uint64_t>(pooling));
  for (const EmbedStep& step : config_.steps) {
    add(static_cast<std::uint64_t>(step.kind));
    if (step.weight.defined()) add_rows(step.weight, 1);
  }
  return fmt::format("{} {} {:016x}", model_->config().model_type, dimensions(), hash);
}

void Embedder::check_dimensions(std::int64_t dimensions) const {
  require(dimensions >= 0 && dimensions <= this->dimensions(),
          "embedder: dimensions must be in [1, {}], or 0 for all; got {}", this->dimensions(), dimensions);
}

void Embedder::for_each_batch(
    const TokenRows& rows, const EmbedOptions& options,
    const std::function<void(std::span<const std::size_t>, const Tensor&)>& use) const {
  std::vector<std::size_t> order(rows.ids.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // Long texts first: a batch too large for the memory shows at once.
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return rows.ids[a].size() > rows.ids[b].size(); });
  std::int64_t done = 0;
  for (std::size_t first = 0; first < order.size();) {
    std::vector<std::int32_t> ids;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> bounds = {0};
    std::size_t last = first;
    for (; last < order.size(); ++last) {
      const std::vector<TokenId>& row = rows.ids[order[last]];
      if (last > first && static_cast<std::int64_t>(ids.size() + row.size()) > options.batch_tokens) break;
      ids.insert(ids.end(), row.begin(), row.end());
      const std::vector<std::int64_t> wide(row.begin(), row.end());
      const std::vector<std::int32_t> at = model_->backbone().positions_of(wide);
      positions.insert(positions.end(), at.begin(), at.end());
      bounds.push_back(static_cast<std::int32_t>(ids.size()));
    }
    const Device device = model_->device();
    const auto tokens = static_cast<std::int64_t>(ids.size());
    ForwardOptions forward;
    forward.positions = index_tensor(positions, device);
    forward.cu_seqlens = index_tensor(bounds, device);
    forward.longest = static_cast<std::int64_t>(rows.ids[order[first]].size());  // they are sorted
    const Tensor hidden = model_->forward_hidden(Tensor::from_values(ids, {1, tokens}, device), forward);
    use(std::span(order).subspan(first, last - first), reshape(hidden, {tokens, hidden.size(2)}));
    done += static_cast<std::int64_t>(last - first);
    if (options.progress) options.progress(done);
    first = last;
  }
}

/// hidden [tokens, D] of a batch's rows, one behind the other -> f32 [rows, D].
Tensor Embedder::pooled(const Tensor& hidden, const TokenRows& rows,
                        std::span<const std::size_t> batch) const {
  std::vector<std::int32_t> first;  // pooled tokens of each row
  std::vector<std::int32_t> end;
  std::int32_t at = 0;
  for (const std::size_t row : batch) {
    const auto length = static_cast<std::int32_t>(rows.ids[row].size());
    const auto skipped = static_cast<std::int32_t>(std::min<std::int64_t>(rows.skipped[row], length - 1));
    first.push_back(at + skipped);
    at += length;
    end.push_back(at);
  }
  return pool_tokens(hidden, config_.pooling, first, end);
}

Tensor Embedder::embed_rows(const TokenRows& rows, const EmbedOptions& options) const {
  check_dimensions(options.dimensions);
  for (std::size_t i = 0; i < rows.ids.size(); ++i)
    require(!rows.ids[i].empty(), "embedder: text {} has no tokens; leave it out", i + 1);
  const NoGrad guard;
  const std::int64_t width = options.dimensions > 0 ? options.dimensions : dimensions();
  Tensor result = Tensor::empty({static_cast<std::int64_t>(rows.ids.size()), width});
  for_each_batch(rows, options, [&](std::span<const std::size_t> batch, const Tensor& hidden) {
    const Tensor made =
        to_device(finish_embeddings(pooled(hidden, rows, batch), config_, options.dimensions), Device::cpu());
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const auto from = static_cast<std::int64_t>(i);
      const auto to = static_cast<std::int64_t>(batch[i]);
      copy_(slice(result, 0, to, to + 1), slice(made, 0, from, from + 1));
    }
  });
  return result;
}

Tensor Embedder::embed_ids(const std::vector<std::vector<TokenId>>& rows, const EmbedOptions& options) const {
  return embed_rows({rows, std::vector<std::int64_t>(rows.size(), 0), 0}, options);
}

std::vector<Tensor> Embedder::hidden_states(const std::vector<std::vector<TokenId>>& rows,
                                            const EmbedOptions& options) const {
  const NoGrad guard;
  std::vector<Tensor> result(rows.size());
  for_each_batch({rows, std::vector<std::int64_t>(rows.size(), 0), 0}, options,
                 [&](std::span<const std::size_t> batch, const Tensor& hidden) {
                   const Tensor wide = to_device(cast(hidden, DType::F32), Device::cpu());
                   std::int64_t at = 0;
                   for (const std::size_t row : batch) {
                     const auto length = static_cast<std::int64_t>(rows[row].size());
                     result[row] = slice(wide, 0, at, at + length);
                     at += length;
                   }
                 });
  return result;
}

std::string Embedder::prompt_of(const EmbedOptions& options) const {
  if (options.prompt) return *options.prompt;
  const std::string name = options.prompt_name.value_or(config_.default_prompt);
  if (name.empty()) return {};
  const auto found = config_.prompts.find(name);
  std::vector<std::string> known;
  for (const auto& [key, text] : config_.prompts) known.push_back(key);
  require(found != config_.prompts.end(), "embedder: no prompt is named {}; the model has {}", name,
          known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")));
  return found->second;
}

Embedder::TokenRows Embedder::tokenize(std::span<const std::string> texts,
                                       const EmbedOptions& options) const {
  const std::string prompt = prompt_of(options);
  const Tokenizer& tokens = tokenizer();
  Truncation truncation = tokens.truncation().value_or(Truncation());
  truncation.max_length = config_.max_tokens;
  TokenRows rows;
  std::int64_t skipped = 0;
  if (!prompt.empty() && !config_.include_prompt)
    skipped = static_cast<std::int64_t>(tokens.prefix().size() + tokens.encode(prompt, false).size());
  for (const std::string& text : texts) {
    const std::string whole = prompt + text;
    std::vector<TokenId> ids = tokens.encode(stripped(whole), truncation);
    const bool full = static_cast<std::int64_t>(ids.size()) == truncation.max_length;
    if (full && tokens.encode(stripped(whole)).size() > ids.size()) ++rows.cut;
    require(!ids.empty(), "embedder: text {} has no tokens; leave it out", rows.ids.size() + 1);
    rows.ids.push_back(std::move(ids));
    rows.skipped.push_back(skipped);
  }
  return rows;
}

Tensor Embedder::embed(std::span<const std::string> texts, const EmbedOptions& options,
                       std::int64_t* cut) const {
  const TokenRows rows = tokenize(texts, options);
  if (cut != nullptr) *cut = rows.cut;
  return embed_rows(rows, options);
}

Tensor similarities(const Tensor& a, const Tensor& b, Similarity similarity) {
  require(a.rank() == 2 && b.rank() == 2 && a.size(1) == b.size(1),
          "similarities: a must be [N, D] and b [M, D]; got {} and {}", a.shape(), b.shape());
  const NoGrad guard;
  switch (similarity) {
    case Similarity::Cosine:
      return matmul(unit_rows(a), transpose(unit_rows(b), 0, 1));
    case Similarity::Dot:
      return matmul(a, transpose(b, 0, 1));
    case Similarity::Euclidean:
    case Similarity::Manhattan: {
      // Differences themselves: |a|^2 + |b|^2 - 2 a b would cancel for close ones.
      std::vector<Tensor> rows;
      for (std::int64_t n = 0; n < a.size(0); ++n) {
        const Tensor difference = sub(b, slice(a, 0, n, n + 1));
        const Tensor distance = similarity == Similarity::Manhattan ? sum(abs(difference), {-1})
                                                                    : sqrt(sum(square(difference), {-1}));
        rows.push_back(reshape(neg(distance), {1, b.size(0)}));
      }
      return rows.empty() ? Tensor::empty({0, b.size(0)}) : concat(rows, 0);
    }
  }
  throw InvalidArgument("similarities: unknown similarity");
}

Tensor Embedder::similarity(const Tensor& a, const Tensor& b) const {
  return similarities(a, b, config_.similarity);
}

void Embedder::check_save(const fs::path& folder) const {
  check_save_model(*model_, folder, folder_);
}

void Embedder::save(const fs::path& folder) const {
  save_model(*model_, folder, folder_, [&](const fs::path& aside) {
    write_sentence_files(aside, config_, model_->config().hidden_size);
  });
}

}  // namespace candela

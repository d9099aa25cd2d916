#include <algorithm>
#include <fmt/ranges.h>
#include <set>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/io/hub_cache.h>
#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>

#include "io/listing.h"
#include "models/architecture.h"
#include "models/registry.h"
#include "models/values.h"

namespace candela {
namespace {

/// The weights of a Hugging Face folder.
class CheckpointWeights final : public WeightSource {
 public:
  CheckpointWeights(const std::filesystem::path& folder, const ModelConfig& config,
                    const Architecture& architecture, const LoadOptions& options)
      : folder_(folder.string()),
        reader_(SafetensorsReader::open(folder)),
        architecture_(architecture),
        embedding_(stored_name(std::string(architecture.embedding))),
        dtype_(options.dtype.value_or(stored_dtype(config))),
        options_(options),
        tied_(config.tie_word_embeddings && architecture.causal && !options.backbone_only) {
    require(dtype_ == DType::F32 || dtype_ == DType::BF16 || dtype_ == DType::F16,
            "load_model: dtype must be f32, bf16 or f16; got {}", to_string(dtype_));
    left_over_.insert(reader_.names().begin(), reader_.names().end());
    // Older exports keep the rotary frequencies, which follow from the config; a tied output layer may be
    // stored a second time.
    std::erase_if(left_over_, [&](const std::string& name) {
      return name.ends_with(".rotary_emb.inv_freq") || (name == kHead && (tied_ || options.backbone_only)) ||
             unread(name);
    });
  }

  DType dtype() const override { return dtype_; }
  Device device() const override { return options_.device; }
  bool bf16_rope_frequencies() const override { return options_.bf16_rope_frequencies; }

  bool has(const std::string& name) const override { return reader_.contains(stored_name(name)); }

  Tensor take(const std::string& given, const Shape& shape, Init) override {
    const std::string name = stored_name(given);
    left_over_.erase(name);
    if (!reader_.contains(name)) {
      problems_.push_back("missing: " + name);
    } else if (const std::vector<std::int64_t>& found = reader_.entry(name).shape;
               !std::equal(found.begin(), found.end(), shape.begin(), shape.end())) {
      problems_.push_back(fmt::format("{}: expected {}, found [{}]", name, shape, fmt::join(found, ", ")));
    } else {
      return converted(name, floating(name, options_.device));
    }
    // Stands in until finish() throws, so that all problems are found in one go.
    return Tensor::empty(Shape::filled(shape.rank(), 0), dtype_, options_.device);
  }

  void finish() override {
    for (const std::string& name : left_over_) problems_.push_back("unexpected: " + name);
    require<IoError>(problems_.empty(), "{}: the weights do not fit config.json:\n  {}", folder_,
                     io::listed(problems_, "\n  "));
    if (tied_) check_second_head();
  }

 private:
  static constexpr const char* kHead = "lm_head.weight";

  /// The name of a weight in the file, which may have the architecture's prefix or not.
  std::string stored_name(const std::string& name) const {
    const std::string prefix(architecture_.prefix);
    if (reader_.contains(name)) return name;
    if (name.starts_with(prefix) && reader_.contains(name.substr(prefix.size())))
      return name.substr(prefix.size());
    return reader_.contains(prefix + name) ? prefix + name : name;
  }

  /// Whether checkpoints of this architecture hold `name`, and nothing here reads it.
  bool unread(const std::string& name) const {
    std::string_view bare = name;
    if (bare.starts_with(architecture_.prefix)) bare.remove_prefix(architecture_.prefix.size());
    for (const char* start : architecture_.unread) {
      if (start != nullptr && bare.starts_with(start)) return true;
    }
    return false;
  }

  Tensor floating(const std::string& name, Device device) const {
    Tensor stored = reader_.tensor(name, device);
    require<IoError>(is_floating(stored.dtype()), "{}: {} must have a floating dtype; got {}", folder_, name,
                     to_string(stored.dtype()));
    return stored;
  }

  /// The weight in dtype(). On the CPU it is converted a piece at a time, on all cores, straight from the
  /// mapped file, and the pages that were read are given back: loading takes the memory of the result and one
  /// piece.
  Tensor converted(const std::string& name, const Tensor& stored) const {
    constexpr std::int64_t kPieceBytes = std::int64_t{1} << 24U;
    if (stored.dtype() == dtype_) return stored;
    if (stored.device().type != DeviceType::Cpu || stored.numel() == 0 || stored.shape().rank() == 0)
      return cast(stored, dtype_);
    const std::int64_t rows = stored.shape()[0];
    const std::int64_t row_bytes = stored.numel() / rows * static_cast<std::int64_t>(size_of(stored.dtype()));
    const std::int64_t step = std::max<std::int64_t>(1, kPieceBytes / row_bytes);
    const Tensor result = Tensor::empty(stored.shape(), dtype_);
    for (std::int64_t row = 0; row < rows; row += step) {
      const std::int64_t end = std::min(rows, row + step);
      copy_(slice(result, 0, row, end), slice(stored, 0, row, end));
      reader_.release(name, static_cast<std::uint64_t>(row * row_bytes),
                      static_cast<std::uint64_t>(end * row_bytes));
    }
    return result;
  }

  /// A tied output layer that is stored as well must be the embedding; to pass it over would lose what a
  /// merge or a training run put there.
  void check_second_head() const {
    if (!reader_.contains(kHead) || options_.device.type == DeviceType::Plan) return;
    require<IoError>(same_values(floating(kHead, Device::cpu()), floating(embedding_, Device::cpu())),
                     "{}: config.json says tie_word_embeddings, but {} differs from {}: set "
                     "tie_word_embeddings to false if "
                     "the output layer has weights of its own, or remove {}",
                     folder_, kHead, embedding_, kHead);
  }

  /// The dtype of the embedding, which every model has; config.json may say something else.
  DType stored_dtype(const ModelConfig& config) const {
    if (!reader_.contains(embedding_)) return config.dtype;
    const std::string& stored = reader_.entry(embedding_).dtype;
    if (stored == "BF16") return DType::BF16;
    if (stored == "F16") return DType::F16;
    return DType::F32;
  }

  std::string folder_;
  SafetensorsReader reader_;
  const Architecture& architecture_;
  std::string embedding_;  // as the file names it
  DType dtype_;
  LoadOptions options_;
  bool tied_;
  std::set<std::string> left_over_;
  std::vector<std::string> problems_;
};

}  // namespace

std::unique_ptr<Model> load_model(const std::filesystem::path& name, const LoadOptions& options) {
  const NoGrad guard;
  const std::filesystem::path folder = local_path(name);
  const ModelConfig config = ModelConfig::load(folder);
  const Architecture* const architecture = find_architecture(config.model_type);
  require<Unsupported>(architecture != nullptr, "{}: model_type must be one of {}; got {}", config.source,
                       architecture_names(), config.model_type);
  CheckpointWeights source(folder, config, *architecture, options);
  return build_model(config, source, options.backbone_only);
}

}  // namespace candela

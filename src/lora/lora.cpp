#include <algorithm>
#include <cmath>
#include <fmt/ranges.h>
#include <set>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/io/hub_cache.h>
#include <candela/lora/lora.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/matmul.h>
#include <candela/ops/random.h>

#include "io/listing.h"
#include "lora/adapter_file.h"
#include "lora/matcher.h"
#include "models/values.h"

namespace candela {
namespace {

/// The last parts of the paths of all linear layers: what a person may write as targets.
std::set<std::string> short_names(const Model& model) {
  std::set<std::string> names;
  for (const Linear& layer : model.linears()) names.insert(layer.path.substr(layer.path.rfind('.') + 1));
  return names;
}

/// The path of the output layer; empty: there is none.
std::string head_path(const Model& model) {
  return model.has_head() ? model.head().path : std::string();
}

std::vector<std::string> paths_of(const Model& model) {
  std::vector<std::string> paths;
  for (const Linear& layer : model.linears()) paths.push_back(layer.path);
  return paths;
}

/// A name or pattern that picks no layer is a slip of the pen: say so before training goes on without it.
void check_targets(const Model& model, const LoraConfig& config) {
  for (const std::int64_t layer : config.layers) {
    require(layer >= 0 && layer < model.config().num_layers,
            "lora: layers_to_transform must be in [0, {}) as num_hidden_layers says; got {}",
            model.config().num_layers, layer);
  }
  for (const std::string& name : config.targets.names) {
    const FilterMatcher one({{name}, ""}, "lora: target_modules");
    const bool found = std::any_of(model.linears().begin(), model.linears().end(), [&](const Linear& layer) {
      return one.matches(layer.path, model.is_head(layer));
    });
    require<Unsupported>(
        found || !name.ends_with("embed_tokens"),
        "lora: adapters on the embedding ({}) are not supported; leave it out of target_modules", name);
    require(found, "lora: target {} matches no linear layer; the model has {}", name,
            fmt::join(short_names(model), ", "));
  }
  const LoraMatcher matcher(config);
  const bool any = std::any_of(model.linears().begin(), model.linears().end(), [&](const Linear& layer) {
    return matcher.selects(layer.path, model.is_head(layer));
  });
  require(
      any,
      "lora: target_modules, exclude_modules and layers_to_transform leave no linear layer; the model has {}",
      fmt::join(short_names(model), ", "));
  const std::vector<std::string> idle = config.idle_patterns(paths_of(model), head_path(model));
  require(idle.empty(), "lora: {} matches no layer that gets an adapter; the model has {}",
          io::listed(idle, ", "), fmt::join(short_names(model), ", "));
}

void check_free(const Model& model) {
  for (const Linear& layer : model.linears()) {
    require(!layer.adapter.a.defined(), "lora: the model has adapters already (on {}); detach them first",
            layer.path);
  }
}

/// W + s B A.
Weight merged_weight(const Linear& layer) {
  const LoraAdapter& adapter = layer.adapter;
  const Tensor delta = matmul(cast(adapter.b.detach(), DType::F32), cast(adapter.a.detach(), DType::F32));
  return layer.weight.plus(affine(delta, adapter.scale, 0));
}

}  // namespace

namespace {

/// One tensor for all adapters, and the parts of it that take the values of `layers`: first every A in the
/// order of the network, then every B. The A's of layers that share an input lie below each other, as one
/// matrix; norm, clipping and AdamW are one pass over the whole.
class FlatAdapters {
 public:
  FlatAdapters(std::int64_t elements, Device device) : flat_(Tensor::empty({elements}, DType::F32, device)) {}

  /// A copy of `values`, f32, in the next part.
  Tensor add(const Tensor& values) {
    const NoGrad guard;
    Layout layout = Layout::contiguous(values.shape());
    layout.offset = used_;
    const Tensor part = flat_.with_layout(layout);
    copy_(part, values);
    used_ += values.numel();
    return part;
  }

 private:
  Tensor flat_;
  std::int64_t used_ = 0;
};

}  // namespace

Lora::Lora(Model& model, LoraConfig config) : model_(&model), config_(std::move(config)) {}

void Lora::place(Linear& layer, Tensor a, Tensor b, double scale, bool trainable) const {
  layer.adapter = LoraAdapter();
  layer.adapter.a = std::move(a);
  layer.adapter.b = std::move(b);
  layer.adapter.scale = scale;
  layer.adapter.dropout = config_.dropout;
  layer.adapter.a.set_requires_grad(trainable);
  layer.adapter.b.set_requires_grad(trainable);
}

Lora Lora::attach(Model& model, const LoraConfig& config, std::uint64_t seed) {
  check_lora_config(config);
  check_free(model);
  check_targets(model, config);
  LoraConfig resolved = config;
  resolved.targets = config.resolved_targets(paths_of(model), head_path(model));
  Lora lora(model, resolved);
  const LoraMatcher matcher(resolved);
  std::vector<Linear*> layers;
  std::int64_t elements = 0;
  for (Linear& layer : model.linears()) {
    if (!matcher.selects(layer.path, model.is_head(layer))) continue;
    layers.push_back(&layer);
    elements += matcher.rank_of(layer.path) * (layer.inputs() + layer.outputs());
  }
  FlatAdapters flat(elements, model.device());
  Generator generator(seed);
  std::vector<Tensor> as;
  for (const Linear* layer : layers) {
    const std::int64_t rank = matcher.rank_of(layer->path);
    // Kaiming's uniform with a = sqrt(5), as peft draws it, comes down to this bound.
    const double bound = 1 / std::sqrt(static_cast<double>(layer->inputs()));
    as.push_back(
        flat.add(uniform({rank, layer->inputs()}, generator, -bound, bound, DType::F32, model.device())));
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    Linear& layer = *layers[i];
    const Tensor b =
        flat.add(zeros({layer.outputs(), matcher.rank_of(layer.path)}, DType::F32, model.device()));
    lora.place(layer, as[i], b, matcher.scale_of(layer.path), true);
  }
  return lora;
}

Lora Lora::load(Model& model, const std::filesystem::path& folder, bool trainable) {
  check_free(model);
  AdapterFile file = read_adapter(local_path(folder), model);
  Lora lora(model, std::move(file.config));
  lora.base_model_ = std::move(file.base_model);
  lora.notes_ = std::move(file.notes);
  std::int64_t elements = 0;
  for (const AdapterFile::Entry& entry : file.entries) elements += entry.a.numel() + entry.b.numel();
  FlatAdapters flat(elements, model.device());
  for (AdapterFile::Entry& entry : file.entries) entry.a = flat.add(entry.a);
  for (AdapterFile::Entry& entry : file.entries) entry.b = flat.add(entry.b);
  for (AdapterFile::Entry& entry : file.entries)
    lora.place(*entry.layer, std::move(entry.a), std::move(entry.b), entry.scale, trainable);
  return lora;
}

std::vector<Linear*> Lora::adapted() const {
  std::vector<Linear*> layers;
  for (Linear& layer : model_->linears()) {
    if (layer.adapter.a.defined()) layers.push_back(&layer);
  }
  return layers;
}

std::vector<NamedTensor> Lora::parameters() const {
  std::vector<NamedTensor> result;
  for (const Linear* layer : adapted()) {
    result.push_back({adapter_key(layer->path, "lora_A"), layer->adapter.a});
    result.push_back({adapter_key(layer->path, "lora_B"), layer->adapter.b});
  }
  return result;
}

std::int64_t Lora::parameter_count() const {
  std::int64_t count = 0;
  for (const NamedTensor& parameter : parameters()) count += parameter.tensor.numel();
  return count;
}

void Lora::set_enabled(bool enabled) {
  require(!merged(), "lora: the adapters are merged into the weights; unmerge them to switch them on or off");
  for (Linear* layer : adapted()) layer->adapter.enabled = enabled;
}

bool Lora::enabled() const {
  const std::vector<Linear*> layers = adapted();
  return std::all_of(layers.begin(), layers.end(),
                     [](const Linear* layer) { return layer->adapter.enabled; });
}

bool Lora::merged() const {
  const std::vector<Linear*> layers = adapted();
  return std::any_of(layers.begin(), layers.end(), [](const Linear* layer) { return layer->adapter.merged; });
}

void Lora::merge(bool keep_originals) {
  std::vector<Linear*> layers = adapted();
  const std::size_t merged_before =
      std::erase_if(layers, [](const Linear* layer) { return layer->adapter.merged; });
  require(merged_before == 0 || !layers.empty(), "lora: the adapters are merged already");
  require(enabled(), "lora: the adapters are disabled; enable them to merge them");
  const std::string bad = first_non_finite(parameters());
  require<Error>(bad.empty(), "lora: not merged: {} is no finite number; the adapter is broken", bad);
  const NoGrad guard;
  for (auto first = layers.begin(); first != layers.end();) {
    // Layers of one group are merged together.
    const LinearGroup* const group = (*first)->group;
    const auto last = group == nullptr ? first + 1 : std::find_if(first, layers.end(), [&](Linear* layer) {
      return layer->group != group;
    });
    std::vector<std::pair<Linear*, Weight>> merged;
    for (auto layer = first; layer != last; ++layer) merged.emplace_back(*layer, merged_weight(**layer));
    std::vector<Weight> originals;
    for (auto layer = first; layer != last; ++layer) originals.push_back((*layer)->weight);
    set_weights(merged);
    // Nothing throws from here on: a layer is merged as a whole or not at all.
    for (auto layer = first; layer != last; ++layer) {
      LoraAdapter& adapter = (*layer)->adapter;
      if (keep_originals) adapter.original = originals[static_cast<std::size_t>(layer - first)];
      adapter.merged = true;
    }
    first = last;
  }
}

void Lora::unmerge() {
  require(merged(), "lora: the adapters are not merged");
  for (const Linear* layer : adapted()) {
    require(!layer->adapter.merged || layer->adapter.original.defined(),
            "lora: the original weight of {} was not kept; load the model again", layer->path);
  }
  std::vector<std::pair<Linear*, Weight>> originals;
  for (Linear* layer : adapted()) {
    if (layer->adapter.merged) originals.emplace_back(layer, layer->adapter.original);
  }
  set_weights(originals);
  for (const auto& [layer, weight] : originals) {
    layer->adapter.original = Weight();
    layer->adapter.merged = false;
  }
}

void Lora::save(const std::filesystem::path& folder, const std::string& base_model) const {
  const std::vector<NamedTensor> tensors = parameters();
  const std::string bad = first_non_finite(tensors);
  require<Error>(bad.empty(), "{}: not saved: the adapter is broken, first in {}; lower the learning rate",
                 folder.string(), bad);
  std::error_code error;
  const bool local = std::filesystem::is_directory(base_model, error);
  write_adapter(folder, config_, tensors,
                local ? std::filesystem::weakly_canonical(base_model).string() : base_model);
}

void Lora::detach() {
  if (merged()) unmerge();
  for (Linear* layer : adapted()) layer->adapter = LoraAdapter();
}

}  // namespace candela

#include "lora/adapter_file.h"

#include <algorithm>
#include <fmt/ranges.h>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>

#include "io/json.h"
#include "io/listing.h"
#include "lora/matcher.h"
#include "models/values.h"

namespace candela {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr const char* kConfigName = kAdapterConfigName;
constexpr const char* kWeightsName = kAdapterWeightsName;

/// The two keys of one layer's adapter in the file; empty where there is none.
struct Keys {
  std::string a, b;
};

/// "base_model.model.PATH.lora_A.weight" -> PATH and A or B.
struct ParsedKey {
  std::string path;
  bool is_a;
};

std::optional<ParsedKey> parse_key(const std::string& key) {
  std::string_view rest = key;
  if (rest.starts_with(kPrefix)) rest.remove_prefix(kPrefix.size());
  for (const std::string_view end : {".lora_A.weight", ".lora_B.weight"}) {
    if (rest.ends_with(end))
      return ParsedKey{std::string(rest.substr(0, rest.size() - end.size())), end[6] == 'A'};
  }
  return std::nullopt;
}

using LayersByEnd = std::unordered_map<std::string_view, const Linear*>;

/// The layers by path and by each end of it behind a dot; null where several layers share an end that is the
/// path of none.
LayersByEnd layers_by_end(const Model& model) {
  LayersByEnd layers;
  for (const Linear& layer : model.linears()) {
    any_end(layer.path, [&](std::string_view end) {
      const auto [entry, first] = layers.try_emplace(end, &layer);
      if (end == layer.path) {
        entry->second = &layer;
      } else if (!first && entry->second != nullptr && entry->second->path != end) {
        entry->second = nullptr;
      }
      return false;
    });
  }
  return layers;
}

/// Collects what does not fit, so that all of it is reported at once.
class AdapterReader {
 public:
  AdapterReader(const std::filesystem::path& folder, const LoraConfig& config, Model& model)
      : model_(model),
        matcher_(config, (folder / kConfigName).string() + ": lora"),
        file_((folder / kWeightsName).string()),
        reader_(SafetensorsReader::open(folder / kWeightsName)),
        layers_(layers_by_end(model)) {}

  void read(AdapterFile& result) {
    assign_keys(result.notes);
    for (Linear& layer : model_.linears()) {
      const auto found = keys_.find(&layer);
      const Keys keys = found == keys_.end() ? Keys{} : found->second;
      if (matcher_.selects(layer.path, model_.is_head(layer))) {
        take(layer, keys, result);
      } else {
        for (const std::string& key : {keys.a, keys.b}) {
          if (!key.empty())
            problems_.push_back("unexpected: " + key + " (target_modules leaves this layer out)");
        }
      }
    }
    require<IoError>(problems_.empty(), "{}: the adapter does not fit the model and {}:\n  {}", file_,
                     kConfigName, io::listed(problems_, "\n  "));
  }

 private:
  /// Finds the layer of every key. Some exporters leave out a part of the prefix; a layer whose path ends in
  /// the key's is taken if it is the only one.
  void assign_keys(std::vector<std::string>& notes) {
    std::size_t shortened = 0;
    std::string example;
    for (const std::string& name : reader_.names()) {
      if (take_base_weight(name)) continue;
      const std::optional<ParsedKey> key = parse_key(name);
      const auto found = key ? layers_.find(key->path) : layers_.end();
      if (found == layers_.end() || found->second == nullptr) {
        problems_.push_back("unexpected: " + name);
        continue;
      }
      const Linear* const layer = found->second;
      if (name != adapter_key(layer->path, key->is_a ? "lora_A" : "lora_B")) {
        ++shortened;
        example = name;
      }
      std::string& slot = key->is_a ? keys_[layer].a : keys_[layer].b;
      if (!slot.empty())
        problems_.push_back(fmt::format("unexpected: {} (means the same as {})", name, slot));
      slot = name;
    }
    if (shortened > 0) {
      notes.push_back(
          fmt::format("{}: {} keys lack a part of the usual prefix {}, such as {}; matched by their ends",
                      file_, shortened, kPrefix, example));
    }
  }

  /// peft saves the weights of an embedding or output layer beside the adapters on it. They add nothing as
  /// long as they are the model's own. False if `key` is none of those.
  bool take_base_weight(const std::string& key) {
    std::string name = key;
    if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
    constexpr std::string_view kBase = ".base_layer";
    const std::size_t base = name.find(kBase);
    if (base != std::string::npos) name.erase(base, kBase.size());
    const bool embedding = name == "model.embed_tokens.weight";
    if (!embedding && (name != "lm_head.weight" || !model_.has_head())) return false;
    const Tensor own = embedding ? model_.named_parameters().front().tensor : model_.head().weight.dense();
    const Tensor stored = reader_.tensor(key);
    check_floating(key, stored);
    if (model_.device().type == DeviceType::Plan || same_values(stored, own)) return true;
    problems_.push_back(
        fmt::format("{}: differs from the model's own {}: the adapter was trained on other "
                    "weights, or changed them",
                    key, name));
    return true;
  }

  void take(Linear& layer, const Keys& keys, AdapterFile& result) {
    const std::int64_t rank = matcher_.rank_of(layer.path);
    const Tensor a = take_one(keys.a, adapter_key(layer.path, "lora_A"), {rank, layer.inputs()});
    const Tensor b = take_one(keys.b, adapter_key(layer.path, "lora_B"), {layer.outputs(), rank});
    if (a.defined() && b.defined()) result.entries.push_back({&layer, a, b, matcher_.scale_of(layer.path)});
  }

  Tensor take_one(const std::string& key, const std::string& expected, const Shape& shape) {
    if (key.empty()) {
      problems_.push_back("missing: " + expected);
      return {};
    }
    const std::vector<std::int64_t>& found = reader_.entry(key).shape;
    if (!std::equal(found.begin(), found.end(), shape.begin(), shape.end())) {
      problems_.push_back(fmt::format("{}: expected {}, found [{}]", key, shape, fmt::join(found, ", ")));
      return {};
    }
    const Tensor stored = reader_.tensor(key, model_.device());
    check_floating(key, stored);
    // A copy of its own: training writes into it.
    return stored.dtype() == DType::F32 ? clone(stored) : cast(stored, DType::F32);
  }

  void check_floating(const std::string& key, const Tensor& stored) const {
    require<IoError>(is_floating(stored.dtype()), "{}: {} must have a floating dtype; got {}", file_, key,
                     to_string(stored.dtype()));
  }

  Model& model_;
  LoraMatcher matcher_;
  std::string file_;
  SafetensorsReader reader_;
  LayersByEnd layers_;
  std::map<const Linear*, Keys> keys_;
  std::vector<std::string> problems_;
};

}  // namespace

std::string adapter_key(const std::string& path, const std::string& part) {
  return std::string(kPrefix) + path + "." + part + ".weight";
}

namespace {

/// Whether `recorded`, a path or a name on the hub, may be the model in `folder`. A path that is not here
/// (the adapter comes from another machine) and a name are judged by their last part.
bool same_base(const std::string& recorded, const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(recorded, error))
    return std::filesystem::equivalent(recorded, folder, error) && !error;
  const std::string here = std::filesystem::weakly_canonical(folder, error).string();
  const std::string last = recorded.substr(recorded.find_last_of("/\\") + 1);
  // models--ORG--NAME/snapshots/REVISION is how Hugging Face's cache keeps ORG/NAME.
  return std::filesystem::path(here).filename() == last || here.find("--" + last + "/") != std::string::npos;
}

/// What a person should know about targets that pick nothing. peft passes over them where others do.
void note_idle_targets(const LoraConfig& config, const std::string& file, const Model& model,
                       std::vector<std::string>& notes) {
  std::unordered_set<std::string_view> ends;
  for (const Linear& layer : model.linears()) {
    any_end(layer.path, [&](std::string_view end) {
      ends.insert(end);
      return false;
    });
  }
  std::vector<std::string> idle;
  for (const std::string& name : config.targets.names) {
    if (!ends.contains(name)) idle.push_back(name);
  }
  if (!idle.empty())
    notes.push_back(fmt::format("{}: target_modules: {} matches no linear layer of this {} model", file,
                                io::listed(idle, ", "), model.config().model_type));
  idle.clear();
  for (const std::int64_t layer : config.layers) {
    if (layer < 0 || layer >= model.config().num_layers) idle.push_back(fmt::format("{}", layer));
  }
  if (!idle.empty())
    notes.push_back(fmt::format("{}: layers_to_transform: {} matches no layer; num_hidden_layers is {}", file,
                                io::listed(idle, ", "), model.config().num_layers));
}

}  // namespace

AdapterFile read_adapter(const std::filesystem::path& folder, Model& model) {
  const NoGrad guard;
  const std::filesystem::path config_file = folder / kConfigName;
  AdapterFile result;
  const AdapterConfigText found = find_adapter_config(folder);
  const std::string& text = found.text;
  if (!found.note.empty()) result.notes.push_back(found.note);
  result.config = found.config ? *found.config : parse_adapter_config(text, config_file.string());
  result.base_model = parse_base_model(text, config_file.string());
  const std::filesystem::path base = std::filesystem::path(model.config().source).parent_path();
  std::error_code error;
  if (!result.base_model.empty() && std::filesystem::exists(model.config().source, error) &&
      !same_base(result.base_model, base)) {
    result.notes.push_back(fmt::format("{}: the adapter was trained on {:.200}, and this model is {}",
                                       config_file.string(), result.base_model, base.string()));
  }
  AdapterReader(folder, result.config, model).read(result);
  require<IoError>(!result.entries.empty(),
                   "{}: target_modules, exclude_modules and layers_to_transform must leave a linear layer of "
                   "this {} model; got none",
                   config_file.string(), model.config().model_type);
  require<IoError>(
      !found.mismatched,
      "{}: must mean what its weights were saved with (rank, lora_alpha, use_rslora and the patterns "
      "of each layer); got another configuration: its save was cut short, or the file was edited; "
      "put the right one back, or save the adapter again",
      config_file.string());
  note_idle_targets(result.config, config_file.string(), model, result.notes);
  return result;
}

}  // namespace candela

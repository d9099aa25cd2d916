#include <array>
#include <cmath>
#include <fmt/ranges.h>
#include <set>
#include <string_view>

#include <candela/core/error.h>

#include "io/json.h"
#include "io/json_text.h"
#include "lora/adapter_file.h"

namespace candela {
namespace {

/// Fields that describe a run, a file or a training-time choice and do not change what the adapter computes.
constexpr std::array kIrrelevant = {
    "auto_mapping",      "base_model_name_or_path", "ensure_weight_tying",
    "inference_mode",    "megatron_core",           "peft_version",
    "revision",          "runtime_config",          "task_type",
    "qalora_group_size",
};

/// Fields that parse_adapter_config reads.
constexpr std::array kRead = {
    "alpha_pattern",       "bias",           "exclude_modules", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "lora_alpha",     "lora_dropout",    "peft_type",         "r",
    "rank_pattern",        "target_modules", "use_rslora",
};

template <std::size_t N>
bool contains(const std::array<const char*, N>& names, const std::string& name) {
  for (const char* known : names) {
    if (name == known) return true;
  }
  return false;
}

/// Whether a field stands at a value that switches it off.
bool is_off(const io::Json& value) {
  if (const auto* text = value.get_ptr<const std::string*>()) return text->empty() || *text == "none";
  return value.is_null() || value == false || (value.is_structured() && value.empty());
}

/// What changes the result and is not supported must not be passed over: the adapter would run, and run
/// wrong.
void refuse_unsupported(const io::JsonObject& object) {
  for (const auto& [name, value] : object.json().items()) {
    if (contains(kIrrelevant, name) || contains(kRead, name)) continue;
    require<Unsupported>(is_off(value), "{}: {} = {} is not supported; save the adapter without it",
                         object.source(), name, io::shown(value));
  }
  const std::string bias = object.string("bias", "none");
  require<Unsupported>(bias == "none", "{}: bias = {} is not supported; only \"none\" is", object.source(),
                       io::shown(bias));
  // Some initialisations move part of the base weights into the adapter; without that change of the base the
  // result is wrong.
  if (const io::Json* init = object.find("init_lora_weights"); init != nullptr && init->is_string()) {
    require<Unsupported>(
        *init != "eva",
        "{}: init_lora_weights = \"eva\" is not supported: EVA draws ranks and weights from data; "
        "save the adapter with init_lora_weights = true",
        object.source());
    require<Unsupported>(*init == "gaussian" || *init == "orthogonal",
                         "{}: init_lora_weights = {} changes the base weights, which is not supported",
                         object.source(), io::shown(*init));
  }
  if (const io::Json* pattern = object.find("layers_pattern"); pattern != nullptr && !is_off(*pattern)) {
    const bool usual =
        *pattern == "layers" || (pattern->is_array() && pattern->size() == 1 && pattern->front() == "layers");
    require<Unsupported>(usual, "{}: layers_pattern = {} is not supported; only \"layers\" is",
                         object.source(), io::shown(*pattern));
  }
}

ModuleFilter parse_filter(const io::JsonObject& object, const char* key) {
  const io::Json* value = object.find(key);
  if (value == nullptr) return {};
  if (value->is_string()) return {{}, object.string(key)};
  return {object.strings(key), ""};
}

/// Builds the document and takes down the order of the patterns, which a Json does not keep: the first that
/// matches a module counts.
class AdapterConfigBuilder final : public io::JsonBuilder {
 public:
  using Order = std::vector<std::string>;

  AdapterConfigBuilder(std::string_view text, const std::string& source) : JsonBuilder(text, source) {}

  const Order& ranks() const { return ranks_; }
  const Order& alphas() const { return alphas_; }

  bool start_object(std::size_t elements) override {
    if (depth() == 1)
      order_ = current_key() == "rank_pattern"    ? &ranks_
               : current_key() == "alpha_pattern" ? &alphas_
                                                  : nullptr;
    return JsonBuilder::start_object(elements);
  }
  bool end_object() override {
    if (depth() == 2) order_ = nullptr;
    return JsonBuilder::end_object();
  }
  bool key(string_t& value) override {
    if (depth() == 2 && order_ != nullptr) order_->push_back(value);
    return JsonBuilder::key(value);
  }

 private:
  Order ranks_, alphas_;
  Order* order_ = nullptr;  // of the open object at the top level
};

template <class Value, class Convert>
std::vector<std::pair<std::string, Value>> parse_patterns(const std::vector<std::string>& order,
                                                          const io::JsonObject& object, const char* key,
                                                          const Convert& convert) {
  std::vector<std::pair<std::string, Value>> result;
  if (!object.has(key)) return result;
  const io::JsonObject values = object.object(key);
  for (const std::string& pattern : order) result.emplace_back(pattern, convert(values, pattern.c_str()));
  return result;
}

using io::json_quoted;

/// Whole numbers without a fraction, as peft writes them.
std::string format_number(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  return whole ? fmt::format("{}", static_cast<std::int64_t>(value)) : io::json_number(value);
}

/// The items between `brackets`, each on a line of its own; on one line where there are none.
std::string format_items(const std::vector<std::string>& items, std::string_view brackets) {
  if (items.empty()) return std::string(brackets);
  return fmt::format("{}\n    {}\n  {}", brackets[0], fmt::join(items, ",\n    "), brackets[1]);
}

std::string format_filter(const ModuleFilter& filter, const std::string& source) {
  require<Unsupported>(filter.names.empty() || filter.pattern.empty(),
                       "{}: peft has no form for both names and a pattern; use one of them", source);
  if (!filter.pattern.empty()) return json_quoted(filter.pattern);
  if (filter.names.empty()) return "null";
  std::vector<std::string> names;
  for (const std::string& name : filter.names) names.push_back(json_quoted(name));
  return format_items(names, "[]");
}

/// The patterns in their order; of one that is there twice, the first, which is the one that counts.
template <class Value, class Format>
std::string format_patterns(const std::vector<std::pair<std::string, Value>>& patterns,
                            const Format& format) {
  std::vector<std::string> items;
  std::set<std::string_view> seen;
  for (const auto& [pattern, value] : patterns) {
    if (seen.insert(pattern).second)
      items.push_back(fmt::format("{}: {}", json_quoted(pattern), format(value)));
  }
  return format_items(items, "{}");
}

}  // namespace

LoraConfig parse_adapter_config(const std::string& text, const std::string& source) {
  AdapterConfigBuilder builder(text, source);
  io::parse_json_events(text, source, builder, {.max_bytes = kMostAdapterConfigBytes});
  const io::JsonTree document = builder.take();
  const io::JsonObject object(document, source);
  const std::string type = object.string("peft_type");
  require<Unsupported>(type == "LORA", "{}: peft_type must be LORA; got {}", source, io::shown(type));
  refuse_unsupported(object);
  LoraConfig config;
  config.rank = object.positive("r", 8);
  config.alpha = object.number("lora_alpha", 8);
  config.dropout = object.number("lora_dropout", 0);
  config.use_rslora = object.boolean("use_rslora", false);
  config.targets = parse_filter(object, "target_modules");
  // peft's default for the architectures that Candela knows.
  if (config.targets.empty()) config.targets = {{"q_proj", "v_proj"}, ""};
  config.excluded = parse_filter(object, "exclude_modules");
  config.layers = object.integers_or_one("layers_to_transform");
  config.rank_pattern =
      parse_patterns<std::int64_t>(builder.ranks(), object, "rank_pattern",
                                   [](const io::JsonObject& o, const char* key) { return o.positive(key); });
  config.alpha_pattern =
      parse_patterns<double>(builder.alphas(), object, "alpha_pattern",
                             [](const io::JsonObject& o, const char* key) { return o.number(key); });
  try {
    check_lora_config(config);
  } catch (const Unsupported& error) {
    throw Unsupported(source + ": " + error.what());
  } catch (const Error& error) {
    throw IoError(source + ": " + error.what());
  }
  return config;
}

std::string parse_base_model(const std::string& text, const std::string& source) {
  const io::JsonTree document = io::parse_json(text, source, {.max_bytes = kMostAdapterConfigBytes});
  return io::JsonObject(document, source).string("base_model_name_or_path", "");
}

std::string format_adapter_config(const LoraConfig& config, const std::string& base_model) {
  std::vector<std::string> layers;
  for (const std::int64_t layer : config.layers) layers.push_back(fmt::format("{}", layer));
  const std::pair<const char*, std::string> fields[] = {
      {"peft_type", "\"LORA\""},
      {"task_type", "\"CAUSAL_LM\""},
      {"base_model_name_or_path", base_model.empty() ? "null" : json_quoted(base_model)},
      {"inference_mode", "true"},
      {"r", fmt::format("{}", config.rank)},
      {"lora_alpha", format_number(config.alpha)},
      {"lora_dropout", io::json_number(config.dropout)},
      {"use_rslora", config.use_rslora ? "true" : "false"},
      {"target_modules", format_filter(config.targets, "target_modules")},
      {"exclude_modules", format_filter(config.excluded, "exclude_modules")},
      {"layers_to_transform", layers.empty() ? "null" : format_items(layers, "[]")},
      {"layers_pattern", "null"},
      {"rank_pattern",
       format_patterns(config.rank_pattern, [](std::int64_t rank) { return fmt::format("{}", rank); })},
      {"alpha_pattern", format_patterns(config.alpha_pattern, format_number)},
      {"bias", "\"none\""},
      {"fan_in_fan_out", "false"},
      {"init_lora_weights", "true"},
      {"modules_to_save", "null"},
      {"use_dora", "false"},
  };
  std::vector<std::string> lines;
  for (const auto& [key, value] : fields) lines.push_back(fmt::format("\"{}\": {}", key, value));
  return fmt::format("{{\n  {}\n}}\n", fmt::join(lines, ",\n  "));
}

}  // namespace candela

#include "embed/folder.h"

#include <algorithm>
#include <fmt/ranges.h>
#include <system_error>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>
#include <candela/io/safetensors.h>
#include <candela/ops/copy.h>

#include "io/json.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using io::JsonObject;

constexpr std::size_t kMaxBytes = std::size_t{1} << 24U;

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// The name of the class: what stands behind the last dot.
std::string class_of(const std::string& type) {
  return type.substr(type.rfind('.') + 1);
}

/// A module's folder; it must not lead out of the model's.
fs::path module_folder(const fs::path& folder, const JsonObject& module) {
  const fs::path path = module.string("path", "");
  const bool inside = path.is_relative() && std::none_of(path.begin(), path.end(),
                                                         [](const fs::path& part) { return part == ".."; });
  if (!inside) module.fail("path", "a folder inside the model's");
  return path.empty() ? folder : folder / path;
}

void read_pooling(const fs::path& folder, EmbedderConfig& config) {
  const fs::path file = folder / "config.json";
  const auto document = io::load_json(file, {.max_bytes = kMaxBytes});
  const JsonObject json(document, file.string());
  struct Mode {
    const char* key;
    Pooling pooling;
  };
  for (const Mode& mode :
       {Mode{"pooling_mode_cls_token", Pooling::Cls}, Mode{"pooling_mode_mean_tokens", Pooling::Mean},
        Mode{"pooling_mode_max_tokens", Pooling::Max}, Mode{"pooling_mode_lasttoken", Pooling::LastToken}}) {
    if (json.boolean(mode.key, false)) config.pooling.push_back(mode.pooling);
  }
  if (json.has("pooling_mode") && config.pooling.empty()) {
    const std::string name = json.string("pooling_mode");
    for (const Pooling pooling : {Pooling::Cls, Pooling::Mean, Pooling::Max, Pooling::LastToken}) {
      if (name == to_string(pooling)) config.pooling = {pooling};
    }
  }
  for (const char* key : {"pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens"}) {
    require<Unsupported>(!json.boolean(key, false),
                         "{}: {} is not supported; cls, mean, max and last token are", json.source(), key);
  }
  require<IoError>(!config.pooling.empty(), "{}: one of the pooling modes must be true; got none",
                   json.source());
  config.include_prompt = json.boolean("include_prompt", true);
}

EmbedStep::Activation read_activation(const JsonObject& json) {
  const std::string name = class_of(json.string("activation_function", "torch.nn.modules.activation.Tanh"));
  if (name == "Identity") return EmbedStep::Activation::Identity;
  if (name == "Tanh") return EmbedStep::Activation::Tanh;
  if (name == "GELU") return EmbedStep::Activation::Gelu;
  if (name == "ReLU") return EmbedStep::Activation::Relu;
  throw Unsupported(fmt::format("{}: activation_function must be Identity, Tanh, GELU or ReLU; got {:.100}",
                                json.source(), name));
}

EmbedStep read_dense(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  const auto document = io::load_json(file, {.max_bytes = kMaxBytes});
  const JsonObject json(document, file.string());
  EmbedStep step;
  step.kind = EmbedStep::Kind::Dense;
  step.activation = read_activation(json);
  const std::int64_t inputs = json.positive("in_features");
  const std::int64_t outputs = json.positive("out_features");
  const fs::path weights = folder / "model.safetensors";
  const SafetensorsReader reader = SafetensorsReader::open(weights);
  const auto take = [&](const char* name, const Shape& shape) {
    require<IoError>(reader.contains(name), "{}: missing: {}", weights.string(), name);
    const Tensor stored = reader.tensor(name);
    require<IoError>(is_floating(stored.dtype()) && stored.shape() == shape,
                     "{}: {} must be {} in a floating dtype; got {}", weights.string(), name, shape, stored);
    return cast(stored, DType::F32);
  };
  step.weight = take("linear.weight", {outputs, inputs});
  if (json.boolean("bias", true)) step.bias = take("linear.bias", {outputs});
  return step;
}

Similarity similarity_of(const JsonObject& json) {
  const std::string name = json.string("similarity_fn_name", "cosine");
  for (const Similarity similarity :
       {Similarity::Cosine, Similarity::Dot, Similarity::Euclidean, Similarity::Manhattan}) {
    if (name == to_string(similarity) || (name == "dot_score" && similarity == Similarity::Dot))
      return similarity;
  }
  throw Unsupported(
      fmt::format("{}: similarity_fn_name must be cosine, dot, euclidean or manhattan; got {:.100}",
                  json.source(), name));
}

void read_prompts(const fs::path& folder, EmbedderConfig& config) {
  const fs::path file = folder / "config_sentence_transformers.json";
  if (!is_there(file)) return;
  const auto document = io::load_json(file, {.max_bytes = kMaxBytes});
  const JsonObject json(document, file.string());
  config.similarity = similarity_of(json);
  if (json.has("prompts")) {
    const JsonObject prompts = json.object("prompts");
    for (const auto& [name, text] : prompts.json().items()) {
      if (!text.is_null()) config.prompts[name] = prompts.string(name.c_str());
    }
  }
  config.default_prompt = json.string("default_prompt_name", "");
  require<IoError>(config.default_prompt.empty() || config.prompts.contains(config.default_prompt),
                   "{}: default_prompt_name must be one of prompts; got {:.100}", json.source(),
                   config.default_prompt);
}

void read_max_tokens(const fs::path& transformer, EmbedderConfig& config) {
  const fs::path file = transformer / "sentence_bert_config.json";
  if (!is_there(file)) return;
  const auto document = io::load_json(file, {.max_bytes = kMaxBytes});
  const JsonObject json(document, file.string());
  if (json.has("max_seq_length")) config.max_tokens = json.positive("max_seq_length");
  require<Unsupported>(!json.boolean("do_lower_case", false),
                       "{}: do_lower_case is not supported; the tokenizer's normalizer lowercases where a "
                       "model needs it",
                       json.source());
}

std::string json_text(const nlohmann::ordered_json& json) {
  return json.dump(2) + "\n";
}

}  // namespace

std::string_view to_string(Pooling pooling) {
  switch (pooling) {
    case Pooling::Cls:
      return "cls";
    case Pooling::Mean:
      return "mean";
    case Pooling::Max:
      return "max";
    case Pooling::LastToken:
      return "lasttoken";
  }
  return "unknown";
}

std::string_view to_string(Similarity similarity) {
  switch (similarity) {
    case Similarity::Cosine:
      return "cosine";
    case Similarity::Dot:
      return "dot";
    case Similarity::Euclidean:
      return "euclidean";
    case Similarity::Manhattan:
      return "manhattan";
  }
  return "unknown";
}

bool is_sentence_folder(const fs::path& folder) {
  return is_there(folder / "modules.json");
}

SentenceFolder read_sentence_folder(const fs::path& folder) {
  const fs::path file = folder / "modules.json";
  const auto document = io::load_json(file, {.max_bytes = kMaxBytes});
  const io::Json& modules = document;
  require<IoError>(modules.is_array() && !modules.empty(), "{}: must be a list of modules", file.string());
  SentenceFolder result;
  std::size_t number = 0;
  for (const io::Json& entry : modules) {
    const JsonObject module(entry, file.string(), fmt::format("[{}]", number));
    const std::string name = class_of(module.string("type"));
    const fs::path at = module_folder(folder, module);
    const bool first = number++ == 0;
    require<Unsupported>(first == (name == "Transformer"),
                         "{}: the first module and no other must be Transformer; got {:.100} at {}",
                         file.string(), name, number - 1);
    if (first) {
      result.transformer = at;
    } else if (name == "Pooling") {
      require<Unsupported>(result.config.pooling.empty() && result.config.steps.empty(),
                           "{}: Pooling must be the second module; got it at {}", file.string(), number - 1);
      read_pooling(at, result.config);
    } else if (name == "Normalize") {
      result.config.steps.emplace_back();
    } else if (name == "Dense") {
      result.config.steps.push_back(read_dense(at));
    } else {
      throw Unsupported(fmt::format(
          "{}: modules must be Transformer, Pooling, Normalize or Dense; got {:.100}", file.string(), name));
    }
  }
  require<IoError>(!result.config.pooling.empty(), "{}: a Pooling must follow the Transformer",
                   file.string());
  read_prompts(folder, result.config);
  read_max_tokens(result.transformer, result.config);
  return result;
}

std::int64_t check_widths(const EmbedderConfig& config, std::int64_t hidden_size, const std::string& folder) {
  std::int64_t width = hidden_size * static_cast<std::int64_t>(config.pooling.size());
  for (const EmbedStep& step : config.steps) {
    if (step.kind != EmbedStep::Kind::Dense) continue;
    require<IoError>(step.weight.size(1) == width,
                     "{}: in_features of Dense must be {}, the width it is given; got {}", folder, width,
                     step.weight.size(1));
    width = step.weight.size(0);
  }
  return width;
}

void write_sentence_files(const fs::path& folder, const EmbedderConfig& config, std::int64_t hidden_size) {
  using Json = nlohmann::ordered_json;
  Json modules = Json::array();
  const auto add = [&](const std::string& name, const std::string& path) {
    modules.push_back({{"idx", modules.size()},
                       {"name", std::to_string(modules.size())},
                       {"path", path},
                       {"type", "sentence_transformers.models." + name}});
  };
  const auto make = [&](const std::string& name) {
    const std::string path = fmt::format("{}_{}", modules.size(), name);
    fs::create_directories(folder / path);
    add(name, path);
    return folder / path;
  };
  add("Transformer", "");
  const auto pools = [&](Pooling mode) {
    return std::find(config.pooling.begin(), config.pooling.end(), mode) != config.pooling.end();
  };
  write_file_atomically(make("Pooling") / "config.json",
                        json_text({{"word_embedding_dimension", hidden_size},
                                   {"pooling_mode_cls_token", pools(Pooling::Cls)},
                                   {"pooling_mode_mean_tokens", pools(Pooling::Mean)},
                                   {"pooling_mode_max_tokens", pools(Pooling::Max)},
                                   {"pooling_mode_mean_sqrt_len_tokens", false},
                                   {"pooling_mode_weightedmean_tokens", false},
                                   {"pooling_mode_lasttoken", pools(Pooling::LastToken)},
                                   {"include_prompt", config.include_prompt}}));
  constexpr const char* kActivations[] = {
      "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh",
      "torch.nn.modules.activation.GELU", "torch.nn.modules.activation.ReLU"};
  for (const EmbedStep& step : config.steps) {
    if (step.kind == EmbedStep::Kind::Normalize) {
      make("Normalize");
      continue;
    }
    const fs::path at = make("Dense");
    std::vector<std::pair<std::string, Tensor>> tensors = {{"linear.weight", step.weight}};
    if (step.bias.defined()) tensors.emplace_back("linear.bias", step.bias);
    write_safetensors(at / "model.safetensors", tensors);
    write_file_atomically(
        at / "config.json",
        json_text({{"in_features", step.weight.size(1)},
                   {"out_features", step.weight.size(0)},
                   {"bias", step.bias.defined()},
                   {"activation_function", kActivations[static_cast<std::size_t>(step.activation)]}}));
  }
  Json prompts = Json::object();
  for (const auto& [name, text] : config.prompts) prompts[name] = text;
  write_file_atomically(
      folder / "config_sentence_transformers.json",
      json_text({{"prompts", prompts},
                 {"default_prompt_name",
                  config.default_prompt.empty() ? Json(nullptr) : Json(config.default_prompt)},
                 {"similarity_fn_name", std::string(to_string(config.similarity))}}));
  write_file_atomically(folder / "sentence_bert_config.json",
                        json_text({{"max_seq_length", config.max_tokens}, {"do_lower_case", false}}));
  write_file_atomically(folder / "modules.json", json_text(modules));
}

}  // namespace candela

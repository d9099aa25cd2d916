#include <algorithm>
#include <limits>
#include <tuple>

#include <candela/io/config.h>

#include "io/architectures.h"
#include "io/json.h"
#include "io/missing.h"

namespace candela {
namespace {

using io::JsonObject;

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";

bool one_of(std::string_view value, std::initializer_list<std::string_view> known) {
  return std::find(known.begin(), known.end(), value) != known.end();
}

/// Of each file of a model's configuration: far above any that there is.
constexpr std::size_t kMostBytes = std::size_t{1} << 26U;

constexpr double kTheta = 10000;  // rope_theta where it is absent

/// Kernels compute with these in f32, to which other numbers are zero or infinity.
bool fits_f32(double value) {
  return value >= std::numeric_limits<float>::min() && value <= std::numeric_limits<float>::max();
}

double positive_number(const JsonObject& object, const char* key, double otherwise) {
  const double value = object.number(key, otherwise);
  if (!fits_f32(value)) object.fail(key, "a number above 0 that f32 can hold");
  return value;
}

/// YaRN's weights of log(factor) in the attention factor; 0: not given. Models have about 1.
double read_mscale(const JsonObject& object, const char* key) {
  constexpr double kMost = 1000;
  const double value = object.number(key, 0);
  if (!(value >= 0 && value <= kMost)) object.fail(key, fmt::format("a number in [0, {}]", kMost));
  return value;
}

void read_yarn(const JsonObject& object, RopeConfig& rope) {
  rope.beta_fast = positive_number(object, "beta_fast", rope.beta_fast);
  rope.beta_slow = positive_number(object, "beta_slow", rope.beta_slow);
  if (rope.beta_fast < rope.beta_slow)
    object.fail("beta_fast", fmt::format("at least beta_slow ({})", rope.beta_slow));
  rope.attention_factor = object.number("attention_factor", 0);
  if (rope.attention_factor != 0 && !fits_f32(rope.attention_factor))
    object.fail("attention_factor", "a number above 0 that f32 can hold");
  rope.mscale = read_mscale(object, "mscale");
  rope.mscale_all_dim = read_mscale(object, "mscale_all_dim");
  rope.truncate = object.boolean("truncate", true);
}

void read_llama3(const JsonObject& object, RopeConfig& rope) {
  rope.low_freq_factor = positive_number(object, "low_freq_factor", 0);
  rope.high_freq_factor = positive_number(object, "high_freq_factor", 0);
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    object.fail("high_freq_factor", fmt::format("above low_freq_factor ({})", rope.low_freq_factor));
  }
}

/// The type and its parameters from `rope_parameters` or `rope_scaling`.
void read_rope_type(const JsonObject& object, RopeConfig& rope) {
  rope.type = object.has("rope_type") ? object.string("rope_type") : object.string("type", "default");
  const char* key = object.has("rope_type") ? "rope_type" : "type";
  require<Unsupported>(one_of(rope.type, {"default", "linear", "dynamic", "llama3", "yarn"}),
                       "{}: {} must be default, linear, dynamic, llama3 or yarn; got {}", object.source(),
                       object.path_of(key), io::shown(rope.type));
  rope.original_max_positions =
      object.integer("original_max_position_embeddings", rope.original_max_positions);
  if (rope.original_max_positions < 0) object.fail("original_max_position_embeddings", "a positive integer");
  if (rope.type == "default") return;
  if (rope.type == "yarn" && !object.has("factor")) {
    // As transformers 5: the ratio of the length now to the length in training.
    const std::int64_t trained =
        rope.original_max_positions > 0 ? rope.original_max_positions : rope.max_positions;
    rope.factor = static_cast<double>(rope.max_positions) / static_cast<double>(trained);
  } else {
    rope.factor = object.number("factor");
    if (!(rope.factor >= 1 && fits_f32(rope.factor)))
      object.fail("factor", "a number of at least 1 that f32 can hold");
  }
  if (rope.type == "yarn") read_yarn(object, rope);
  if (rope.type == "llama3") {
    read_llama3(object, rope);
    if (rope.original_max_positions == 0)
      object.fail("original_max_position_embeddings", "a positive integer");
  }
}

bool same_rope(const RopeConfig& a, const RopeConfig& b) {
  const auto fields = [](const RopeConfig& rope) {
    return std::tie(rope.type, rope.theta, rope.rotary_dim, rope.max_positions, rope.factor,
                    rope.original_max_positions, rope.low_freq_factor, rope.high_freq_factor, rope.beta_fast,
                    rope.beta_slow, rope.attention_factor, rope.mscale, rope.mscale_all_dim, rope.truncate);
  };
  return fields(a) == fields(b);
}

/// transformers 4 reads `rope_scaling` and 5 either key: a file with both is one model only where they agree.
/// `before` is what both start from.
void check_rope_scaling(const JsonObject& top, const RopeConfig& before, const RopeConfig& rope) {
  if (!top.has("rope_scaling")) return;
  const JsonObject scaling = top.object("rope_scaling");
  RopeConfig other = before;
  other.theta = positive_number(scaling, "rope_theta", rope.theta);
  read_rope_type(scaling, other);
  require<IoError>(same_rope(rope, other),
                   "{}: rope_parameters and rope_scaling must agree where both are given; got {} and {}",
                   top.source(), io::shown(*top.find("rope_parameters")), io::shown(scaling.json()));
}

RopeConfig read_rope(const JsonObject& top, const ModelConfig& config) {
  RopeConfig rope;
  rope.max_positions = config.max_position_embeddings;
  rope.theta = positive_number(top, "rope_theta", kTheta);
  std::string theta_field = "rope_theta";
  rope.original_max_positions = top.integer("original_max_position_embeddings", 0);
  double share = top.number("partial_rotary_factor", 1);
  if (top.has("rope_parameters")) {
    const JsonObject parameters = top.object("rope_parameters");
    // Models with several kinds of layers nest one set of parameters per kind.
    require<Unsupported>(!parameters.has(kFull) && !parameters.has(kSliding),
                         "{}: rope_parameters per layer type are not supported", top.source());
    rope.theta = positive_number(parameters, "rope_theta", rope.theta);
    if (parameters.has("rope_theta")) theta_field = parameters.path_of("rope_theta");
    share = parameters.number("partial_rotary_factor", share);
    const RopeConfig before = rope;
    read_rope_type(parameters, rope);
    check_rope_scaling(top, before, rope);
  } else if (top.has("rope_scaling")) {
    read_rope_type(top.object("rope_scaling"), rope);
  }
  // Its ramp is measured in powers of theta: there is none of 1.
  require<IoError>(rope.type != "yarn" || rope.theta > 1, "{}: {} must be above 1 for yarn; got {}",
                   top.source(), theta_field, rope.theta);
  if (!(share > 0 && share <= 1)) top.fail("partial_rotary_factor", "a number above 0 and at most 1");
  rope.rotary_dim = static_cast<std::int64_t>(static_cast<double>(config.head_dim) * share);
  require<IoError>(rope.rotary_dim >= 2 && rope.rotary_dim % 2 == 0,
                   "{}: head_dim times partial_rotary_factor must be an even number; got {}", top.source(),
                   rope.rotary_dim);
  return rope;
}

void read_windows(const JsonObject& top, const Architecture& defaults, ModelConfig& config) {
  const auto layers = static_cast<std::size_t>(config.num_layers);
  const bool always = defaults.windows == Windows::Always;
  const bool opt_in = defaults.windows == Windows::OptIn;
  // null means "no window"; an absent field takes the default.
  const bool written = top.json().contains("sliding_window");
  const std::int64_t window = top.has("sliding_window") ? top.positive("sliding_window")
                              : written                 ? 0
                                                        : defaults.sliding_window;
  config.use_sliding_window = window > 0 && (always || (opt_in && top.boolean("use_sliding_window", false)));
  config.sliding_window = config.use_sliding_window ? window : 0;
  if (opt_in) {
    config.max_window_layers = top.integer("max_window_layers", defaults.max_window_layers);
    if (config.max_window_layers < 0) top.fail("max_window_layers", "an integer of at least 0");
  }
  if (top.has("layer_types") && (always || opt_in)) {
    config.layer_types = top.strings("layer_types");
    if (config.layer_types.size() != layers) {
      top.fail("layer_types", fmt::format("one entry per layer (num_hidden_layers is {})", layers));
    }
    for (const std::string& type : config.layer_types) {
      require<Unsupported>(type == kFull || type == kSliding, "{}: layer_types must hold {} or {}; got {}",
                           top.source(), kFull, kSliding, io::shown(type));
      require<IoError>(type == kFull || config.use_sliding_window,
                       "{}: layer_types asks for {}, but no sliding_window is in use", top.source(),
                       kSliding);
    }
    return;
  }
  for (std::size_t i = 0; i < layers; ++i) {
    const bool sliding =
        config.use_sliding_window && static_cast<std::int64_t>(i) >= config.max_window_layers;
    config.layer_types.emplace_back(sliding ? kSliding : kFull);
  }
}

void read_sizes(const JsonObject& top, const Architecture& defaults, ModelConfig& config) {
  config.vocab_size = top.positive("vocab_size");
  config.hidden_size = top.positive("hidden_size");
  config.intermediate_size = top.positive("intermediate_size");
  config.num_layers = top.positive("num_hidden_layers");
  if (config.num_layers > 10000) top.fail("num_hidden_layers", "at most 10000");
  config.num_heads = top.positive("num_attention_heads");
  config.num_kv_heads = top.positive("num_key_value_heads", config.num_heads);
  if (config.num_heads % config.num_kv_heads != 0) {
    top.fail("num_key_value_heads", fmt::format("a divisor of num_attention_heads ({})", config.num_heads));
  }
  if (top.has("head_dim")) {
    config.head_dim = top.positive("head_dim");
  } else if (defaults.head_dim > 0) {
    config.head_dim = defaults.head_dim;
  } else {
    if (config.hidden_size % config.num_heads != 0) {
      top.fail("num_attention_heads",
               fmt::format("a divisor of hidden_size ({}) where head_dim is absent", config.hidden_size));
    }
    config.head_dim = config.hidden_size / config.num_heads;
  }
  config.max_position_embeddings = top.positive("max_position_embeddings", defaults.max_positions);
}

DType read_dtype(const JsonObject& top) {
  const char* key = top.has("dtype") ? "dtype" : "torch_dtype";
  const std::string name = top.string(key, "float32");
  if (name == "float32") return DType::F32;
  if (name == "bfloat16") return DType::BF16;
  if (name == "float16") return DType::F16;
  throw Unsupported(
      fmt::format("{}: {} must be float32, bfloat16 or float16; got {}", top.source(), key, io::shown(name)));
}

/// The ids under `key`, each a token of the vocabulary.
std::vector<std::int64_t> token_ids(const JsonObject& top, const char* key, std::int64_t vocab_size) {
  std::vector<std::int64_t> ids = top.integers_or_one(key);
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= vocab_size) {
      top.fail(key,
               fmt::format("made of token ids, in [0, {}) as config.json's vocab_size says", vocab_size));
    }
  }
  return ids;
}

std::optional<std::int64_t> token_id(const JsonObject& top, const char* key, std::int64_t vocab_size) {
  const std::vector<std::int64_t> ids = token_ids(top, key, vocab_size);
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

/// BOS, padding and EOS; a field that is absent leaves what was there.
void read_special_ids(const JsonObject& top, ModelConfig& config) {
  if (top.has("bos_token_id")) config.bos_token_id = token_id(top, "bos_token_id", config.vocab_size);
  // -1 is how some say that there is none.
  if (const io::Json* pad = top.find("pad_token_id"); pad != nullptr && *pad != -1) {
    config.pad_token_id = token_id(top, "pad_token_id", config.vocab_size);
  }
  if (top.has("eos_token_id")) config.eos_token_ids = token_ids(top, "eos_token_id", config.vocab_size);
}

ModelConfig read_config(const JsonObject& top) {
  ModelConfig config;
  config.source = top.source();
  config.model_type = top.string("model_type");
  const Architecture* const architecture = find_architecture(config.model_type);
  require<Unsupported>(architecture != nullptr, "{}: model_type must be one of {}; got {}", top.source(),
                       architecture_names(), io::shown(config.model_type));
  for (const char* key : {"quantization_config", "quantization"}) {
    require<Unsupported>(!top.has(key),
                         "{}: {} is not supported; use the checkpoint in bfloat16, float16 or float32",
                         top.source(), key);
  }
  read_sizes(top, *architecture, config);
  config.rms_norm_eps = positive_number(top, "rms_norm_eps", 1e-6);
  config.initializer_range = positive_number(top, "initializer_range", 0.02);
  config.hidden_act = top.string("hidden_act", "silu");
  require<Unsupported>(config.hidden_act == "silu", "{}: hidden_act must be silu; got {}", top.source(),
                       io::shown(config.hidden_act));
  config.tie_word_embeddings = top.boolean("tie_word_embeddings", false);
  config.attention_bias = top.boolean("attention_bias", false);
  config.mlp_bias = config.model_type == "llama" && top.boolean("mlp_bias", false);
  config.rope = read_rope(top, config);
  read_windows(top, *architecture, config);
  config.dtype = read_dtype(top);
  read_special_ids(top, config);
  return config;
}

std::optional<double> number_of(const JsonObject& top, const char* key) {
  return top.has(key) ? std::optional(top.number(key)) : std::nullopt;
}

/// Most commands sample nothing: whether the values can be used is left to those that do.
void read_generation(const JsonObject& top, ModelConfig& config) {
  config.generation_source = top.source();
  read_special_ids(top, config);
  config.temperature = number_of(top, "temperature");
  config.top_p = number_of(top, "top_p");
  config.min_p = number_of(top, "min_p");
  config.repetition_penalty = number_of(top, "repetition_penalty");
  if (top.has("top_k")) config.top_k = top.integer("top_k");
  if (top.has("do_sample")) config.do_sample = top.boolean("do_sample");
}

/// A token in tokenizer_config.json: its text, or an object with the text as `content`.
std::optional<std::string> token_text(const JsonObject& top, const char* key) {
  const io::Json* value = top.find(key);
  if (!value) return std::nullopt;
  return value->is_object() ? top.object(key).string("content") : top.string(key);
}

void read_tokenizer_config(const JsonObject& top, ModelConfig& config) {
  config.bos_token = token_text(top, "bos_token");
  config.eos_token = token_text(top, "eos_token");
  config.pad_token = token_text(top, "pad_token");
  if (top.has("add_bos_token")) config.add_bos_token = top.boolean("add_bos_token");
}

}  // namespace

std::string architecture_names() {
  std::string names;
  for (const Architecture& architecture : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += architecture.name;
  }
  return names;
}

const Architecture* find_architecture(std::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

ModelConfig ModelConfig::parse(std::string_view json, const std::string& source) {
  const io::JsonTree document = io::parse_json(json, source);
  return read_config(JsonObject(document, source));
}

ModelConfig ModelConfig::load(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  ModelConfig config = parse(io::read_file(file, kMostBytes), file.string());
  const auto read = [&](const char* name, void (*apply)(const JsonObject&, ModelConfig&)) {
    const std::filesystem::path path = folder / name;
    std::string why;
    const bool there = io::is_there(path, why);
    require<IoError>(why.empty(), "{}: {}", path.string(), why);
    if (!there) return;
    const io::JsonTree document = io::load_json(path, {.max_bytes = kMostBytes});
    apply(JsonObject(document, path.string()), config);
  };
  read("generation_config.json", read_generation);
  read("tokenizer_config.json", read_tokenizer_config);
  return config;
}

}  // namespace candela

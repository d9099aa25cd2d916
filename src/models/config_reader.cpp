#include "models/config_reader.h"

#include <algorithm>
#include <fmt/ranges.h>
#include <limits>
#include <tuple>

namespace candela {
namespace {

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";

bool one_of(std::string_view value, std::initializer_list<std::string_view> known) {
  return std::find(known.begin(), known.end(), value) != known.end();
}

/// Kernels compute with these in f32, to which other numbers are zero or infinity.
bool fits_f32(double value) {
  return value >= std::numeric_limits<float>::min() && value <= std::numeric_limits<float>::max();
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

/// The angles from `parameters` (an object of rope_parameters; null: there is none) and the fields at the
/// top.
RopeConfig read_angles(const JsonObject& top, const JsonObject* given, const ModelConfig& config,
                       double theta) {
  RopeConfig rope;
  rope.max_positions = config.max_position_embeddings;
  rope.theta = positive_number(top, "rope_theta", theta);
  std::string theta_field = "rope_theta";
  rope.original_max_positions = top.integer("original_max_position_embeddings", 0);
  double share = top.number("partial_rotary_factor", 1);
  if (given != nullptr) {
    const JsonObject& parameters = *given;
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

/// layer_types as the file has them, one per layer.
void read_layer_types(const JsonObject& top, ModelConfig& config) {
  const auto layers = static_cast<std::size_t>(config.num_layers);
  config.layer_types = top.strings("layer_types");
  if (config.layer_types.size() != layers) {
    top.fail("layer_types", fmt::format("one entry per layer (num_hidden_layers is {})", layers));
  }
  for (const std::string& type : config.layer_types) {
    require<Unsupported>(type == kFull || type == kSliding, "{}: layer_types must hold {} or {}; got {}",
                         top.source(), kFull, kSliding, io::shown(type));
    require<IoError>(type == kFull || config.use_sliding_window,
                     "{}: layer_types asks for {}, but no sliding_window is in use", top.source(), kSliding);
  }
}

}  // namespace

double positive_number(const JsonObject& object, const char* key, double otherwise) {
  const double value = object.number(key, otherwise);
  if (!fits_f32(value)) object.fail(key, "a number above 0 that f32 can hold");
  return value;
}

void read_sizes(const JsonObject& top, const SizeDefaults& defaults, ModelConfig& config) {
  config.vocab_size = top.positive("vocab_size");
  config.hidden_size = top.positive("hidden_size");
  config.intermediate_size = top.positive("intermediate_size");
  config.num_layers = top.positive("num_hidden_layers");
  if (config.num_layers > 10000) top.fail("num_hidden_layers", "at most 10000");
  config.num_heads = top.positive("num_attention_heads");
  config.num_kv_heads =
      top.positive("num_key_value_heads", defaults.kv_heads > 0 ? defaults.kv_heads : config.num_heads);
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

void read_activation(const JsonObject& top, const char* key, const char* otherwise,
                     std::initializer_list<std::string_view> known, ModelConfig& config) {
  config.hidden_act = top.string(key, otherwise);
  require<Unsupported>(one_of(config.hidden_act, known), "{}: {} must be {}; got {}", top.source(),
                       top.path_of(key), fmt::join(known, " or "), io::shown(config.hidden_act));
}

void read_decoder(const JsonObject& top, ModelConfig& config, bool tied) {
  config.norm_eps = positive_number(top, "rms_norm_eps", 1e-6);
  read_activation(top, "hidden_act", "silu", {"silu"}, config);
  config.tie_word_embeddings = top.boolean("tie_word_embeddings", tied);
  config.attention_bias = top.boolean("attention_bias", false);
}

void read_encoder(const JsonObject& top, const EncoderDefaults& defaults, ModelConfig& config) {
  read_sizes(top, {.max_positions = defaults.max_positions}, config);
  require<Unsupported>(top.string("position_embedding_type", "absolute") == "absolute",
                       "{}: position_embedding_type must be absolute; got {}", top.source(),
                       top.string("position_embedding_type", "absolute"));
  config.norm_eps = positive_number(top, "layer_norm_eps", 1e-12);
  read_activation(top, "hidden_act", "gelu", {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu"}, config);
  if (defaults.token_types > 0)
    config.type_vocab_size = top.positive("type_vocab_size", defaults.token_types);
  config.pad_token_id = defaults.pad;
  config.layer_types.assign(static_cast<std::size_t>(config.num_layers), kFull);
}

void read_rope(const JsonObject& top, ModelConfig& config, double theta) {
  if (!top.has("rope_parameters")) {
    config.rope = read_angles(top, nullptr, config, theta);
    return;
  }
  const JsonObject parameters = top.object("rope_parameters");
  require<Unsupported>(!parameters.has(kFull) && !parameters.has(kSliding),
                       "{}: rope_parameters per layer type are not supported for {}", top.source(),
                       config.model_type);
  config.rope = read_angles(top, &parameters, config, theta);
}

void read_ropes_by_kind(const JsonObject& top, double theta, const char* sliding_key, double sliding_theta,
                        ModelConfig& config) {
  const bool nested = top.has("rope_parameters");
  if (!nested) {
    config.rope = read_angles(top, nullptr, config, theta);
    RopeConfig sliding;
    sliding.rotary_dim = config.rope.rotary_dim;
    sliding.max_positions = config.rope.max_positions;
    sliding.theta = positive_number(top, sliding_key, sliding_theta);
    config.sliding_rope = sliding;
    return;
  }
  const JsonObject parameters = top.object("rope_parameters");
  const auto of_kind = [&](const char* kind, double otherwise) {
    if (!parameters.has(kind)) parameters.fail(kind, "an object with the rope of these layers");
    const JsonObject own = parameters.object(kind);
    return read_angles(top, &own, config, otherwise);
  };
  config.rope = of_kind(kFull, theta);
  config.sliding_rope = of_kind(kSliding, sliding_theta);
}

void read_windows(const JsonObject& top, Windows windows, std::int64_t window_otherwise,
                  std::int64_t full_layers, ModelConfig& config) {
  const bool always = windows == Windows::Always;
  const bool opt_in = windows == Windows::OptIn;
  // null means "no window"; an absent field takes the default.
  const bool written = top.json().contains("sliding_window");
  const std::int64_t window = top.has("sliding_window") ? top.positive("sliding_window")
                              : written                 ? 0
                                                        : window_otherwise;
  config.use_sliding_window = window > 0 && (always || (opt_in && top.boolean("use_sliding_window", false)));
  config.sliding_window = config.use_sliding_window ? window : 0;
  if (opt_in) {
    config.max_window_layers = top.integer("max_window_layers", full_layers);
    if (config.max_window_layers < 0) top.fail("max_window_layers", "an integer of at least 0");
  }
  if (top.has("layer_types") && (always || opt_in)) {
    read_layer_types(top, config);
    return;
  }
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    const bool sliding = config.use_sliding_window && i >= config.max_window_layers;
    config.layer_types.emplace_back(sliding ? kSliding : kFull);
  }
}

void read_layer_pattern(const JsonObject& top, std::int64_t pattern, ModelConfig& config) {
  if (top.has("layer_types")) {
    read_layer_types(top, config);
    return;
  }
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    const bool sliding = config.use_sliding_window && (i + 1) % pattern != 0;
    config.layer_types.emplace_back(sliding ? kSliding : kFull);
  }
}

}  // namespace candela

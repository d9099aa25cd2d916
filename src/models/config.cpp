#include <candela/io/hub_cache.h>
#include <candela/models/config.h>

#include "io/text_config.h"
#include "models/architecture.h"
#include "models/config_reader.h"

namespace candela {
namespace {

DType read_dtype(const JsonObject& top) {
  const char* key = top.has("dtype") ? "dtype" : "torch_dtype";
  const std::string name = top.string(key, "float32");
  if (name == "float32") return DType::F32;
  if (name == "bfloat16") return DType::BF16;
  if (name == "float16") return DType::F16;
  throw Unsupported(
      fmt::format("{}: {} must be float32, bfloat16 or float16; got {}", top.source(), key, io::shown(name)));
}

ModelConfig read_config(const JsonObject& top) {
  ModelConfig config;
  config.source = top.source();
  config.model_type = top.string("model_type");
  const Architecture* const architecture = find_architecture(config.model_type);
  require<Unsupported>(architecture != nullptr, "{}: model_type must be one of {}; got {:.40}", top.source(),
                       architecture_names(), io::shown(config.model_type));
  for (const char* key : {"quantization_config", "quantization"}) {
    require<Unsupported>(!top.has(key),
                         "{}: {} is not supported; use the checkpoint in bfloat16, float16 or float32",
                         top.source(), key);
  }
  config.initializer_range = positive_number(top, "initializer_range", 0.02);
  architecture->read(top, config);
  config.dtype = read_dtype(top);
  io::read_special_ids(top, config);
  return config;
}

}  // namespace

bool ModelConfig::slides(std::int64_t layer) const {
  return use_sliding_window && layer_types.at(static_cast<std::size_t>(layer)) == "sliding_attention";
}

ModelConfig ModelConfig::parse(std::string_view json, const std::string& source) {
  const auto document = io::parse_json(json, source);
  return read_config(JsonObject(document, source));
}

ModelConfig ModelConfig::load(const std::filesystem::path& name) {
  const std::filesystem::path folder = local_path(name);
  const std::filesystem::path file = folder / "config.json";
  ModelConfig config = parse(io::read_file(file, io::kMaxConfigBytes), file.string());
  config.read_beside(folder);
  return config;
}

}  // namespace candela

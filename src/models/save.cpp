#include <algorithm>
#include <array>
#include <system_error>
#include <vector>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>
#include <candela/io/safetensors.h>
#include <candela/models/save.h>

#include "io/folders.h"
#include "io/json.h"
#include "models/values.h"

namespace candela {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kWeights = "model.safetensors";

/// Weights in any format, and their indices: what a folder may hold once.
bool is_weights(const std::string& name) {
  constexpr std::array kEnds = {".safetensors", ".index.json", ".bin",     ".pt",   ".pth",
                                ".gguf",        ".h5",         ".msgpack", ".onnx", ".ckpt"};
  return std::any_of(kEnds.begin(), kEnds.end(), [&](const char* end) { return name.ends_with(end); });
}

/// Takes back what was written unless it is kept: files, and folders that were made for them.
class NewFolder {
 public:
  explicit NewFolder(const fs::path& folder) : folder_(folder), made_(io::missing_folders(folder)) {}
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder() {
    std::error_code error;
    if (kept_) return;
    for (const fs::path& file : files_) fs::remove(file, error);
    for (const fs::path& made : made_) fs::remove(made, error);  // fails where others have put something
  }

  /// The path of a file that is about to be written.
  fs::path file(const std::string& name) { return files_.emplace_back(folder_ / name); }
  void keep() { kept_ = true; }

 private:
  fs::path folder_;
  std::vector<fs::path> files_;
  std::vector<fs::path> made_;  // the innermost first
  bool kept_ = false;
};

fs::directory_iterator files_in(const fs::path& folder) {
  std::error_code error;
  fs::directory_iterator files(folder, error);
  require<IoError>(!error, "{}: cannot be listed: {}", folder.string(), error.message());
  return files;
}

fs::path resolved(const fs::path& path) {
  std::error_code error;
  fs::path result = fs::weakly_canonical(path, error);
  require<IoError>(!error, "{}: cannot be resolved: {}", path.string(), error.message());
  return result;
}

/// Files of the source that belong to the saved model unchanged.
std::vector<std::string> companions(const fs::path& source) {
  std::vector<std::string> names;
  for (const auto& entry : files_in(source)) {
    const std::string name = entry.path().filename().string();
    std::error_code error;  // of links that lead nowhere
    if (entry.is_regular_file(error) && !name.starts_with('.') && !is_weights(name) && name != kConfig)
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void check_folder(const fs::path& folder, const fs::path& source, const std::vector<std::string>& names) {
  require(resolved(folder) != resolved(source),
          "{}: is the model's own folder; choose another folder (--output)", folder.string());
  std::error_code error;
  if (!fs::exists(folder, error)) return;
  require(fs::is_directory(folder, error), "{}: is not a folder; choose another (--output)", folder.string());
  for (const auto& entry : files_in(folder)) {
    const std::string name = entry.path().filename().string();
    const bool taken =
        is_weights(name) || name == kConfig || std::find(names.begin(), names.end(), name) != names.end();
    require(!taken, "{}: exists already; choose another folder (--output)", entry.path().string());
  }
}

const char* dtype_name(DType dtype) {
  return dtype == DType::F32 ? "float32" : dtype == DType::BF16 ? "bfloat16" : "float16";
}

/// Values in `value` and all that it holds, itself included.
std::size_t count_values(const io::Json& value) {
  std::size_t count = 1;
  if (value.is_structured()) {
    for (const io::Json& item : value) count += count_values(item);
  }
  return count;
}

/// The source's config.json, byte for byte unless the weights have another dtype or are tied no more.
std::string config_text(const Model& model, const fs::path& source) {
  // The ordered object below is searched from the start for every key.
  constexpr std::size_t kMostValues = 10'000;
  const std::string file = (source / kConfig).string();
  std::string text = io::read_file(file);
  const io::Json checked = io::parse_json(text, file);  // bounded, and with named errors
  const io::JsonObject object(checked, file);
  const bool retyped = model.dtype() != model.config().dtype;
  const bool untied = model.config().tie_word_embeddings && !model.tied();
  if (!retyped && !untied) return text;
  const std::size_t values = count_values(checked);
  require<IoError>(values <= kMostValues,
                   "{}: must have at most {} values to be written with another {}; got {}", file, kMostValues,
                   retyped ? "dtype" : "tie_word_embeddings", values);
  auto config = nlohmann::ordered_json::parse(text);  // keeps the order of the keys
  if (retyped) config[object.has("dtype") ? "dtype" : "torch_dtype"] = dtype_name(model.dtype());
  if (untied) config["tie_word_embeddings"] = false;
  return config.dump(2) + "\n";
}

}  // namespace

void save_model(const Model& model, const fs::path& folder, const fs::path& source) {
  std::error_code error;
  require<IoError>(fs::is_directory(source, error),
                   "{}: no such folder; save_model needs the one the model came from", source.string());
  const std::vector<std::string> names = companions(source);
  check_folder(folder, source, names);
  const std::vector<NamedTensor> parameters = model.named_parameters();
  // A dtype as narrow as f16 can not hold every weight, nor every weight with an adapter merged in.
  const std::string bad = first_non_finite(parameters);
  require<Error>(bad.empty(),
                 "{}: not saved: {} is no finite number in {}; take a wider dtype if it was one before",
                 folder.string(), bad, to_string(model.dtype()));
  std::vector<std::pair<std::string, Tensor>> tensors;
  tensors.reserve(parameters.size());
  for (const NamedTensor& parameter : parameters)
    tensors.emplace_back(parameter.name, parameter.tensor.detach());
  NewFolder target(folder);
  write_file_atomically(target.file(kConfig), config_text(model, source));
  for (const std::string& name : names) copy_file_atomically(source / name, target.file(name));
  write_safetensors(target.file(kWeights), tensors);
  target.keep();
}

}  // namespace candela

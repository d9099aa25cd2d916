#include <algorithm>
#include <array>
#include <cstdint>
#include <sys/statvfs.h>
#include <system_error>
#include <vector>

#include <candela/core/atomic_file.h>
#include <candela/core/atomic_folder.h>
#include <candela/core/error.h>
#include <candela/io/hub_cache.h>
#include <candela/io/safetensors.h>
#include <candela/models/save.h>

#include "core/folders.h"
#include "io/json.h"
#include "io/json_text.h"
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

std::vector<fs::path> files_in(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  for (const std::string& name : names_in(folder, error)) files.push_back(folder / name);
  require<IoError>(!error, "{}: cannot be listed: {}", folder.string(), error.message());
  return files;
}

fs::path resolved(const fs::path& path) {
  std::error_code error;
  fs::path result = fs::weakly_canonical(path, error);
  require<IoError>(!error, "{}: cannot be resolved: {}", path.string(), error.message());
  return result;
}

/// Whether `target`, what the link `link` leads to, belongs to the model: a file of its folder, or one that
/// Hugging Face's cache keeps for it (models--ORG--NAME/blobs/HASH).
bool belongs(const fs::path& target, const fs::path& folder) {
  const fs::path blobs = target.parent_path();
  return blobs == folder ||
         (blobs.filename() == "blobs" && blobs.parent_path().filename().string().starts_with("models--"));
}

/// Files of the source that belong to the saved model unchanged. IoError for a link out of the model's
/// folder: whoever made the folder chose what it leads to, and a copy would be passed on with the model.
std::vector<std::string> companions(const fs::path& source) {
  std::vector<std::string> names;
  for (const fs::path& file : files_in(source)) {
    const std::string name = file.filename().string();
    std::error_code error;  // of links that lead nowhere
    if (!fs::is_regular_file(file, error) || name.starts_with('.') || is_weights(name) || name == kConfig)
      continue;
    require<IoError>(
        !fs::is_symlink(fs::symlink_status(file, error)) || belongs(resolved(file), resolved(source)),
        "{}: must not lead out of the model's folder to be copied with it; it leads to {}: put the "
        "file itself there, or remove the link",
        file.string(), resolved(file).string());
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
  for (const fs::path& file : files_in(folder)) {
    const std::string name = file.filename().string();
    const bool taken =
        is_weights(name) || name == kConfig || std::find(names.begin(), names.end(), name) != names.end();
    require(!taken, "{}: exists already; choose another folder (--output)", file.string());
    throw InvalidArgument(
        fmt::format("{}: must be empty or not exist; it holds {}: choose another folder (--output)",
                    folder.string(), name));
  }
}

/// IoError unless the file system of `folder` has room for the model; one that does not tell passes.
void check_room(const Model& model, const fs::path& folder, const fs::path& source,
                const std::vector<std::string>& names) {
  std::uint64_t needed = 0;
  for (const NamedTensor& parameter : model.named_parameters())
    needed += static_cast<std::uint64_t>(parameter.tensor.numel()) * size_of(parameter.tensor.dtype());
  std::error_code error;
  for (const std::string& name : names) {
    const std::uintmax_t bytes = fs::file_size(source / name, error);
    if (!error) needed += bytes;
  }
  fs::path at = fs::absolute(folder);
  while (!fs::exists(at, error) && at.has_relative_path()) at = at.parent_path();
  struct statvfs disk {};
  if (::statvfs(at.c_str(), &disk) != 0 || disk.f_blocks == 0) return;
  const std::uint64_t free = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  require<IoError>(
      needed <= free,
      "{}: needs {} bytes; {} are free there: free some space, or choose another folder (--output)",
      folder.string(), needed, free);
}

const char* dtype_name(DType dtype) {
  return dtype == DType::F32 ? "float32" : dtype == DType::BF16 ? "bfloat16" : "float16";
}

/// The source's config.json, byte for byte but for dtype and tie_word_embeddings where the weights' differ.
std::string config_text(const Model& model, const fs::path& source) {
  const std::string file = (source / kConfig).string();
  std::string text = io::read_file(file);
  const io::JsonTree checked = io::parse_json(text, file);  // bounded, and with named errors
  const io::JsonObject object(checked, file);
  const bool retyped = model.dtype() != model.config().dtype;
  const bool untied = model.has_head() && model.config().tie_word_embeddings && !model.tied();
  if (!retyped && !untied) return text;
  if (retyped)
    text = io::with_json_member(text, object.has("dtype") ? "dtype" : "torch_dtype",
                                io::json_quoted(dtype_name(model.dtype())));
  if (untied) text = io::with_json_member(text, "tie_word_embeddings", "false");
  return text;
}

}  // namespace

void check_save_model(const Model& model, const fs::path& folder, const fs::path& origin) {
  std::error_code error;
  const fs::path source = local_path(origin);
  require<IoError>(fs::is_directory(source, error),
                   "{}: no such folder; save_model needs the one the model came from", source.string());
  const std::vector<std::string> names = companions(source);
  check_folder(folder, source, names);
  check_room(model, folder, source, names);
}

void save_model(const Model& model, const fs::path& folder, const fs::path& origin,
                const std::function<void(const fs::path&)>& add) {
  const fs::path source = local_path(origin);
  check_save_model(model, folder, source);
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
  AtomicFolder target(folder);
  write_file_atomically(target.path() / kConfig, config_text(model, source));
  for (const std::string& file : companions(source))
    copy_file_atomically(source / file, target.path() / file);
  write_safetensors(target.path() / kWeights, tensors);
  if (add) add(target.path());
  target.commit();
}

}  // namespace candela

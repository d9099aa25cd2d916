#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>

#include <candela/models/config.h>

#include "fuzz/fuzz.h"

namespace candela::fuzz {

/// A model folder with a config.json, and one more file of the configuration that each input replaces.
class ModelFolder {
 public:
  explicit ModelFolder(const char* name) {
    std::string pattern = (std::filesystem::temp_directory_path() / "candela_fuzz_XXXXXX").string();
    check(mkdtemp(pattern.data()) != nullptr, "a temporary folder can be made");
    path_ = pattern;
    file_ = path_ / name;
    std::ofstream(path_ / "config.json") << R"({"model_type": "llama", "vocab_size": 64, "hidden_size": 16,
      "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2})";
  }
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;
  ~ModelFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }

  ModelConfig load(std::string_view text) const {
    std::ofstream(file_, std::ios::binary | std::ios::trunc) << text;
    return ModelConfig::load(path_);
  }

  /// A file of any name in the folder.
  void put(const char* name, std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary | std::ios::trunc) << text;
  }
  /// The parts of an input, which zero bytes separate, as files; the last one is all that is left.
  void put_parts(std::initializer_list<const char*> names, std::string_view input) const {
    std::size_t left = names.size();
    for (const char* const name : names) {
      const std::size_t end = --left == 0 ? input.size() : std::min(input.find('\0'), input.size());
      put(name, input.substr(0, end));
      input.remove_prefix(std::min(end + 1, input.size()));
    }
  }
  void drop_if_empty(const char* name) const {
    std::error_code error;
    if (std::filesystem::is_empty(path_ / name, error)) std::filesystem::remove(path_ / name, error);
  }
  void copy(const char* from, const char* to) const {
    std::error_code error;
    std::filesystem::copy_file(path_ / from, path_ / to, std::filesystem::copy_options::overwrite_existing,
                               error);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_, file_;
};

}  // namespace candela::fuzz

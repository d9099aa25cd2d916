#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <candela/io/safetensors.h>

#include "fuzz/fuzz.h"
#include "fuzz/mutate.h"

namespace {

/// A folder with two shards, a.safetensors (tensors w and x) and b.safetensors (y), and an index that each
/// input replaces.
class ShardFolder {
 public:
  ShardFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "candela_fuzz_XXXXXX").string();
    candela::fuzz::check(mkdtemp(pattern.data()) != nullptr, "a temporary folder can be made");
    path_ = pattern;
    const candela::Tensor value = candela::Tensor::from_values(std::vector<float>{1, 2}, {2});
    candela::write_safetensors(path_ / "a.safetensors", {{"w", value}, {"x", value}});
    candela::write_safetensors(path_ / "b.safetensors", {{"y", value}});
  }
  ShardFolder(const ShardFolder&) = delete;
  ShardFolder& operator=(const ShardFolder&) = delete;
  ~ShardFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }

  std::filesystem::path write_index(std::string_view text) const {
    const auto file = path_ / "model.safetensors.index.json";
    std::ofstream(file, std::ios::binary | std::ios::trunc) << text;
    return file;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const ShardFolder folder;
  const auto index = folder.write_index(fuzz::text_of(data, size));
  fuzz::expect_result_or_error([&] {
    const SafetensorsReader reader = SafetensorsReader::open(index);
    for (const std::string& name : reader.names()) {
      fuzz::check(reader.tensor(name).to_vector<float>()[1] == 2, "tensors of accepted shards can be read");
    }
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Json});
}

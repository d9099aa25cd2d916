#include "support/golden.h"

#include <cmath>
#include <limits>
#include <unistd.h>

#include <candela/ops/copy.h>

namespace candela::test {
namespace {

/// Removed with all it holds at the end of the process.
struct ScratchRoot {
  ScratchRoot()
      : path(std::filesystem::temp_directory_path() / ("candela_test_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path);
  }
  ScratchRoot(const ScratchRoot&) = delete;
  ScratchRoot& operator=(const ScratchRoot&) = delete;
  ~ScratchRoot() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path path;
};

const std::filesystem::path& scratch_root() {
  static const ScratchRoot root;
  return root.path;
}

}  // namespace

std::filesystem::path scratch_folder(const std::string& name) {
  const std::filesystem::path folder = scratch_root() / name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

std::filesystem::path golden_folder() {
  return CANDELA_GOLDEN_FOLDER;
}

std::vector<double> values_of(const Tensor& tensor) {
  return cast(tensor.detach(), DType::F64).to_vector<double>();
}

std::vector<double> golden_values(const SafetensorsReader& reader, const std::string& name) {
  return values_of(reader.tensor(name));
}

Tensor as_stored(const Tensor& tensor, const SafetensorsReader& reader, const std::string& name) {
  const std::int64_t stored = reader.entry(name).shape.at(1);
  const std::int64_t stride = (tensor.size(1) + stored - 1) / stored;
  std::vector<Tensor> kept;
  for (std::int64_t t = 0; t < tensor.size(1); t += stride) kept.push_back(slice(tensor, 1, t, t + 1));
  return concat(kept, 1);
}

double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  double difference = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!std::isfinite(actual[i])) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(actual[i] - expected[i]));
  }
  return largest > 0 ? difference / largest : difference;
}

}  // namespace candela::test

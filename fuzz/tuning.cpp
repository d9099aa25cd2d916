#include <candela/core/parallel.h>
#include <candela/ops/copy.h>
#include <candela/ops/matmul.h>
#include <candela/ops/tuning.h>

#include "fuzz/model_folder.h"

/// A tuning.tsv, and a product that is looked up in it.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const fuzz::ModelFolder folder("tuning.tsv");
  set_thread_count(1);
  folder.put("tuning.tsv", fuzz::text_of(data, size));
  fuzz::expect_result_or_error([&] {
    enable_tuning(folder.path() / "tuning.tsv");
    const Tensor a = Tensor::from_values<float>({1, 2, 3, 4}, {2, 2});
    fuzz::check(matmul(a, a).to_vector<float>() == std::vector<float>{7, 10, 15, 22}, "the product is right");
  });
  disable_tuning();
  return 0;
}

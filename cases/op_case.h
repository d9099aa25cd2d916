#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <candela/core/tensor.h>

/// The case lists: one list per op family, from which tests, gradient checks, benches and the support table
/// are all run.
namespace candela::cases {

/// What an input holds. Values are drawn in double precision from a seed made of the case's name, then
/// rounded to the dtype.
enum class Fill : std::uint8_t {
  /// mean 0, deviation `scale`
  Normal,
  /// [low, high)
  Uniform,
  /// normal times 1e10 (infinite in f16)
  Large,
  /// normal times 1e-10 (zero in f16)
  Tiny,
  /// normal, about one element in 16 NaN
  WithNan,
  /// normal, about one element in 16 +inf and one in 16 -inf
  WithInfinity,
  /// normal with -inf strewn in; the first and every third row (last dimension) all -inf
  MaskedRows,
  /// column j (last dimension), by j % 5: normal; -inf in its first 40 rows; all -inf; a NaN in row 100;
  /// +inf there
  MixedColumns,
  /// small whole numbers, so that values repeat
  Ties,
  /// whole numbers in [0, high)
  Index,
};

/// How an input lies in memory.
enum class Arrange : std::uint8_t {
  Contiguous,
  /// the last two dimensions swapped in memory (rank 1: as Strided)
  Transposed,
  /// rows of a wider tensor: an offset, and an odd row stride
  Sliced,
  /// every second element: the last stride is 2
  Strided,
  /// the first dimension has stride 0
  Broadcast,
};

/// One input of a case.
struct Input {
  Shape shape;
  Fill fill = Fill::Normal;
  Arrange arrange = Arrange::Contiguous;
  /// whether the op gives this input a gradient
  bool gradient = true;
  /// fixed; without it, the dtype the case runs in
  std::optional<DType> dtype = {};
  double low = 0, high = 1, scale = 1;
};

/// An op on tensors, as a user would call it. A call must work on any device; `inputs[0]` tells dtype and
/// device where the op needs them.
using Call = std::function<std::vector<Tensor>(std::span<const Tensor> inputs)>;

/// What an op does when an input requires a gradient.
enum class Gradient : std::uint8_t {
  /// has gradients for the inputs marked so
  Flows,
  /// throws Unsupported at the forward call
  Refused,
  /// gives a result without a gradient (comparisons)
  Cut,
};

/// The work of one call, from which GFLOP/s and GB/s follow.
struct Cost {
  double flops = 0;
  /// read and written, of the dtype the case runs in
  double elements = 0;
  /// read and written, of other dtypes
  double fixed_bytes = 0;
};

struct OpCase {
  /// the public op: "softmax"
  std::string op = {};
  /// within the op: "wide_row"
  std::string name = {};
  std::vector<Input> inputs = {};
  /// the op under test
  Call fused = {};
  /// the reference: plain ops; runs in f64
  Call composed = {};
  Gradient gradient = Gradient::Flows;
  /// the list of the kernel table that the op runs: "softmax"
  std::string kernel = {};
  /// and that its gradient runs; empty: plain ops
  std::string kernel_grad = {};
  /// a shape for measuring, too large for tests
  bool bench = false;
  /// benches only; backward is measured if it has a cost
  Cost forward = {}, backward = {};
  /// The op computes its gradients on the way forward: its backward bench times both passes together.
  bool gradient_in_forward = false;
  std::vector<DType> dtypes = {DType::F32, DType::BF16, DType::F16};
};

/// The lists, one function per family in the file of that name.
std::vector<OpCase> attention_cases();
std::vector<OpCase> copy_cases();
std::vector<OpCase> elementwise_cases();
std::vector<OpCase> gather_cases();
std::vector<OpCase> lora_cases();
std::vector<OpCase> loss_cases();
std::vector<OpCase> matmul_cases();
std::vector<OpCase> norm_cases();
std::vector<OpCase> optimizer_cases();
std::vector<OpCase> random_cases();
std::vector<OpCase> reduce_cases();
std::vector<OpCase> rope_cases();
std::vector<OpCase> softmax_cases();
std::vector<OpCase> topk_cases();

struct Family {
  std::string_view name;
  std::vector<OpCase> (*list)();
};

/// Every family, in the order of the benches and of docs/support.md.
std::span<const Family> families();
/// The cases of one family, made once. Throws InvalidArgument for an unknown name.
const std::vector<OpCase>& cases_of(std::string_view family);

/// The inputs of a case, twice: for the device, and the same (rounded) values in f64 on the CPU for the
/// reference.
struct BuiltInputs {
  std::vector<Tensor> device;
  std::vector<Tensor> reference;
};

/// `salt` gives other values of the same kind.
BuiltInputs build_inputs(const OpCase& op_case, DType dtype, Device device, std::uint64_t salt = 0);

/// Input `index` for a bench: as the device side of build_inputs, but repeating 65536 values, which is fast
/// for large shapes.
Tensor build_large(const OpCase& op_case, std::size_t index, DType dtype, Device device, std::uint64_t salt);

/// "softmax.wide_row".
std::string full_name(const OpCase& op_case);

}  // namespace candela::cases

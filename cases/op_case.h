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
  Normal,        ///< mean 0, deviation `scale`
  Uniform,       ///< [low, high)
  Large,         ///< normal times 1e10 (infinite in f16)
  Tiny,          ///< normal times 1e-10 (zero in f16)
  WithNan,       ///< normal, about one element in 16 NaN
  WithInfinity,  ///< normal, about one element in 16 +inf and one in 16 -inf
  MaskedRows,    ///< normal with -inf strewn in; the first and every third row (last dimension) all -inf
  MixedColumns,  ///< column j (last dimension), by j % 5: normal; -inf in its first 40 rows; all -inf; a NaN
                 ///< in row 100; +inf there
  Ties,          ///< small whole numbers, so that values repeat
  Index,         ///< whole numbers in [0, high)
};

/// How an input lies in memory.
enum class Arrange : std::uint8_t {
  Contiguous,
  Transposed,  ///< the last two dimensions swapped in memory (rank 1: as Strided)
  Sliced,      ///< rows of a wider tensor: an offset, and an odd row stride
  Strided,     ///< every second element: the last stride is 2
  Broadcast,   ///< the first dimension has stride 0
};

/// One input of a case.
struct Input {
  Shape shape;
  Fill fill = Fill::Normal;
  Arrange arrange = Arrange::Contiguous;
  bool gradient = true;             ///< whether the op gives this input a gradient
  std::optional<DType> dtype = {};  ///< fixed; without it, the dtype the case runs in
  double low = 0, high = 1, scale = 1;
};

/// An op on tensors, as a user would call it. A call must work on any device; `inputs[0]` tells dtype and
/// device where the op needs them.
using Call = std::function<std::vector<Tensor>(std::span<const Tensor> inputs)>;

/// What an op does when an input requires a gradient.
enum class Gradient : std::uint8_t {
  Flows,    ///< has gradients for the inputs marked so
  Refused,  ///< throws Unsupported at the forward call
  Cut,      ///< gives a result without a gradient (comparisons)
};

/// The work of one call, from which GFLOP/s and GB/s follow.
struct Cost {
  double flops = 0;
  double elements = 0;     ///< read and written, of the dtype the case runs in
  double fixed_bytes = 0;  ///< read and written, of other dtypes
};

struct OpCase {
  std::string op = {};    ///< the public op: "softmax"
  std::string name = {};  ///< within the op: "wide_row"
  std::vector<Input> inputs = {};
  Call fused = {};     ///< the op under test
  Call composed = {};  ///< the reference: plain ops; runs in f64
  Gradient gradient = Gradient::Flows;
  std::string kernel = {};           ///< the list of the kernel table that the op runs: "softmax"
  std::string kernel_grad = {};      ///< and that its gradient runs; empty: plain ops
  bool bench = false;                ///< a shape for measuring, too large for tests
  Cost forward = {}, backward = {};  ///< benches only; backward is measured if it has a cost
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

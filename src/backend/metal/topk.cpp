#include "backend/metal/launch.h"
#include "backend/metal/mps_matrix.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

std::string native_supports(const TopkArgs& args) {
  if (!is_shader_float(args.x.dtype)) return "takes f32, f16 and bf16";
  if (args.x.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

/// One threadgroup per row of contiguous tensors.
void launch_rows(Encoding& encoding, const std::string& function, const TensorArg& x, const TensorArg& values,
                 const TensorArg& indices) {
  const shader::TopkParams params{static_cast<std::uint32_t>(x.last()),
                                  static_cast<std::uint32_t>(values.last())};
  Launch(encoding, "topk", function + suffix(x.dtype))
      .tensor(x)
      .tensor(values)
      .tensor(indices)
      .params(params)
      .rows(static_cast<std::size_t>(x.rows()), params.length);
}

void native_topk(const TopkArgs& args, Engine* on, Workspace memory) {
  const RowMajor x(on, args.x, memory);
  RowMajorResult values(args.values, memory);
  RowMajorResult indices(args.indices, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
  engine.encode("topk", {0, bytes_of(args.x) * static_cast<double>(args.k)}, [&](Encoding& encoding) {
    launch_rows(encoding, "topk", x.arg(), values.arg(), indices.arg());
  });
  values.finish(engine);
  indices.finish(engine);
}

std::string mps_supports(const TopkArgs& args) {
  if (args.k > static_cast<std::int64_t>(objc::kMaxMpsTopk)) return "MPS finds at most 16";
  if (args.x.dtype != DType::F32 && args.x.dtype != DType::F16) return "MPS takes f32 and f16";
  if (!args.values.contiguous() || !args.indices.contiguous()) return "MPS writes row-major results here";
  return native_supports(args);  // which settles the rows
}

/// MPS finds; where it puts NaN and which of equal values it takes first is not documented, so a pass of our
/// own follows, which finds the rows again that are not in the order of topk.h.
void mps_topk(const TopkArgs& args, Engine* on, Workspace memory) {
  const RowMajor x(on, args.x, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
  const auto k = static_cast<std::size_t>(args.k);
  engine.encode("topk", {0, 2 * bytes_of(args.x)}, [&](Encoding& encoding) {
    auto& kernel = encoding.kernel<objc::MatrixFindTopk>(
        fmt::format("topk {}", k), [&] { return objc::MatrixFindTopk(encoding.device(), k); });
    kernel.encode(encoding.buffer(), rows_matrix(x.arg()), rows_matrix(args.indices, true),
                  rows_matrix(args.values));
    launch_rows(encoding, "topk_settle", x.arg(), args.values, args.indices);
  });
}

}  // namespace

void fill_topk(KernelTable& table, const Offer& offer) {
  if (offer.mps) add_measured<mps_topk>(table.topk, "mps", mps_supports);
  add_measured<native_topk>(table.topk, "native", native_supports);
}

}  // namespace candela::metal

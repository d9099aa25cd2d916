#include <cmath>

#include "backend/metal/launch.h"
#include "backend/metal/mps_matrix.h"
#include "backend/metal/operand.h"
#include "backend/metal/shaders/params.h"
#include "backend/metal/table.h"

namespace candela::metal {
namespace {

std::string native_supports(const TensorArg& x) {
  if (!is_shader_float(x.dtype)) return "takes f32, f16 and bf16";
  if (x.numel() > kMaxCount) return "takes at most 2^31 - 1 elements";
  return {};
}

shader::SoftmaxParams params_of(const TensorArg& x, int dim, bool log) {
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  for (int d = 0; d < dim; ++d) outer *= x.shape[d];
  for (int d = dim + 1; d < x.rank; ++d) inner *= x.shape[d];
  return {static_cast<std::uint32_t>(x.shape[dim]), static_cast<std::uint32_t>(inner),
          static_cast<std::uint32_t>(outer), log ? 1U : 0U};
}

void dispatch(Launch& launch, const shader::SoftmaxParams& params) {
  launch.params(params);
  if (params.inner == 1) {
    launch.rows(params.outer, params.length);
  } else {
    launch.over(params.inner, params.outer);
  }
}

void native_softmax(const SoftmaxArgs& args, Engine* on, Workspace memory) {
  const RowMajor x(on, args.x, memory);
  RowMajorResult out(args.out, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
  const shader::SoftmaxParams params = params_of(args.x, args.dim, args.log);
  const std::string name = params.inner == 1 ? "softmax_rows" : "softmax_columns";
  engine.encode(args.log ? "log_softmax" : "softmax", {0, 4 * bytes_of(args.x)}, [&](Encoding& encoding) {
    Launch launch(encoding, "softmax", name + suffix(args.x.dtype));
    dispatch(launch.tensor(x.arg()).tensor(out.arg()), params);
  });
  out.finish(engine);
}

void native_softmax_grad(const SoftmaxGradArgs& args, Engine* on, Workspace memory) {
  const RowMajor y(on, args.y, memory);
  const RowMajor dy(on, args.dy, memory);
  RowMajorResult dx(args.dx, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
  const shader::SoftmaxParams params = params_of(args.y, args.dim, args.log);
  const std::string name = params.inner == 1 ? "softmax_grad_rows" : "softmax_grad_columns";
  engine.encode(args.log ? "log_softmax_grad" : "softmax_grad", {0, 5 * bytes_of(args.y)},
                [&](Encoding& encoding) {
                  Launch launch(encoding, "softmax", name + suffix(args.y.dtype));
                  dispatch(launch.tensor(y.arg()).tensor(dy.arg()).tensor(dx.arg()), params);
                });
  dx.finish(engine);
}

std::string mps_supports(const TensorArg& x, int dim) {
  if (x.dtype != DType::F32 && x.dtype != DType::F16) return "MPS takes f32 and f16";
  if (dim != x.rank - 1) return "MPS works along the last dimension";
  return {};
}

void mps_softmax(const SoftmaxArgs& args, Engine* on, Workspace memory) {
  const RowMajor x(on, args.x, memory);
  RowMajorResult out(args.out, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
  engine.encode(args.log ? "log_softmax" : "softmax", {0, 2 * bytes_of(args.x)}, [&](Encoding& encoding) {
    auto& kernel = encoding.kernel<objc::MatrixSoftmax>(args.log ? "log_softmax" : "softmax", [&] {
      return objc::MatrixSoftmax(encoding.device(), args.log);
    });
    kernel.encode(encoding.buffer(), rows_matrix(x.arg()), rows_matrix(out.arg()));
  });
  out.finish(engine);
}

/// Apple's header states dX = dY - exp(Y * sum(dY)) for MPSMatrixLogSoftMaxGradient, where the gradient is
/// dY - exp(Y) * sum(dY): what it computes is not known.
std::string mps_grad_supports(const SoftmaxGradArgs& args) {
  if (args.log) return "MPS does not document the gradient of log softmax";
  return mps_supports(args.y, args.dim);
}

void mps_softmax_grad(const SoftmaxGradArgs& args, Engine* on, Workspace memory) {
  const RowMajor y(on, args.y, memory);
  const RowMajor dy(on, args.dy, memory);
  RowMajorResult dx(args.dx, memory);
  if (memory.measuring()) return;
  Engine& engine = *on;
  engine.encode("softmax_grad", {0, 3 * bytes_of(args.y)}, [&](Encoding& encoding) {
    auto& kernel = encoding.kernel<objc::MatrixSoftmaxGradient>(
        "softmax_grad", [&] { return objc::MatrixSoftmaxGradient(encoding.device()); });
    kernel.encode(encoding.buffer(), rows_matrix(dy.arg()), rows_matrix(y.arg()), rows_matrix(dx.arg()));
  });
  dx.finish(engine);
}

}  // namespace

bool mps_softmax_holds(Engine& engine) {
  constexpr std::size_t kRows = 3;
  constexpr std::size_t kColumns = 8;
  const objc::AutoreleasePool pool;
  const objc::Buffer x = engine.device().new_buffer(kRows * kColumns * sizeof(float));
  const objc::Buffer y = engine.device().new_buffer(kRows * kColumns * sizeof(float));
  if (!x || !y) return false;
  auto* const in = static_cast<float*>(x.contents());
  const auto* const out = static_cast<const float*>(y.contents());
  // A row with one NaN, one that is half minus infinity, one of minus infinities.
  for (std::size_t i = 0; i < kColumns; ++i) {
    in[i] = i == 3 ? std::nanf("") : 1.0F;
    in[kColumns + i] = i % 2 == 0 ? -HUGE_VALF : 0.0F;
    in[2 * kColumns + i] = -HUGE_VALF;
  }
  objc::MatrixShape shape;
  shape.rows = kRows;
  shape.columns = kColumns;
  shape.row_bytes = kColumns * sizeof(float);
  for (const bool log : {false, true}) {
    engine.encode("softmax", {}, [&](Encoding& encoding) {
      objc::MatrixSoftmax(encoding.device(), log)
          .encode(encoding.buffer(), objc::Matrix(x.get(), 0, shape), objc::Matrix(y.get(), 0, shape));
    });
    engine.synchronize();
    const float hidden = log ? -HUGE_VALF : 0.0F;
    const float seen = log ? std::log(0.25F) : 0.25F;
    for (std::size_t i = 0; i < kColumns; ++i) {
      const float expected = i % 2 == 0 ? hidden : seen;
      const float got = out[kColumns + i];
      if (!std::isnan(out[i]) || !std::isnan(out[2 * kColumns + i])) return false;
      if (got != expected && !(std::fabs(got - expected) <= 1e-5F)) return false;
    }
  }
  return true;
}

void fill_softmax(KernelTable& table, const Offer& offer) {
  if (offer.mps_softmax) {
    add_measured<mps_softmax>(table.softmax, "mps",
                              [](const SoftmaxArgs& args) { return mps_supports(args.x, args.dim); });
    add_measured<mps_softmax_grad>(table.softmax_grad, "mps", mps_grad_supports);
  }
  add_measured<native_softmax>(table.softmax, "native",
                               [](const SoftmaxArgs& args) { return native_supports(args.x); });
  add_measured<native_softmax_grad>(table.softmax_grad, "native",
                                    [](const SoftmaxGradArgs& args) { return native_supports(args.y); });
}

}  // namespace candela::metal

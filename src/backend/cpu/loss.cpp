#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/cpu/convert.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/loss.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {

/// The maximum and the sum of exponentials below it: log sum exp without rounding `top` and log(sum) into one
/// number.
void row_statistics(const void* x, DType dtype, std::int64_t count, float& top, float& sum) {
  dispatch_floating(dtype, "cross_entropy", [&]<class T>() HWY_ATTR {
    const auto* row = static_cast<const T*>(x);
    top = max_of_row(row, count);
    const Vec shift = splat(top);
    sum = static_cast<float>(sum_terms(count, [&](std::int64_t i, auto extent) HWY_ATTR {
      const Two v = take2(row + i, extent, -std::numeric_limits<float>::infinity());
      return Two{exp_nonpositive(hn::Sub(v.a, shift)), exp_nonpositive(hn::Sub(v.b, shift))};
    }));
  });
}

/// out[i] = exp(x[i] - top) factor. `out` may be x itself.
template <class T, class O>
void scaled_exp(const T* x, O* out, std::int64_t count, float top, float factor) {
  const std::int64_t step = lanes();
  const Vec shift = splat(top);
  const Vec scale = splat(factor);
  std::int64_t i = 0;
  for (; i + step <= count; i += step) {
    store(hn::Mul(scale, exp_nonpositive(hn::Sub(load(x + i), shift))), out + i);
  }
  if (i < count) {
    const std::int64_t rest = count - i;
    store_some(hn::Mul(scale, exp_nonpositive(hn::Sub(load_some(x + i, rest), shift))), out + i, rest);
  }
}

/// One row of (softmax(x) - onehot(target)) factor.
void softmax_gradient_row(const void* x, DType dtype, void* out, DType out_dtype, std::int64_t count,
                          std::int64_t target, float top, float sum, float factor) {
  dispatch_floating(dtype, "cross_entropy", [&]<class T>() {
    dispatch_floating(out_dtype, "cross_entropy", [&]<class O>() {
      const float at_target = std::exp(convert<float>(static_cast<const T*>(x)[target]) - top) / sum;
      scaled_exp(static_cast<const T*>(x), static_cast<O*>(out), count, top, factor / sum);
      static_cast<O*>(out)[target] = convert<O>((at_target - 1) * factor);
    });
  });
}

}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace {

HWY_EXPORT(row_statistics);
HWY_EXPORT(softmax_gradient_row);

constexpr std::int64_t kGrain = 1 << 14;

/// Target of row `n`, or -1 if the row is ignored.
std::int64_t target_of(const TensorArg& targets, std::int64_t n, std::int64_t classes,
                       std::int64_t ignore_index) {
  const std::int64_t target = targets.dtype == DType::I64
                                  ? targets.as<std::int64_t>()[n * targets.strides[0]]
                                  : targets.as<std::int32_t>()[n * targets.strides[0]];
  if (target == ignore_index) return -1;
  require(target >= 0 && target < classes,
          "cross_entropy: targets must be in [0, {}) or {} (ignored); got {} in row {}", classes,
          ignore_index, target, n);
  return target;
}

/// Element (n, 0) of a matrix.
void* row_of(const TensorArg& x, std::int64_t n) {
  return static_cast<std::byte*>(x.data) + n * x.strides[0] * static_cast<std::int64_t>(size_of(x.dtype));
}

float element(const void* row, DType dtype, std::int64_t i) {
  return dispatch_floating(dtype, "cross_entropy",
                           [&]<class T>() { return convert<float>(static_cast<const T*>(row)[i]); });
}

bool unit_rows(const TensorArg& x) {
  return x.strides[1] == 1 || x.shape[1] <= 1;
}

std::int64_t rows_grain(std::int64_t classes) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(classes, 1));
}

std::string cross_entropy_supports(const CrossEntropyArgs& args) {
  if (auto refusal = refuse_f64(args.logits); !refusal.empty()) return refusal;
  return {};
}

/// Rows of logits with unit stride: as they lie, or one at a time copied to f32.
class LogitRows {
 public:
  LogitRows(const TensorArg& logits, const WorkspaceSlots::Slot& slot)
      : logits_(logits), unit_(unit_rows(logits)), copy_(slot.array<float>(copied(logits))) {}
  /// A copied row for each thread.
  static WorkspaceSlots slots(const TensorArg& logits, Workspace& memory) {
    return {memory, concurrent_bodies(logits.shape[0], rows_grain(logits.shape[1])),
            static_cast<std::size_t>(copied(logits)) * sizeof(float)};
  }
  DType dtype() const { return unit_ ? logits_.dtype : DType::F32; }
  const void* row(std::int64_t n) const {
    if (unit_) return row_of(logits_, n);
    gemm_detail::pack_f32(as_matrix(logits_).at(n, 0), 1, logits_.shape[1], copy_);
    return copy_;
  }

 private:
  static std::int64_t copied(const TensorArg& logits) { return unit_rows(logits) ? 0 : logits.shape[1]; }

  TensorArg logits_;
  bool unit_;
  float* copy_;
};

void cross_entropy(const CrossEntropyArgs& args, Workspace memory) {
  const std::int64_t classes = args.logits.shape[1];
  WorkspaceSlots slots = LogitRows::slots(args.logits, memory);
  if (memory.measuring()) return;
  parallel_for(args.logits.shape[0], rows_grain(classes), [&](std::int64_t begin, std::int64_t end) {
    const WorkspaceSlots::Slot slot(slots);
    const LogitRows rows(args.logits, slot);
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int64_t target = target_of(args.targets, n, classes, args.ignore_index);
      const void* row = rows.row(n);
      float top = 0;
      float sum = 0;
      HWY_DYNAMIC_DISPATCH(row_statistics)(row, rows.dtype(), classes, top, sum);
      const float log_sum = std::log(sum);
      args.lse.as<float>()[n * args.lse.strides[0]] = top + log_sum;
      args.loss.as<float>()[n * args.loss.strides[0]] =
          target < 0 ? 0 : (top - element(row, rows.dtype(), target)) + log_sum;
    }
  });
}

std::string cross_entropy_grad_supports(const CrossEntropyGradArgs& args) {
  if (auto refusal = refuse_f64(args.logits); !refusal.empty()) return refusal;
  if (!unit_rows(args.dlogits)) return "needs dlogits with unit last stride";
  return {};
}

/// Beyond this, lse in f32 is too coarse to give softmax(x) = exp(x - lse) to 1e-5, and the row's statistics
/// are taken again.
constexpr float kCoarseLse = 32;

void cross_entropy_grad(const CrossEntropyGradArgs& args, Workspace memory) {
  const std::int64_t classes = args.logits.shape[1];
  WorkspaceSlots slots = LogitRows::slots(args.logits, memory);
  if (memory.measuring()) return;
  parallel_for(args.logits.shape[0], rows_grain(classes), [&](std::int64_t begin, std::int64_t end) {
    const WorkspaceSlots::Slot slot(slots);
    const LogitRows rows(args.logits, slot);
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int64_t target = target_of(args.targets, n, classes, args.ignore_index);
      void* out = row_of(args.dlogits, n);
      if (target < 0) {
        std::memset(out, 0, static_cast<std::size_t>(classes) * size_of(args.dlogits.dtype));
        continue;
      }
      const void* row = rows.row(n);
      float top = args.lse.as<float>()[n * args.lse.strides[0]];
      float sum = 1;
      if (!(std::fabs(top) <= kCoarseLse))
        HWY_DYNAMIC_DISPATCH(row_statistics)(row, rows.dtype(), classes, top, sum);
      HWY_DYNAMIC_DISPATCH(softmax_gradient_row)
      (row, rows.dtype(), out, args.dlogits.dtype, classes, target, top, sum,
       args.dloss.as<float>()[n * args.dloss.strides[0]]);
    }
  });
}

/// What one linear_cross_entropy call works with: chunks of those rows of x whose target counts.
struct ChunkedLoss {
  const LinearCrossEntropyArgs& args;
  std::vector<std::int64_t> rows, targets;  // of the rows that are not ignored
  std::int64_t classes, width, chunk;
  float* logits;
  std::byte *x, *dx, *low, *dlow, *dlogits16;
  std::vector<float> losses;

  /// Takes memory as if every row counted: which do is not known before the targets are there.
  ChunkedLoss(const LinearCrossEntropyArgs& given, Workspace& memory)
      : args(given),
        classes(given.weight.shape[0]),
        width(given.x.shape[1]),
        chunk(cross_entropy_chunk_rows(given.x.shape[0], classes)) {
    const auto element = static_cast<std::int64_t>(size_of(args.x.dtype));
    const bool grad = args.any_gradient();
    logits = memory.take<float>(chunk * classes);
    x = memory.take<std::byte>(chunk * width * element);
    dx = memory.take<std::byte>(args.dx.present() ? chunk * width * element : 0);
    low = memory.take<std::byte>(row_bytes(args.low));
    dlow = memory.take<std::byte>(row_bytes(args.dlow));
    dlogits16 = memory.take<std::byte>(grad && narrow_gradient() ? chunk * classes * element : 0);
  }

  /// Bytes of a chunk's rows of low or its gradient, packed; 0 without one.
  std::int64_t row_bytes(const TensorArg& of) const {
    if (!of.present()) return 0;
    return chunk * of.shape[1] * static_cast<std::int64_t>(size_of(of.dtype));
  }

  void read_targets() {
    for (std::int64_t n = 0; n < args.x.shape[0]; ++n) {
      const std::int64_t target = target_of(args.targets, n, classes, args.ignore_index);
      if (target < 0) continue;
      rows.push_back(n);
      targets.push_back(target);
    }
    chunk = cross_entropy_chunk_rows(static_cast<std::int64_t>(rows.size()), classes);
    losses.resize(rows.size());
  }

  /// bf16 weights: the gradient of the logits is rounded to bf16 so that the products with it run in bf16
  /// too. f16 would lose small probabilities.
  bool narrow_gradient() const { return args.weight.dtype == DType::BF16; }
  Matrix gradient() const {
    return narrow_gradient() ? Matrix{dlogits16, DType::BF16, classes, 1} : exact_gradient();
  }
  /// In f32, for the gradients of an adapter, which may be f32 where the weight is bf16.
  Matrix exact_gradient() const { return {logits, DType::F32, classes, 1}; }
  bool adapted() const { return args.dlow.present() || args.db.present(); }
};

/// Copies the chunk's rows together (`gather`), or back to where they came from.
void move_rows(const ChunkedLoss& work, std::int64_t first, std::int64_t count, const Matrix& packed,
               const TensorArg& strided, bool gather) {
  dispatch_floating(packed.dtype, "linear_cross_entropy", [&]<class T>() {
    for (std::int64_t i = 0; i < count; ++i) {
      T* row = strided.as<T>() + work.rows[static_cast<std::size_t>(first + i)] * strided.strides[0];
      T* flat = static_cast<T*>(packed.data) + i * packed.row_stride;
      for (std::int64_t j = 0; j < strided.shape[1]; ++j) {
        if (gather) {
          flat[j] = row[j * strided.strides[1]];
        } else {
          row[j * strided.strides[1]] = flat[j];
        }
      }
    }
  });
}

void chunk_losses(ChunkedLoss& work, std::int64_t first, std::int64_t count, bool grad) {
  const Matrix gradient = work.gradient();
  parallel_for(count, rows_grain(work.classes), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto at = static_cast<std::size_t>(first + i);
      float* row = work.logits + i * work.classes;
      float top = 0;
      float sum = 0;
      HWY_DYNAMIC_DISPATCH(row_statistics)(row, DType::F32, work.classes, top, sum);
      work.losses[at] = (top - row[work.targets[at]]) + std::log(sum);
      if (!grad) continue;
      const auto write_gradient = [&](const Matrix& to) {
        HWY_DYNAMIC_DISPATCH(softmax_gradient_row)
        (row, DType::F32, to.at(i, 0).data, to.dtype, work.classes, work.targets[at], top, sum, 1);
      };
      write_gradient(gradient);
      if (work.adapted() && work.narrow_gradient()) write_gradient(work.exact_gradient());  // over the logits
    }
  });
}

/// The products of one chunk of rows: logits = x weight^T + low b^T, dx = dlogits weight, dweight +=
/// dlogits^T x, dlow = dlogits b, db += dlogits^T low.
struct ChunkProducts {
  const ChunkedLoss& work;
  Matrix weight, x, dx, logits, low, dlow;

  explicit ChunkProducts(const ChunkedLoss& of)
      : work(of),
        weight(as_matrix(of.args.weight)),
        x{of.x, of.args.x.dtype, of.width, 1},
        dx{of.dx, of.args.x.dtype, of.width, 1},
        logits{of.logits, DType::F32, of.classes, 1},
        low{of.low, of.args.low.dtype, rank(), 1},
        dlow{of.dlow, of.args.dlow.dtype, rank(), 1} {}

  std::int64_t rank() const { return work.args.low.present() ? work.args.low.shape[1] : 0; }

  void forward(std::int64_t count, Workspace memory) const {
    gemm(count, work.classes, work.width, x, weight.transposed(), logits, memory);
    if (work.args.low.present()) {
      gemm(count, work.classes, rank(), low, as_matrix(work.args.b).transposed(), logits, memory, 1, 1);
    }
  }
  void input_gradient(std::int64_t count, Workspace memory) const {
    if (!work.args.dx.present()) return;
    gemm(count, work.width, work.classes, work.gradient(), weight, dx, memory);
  }
  void weight_gradient(std::int64_t count, bool add, Workspace memory) const {
    if (!work.args.dweight.present()) return;
    gemm(work.classes, work.width, count, work.gradient().transposed(), x, as_matrix(work.args.dweight),
         memory, 1, add ? 1 : 0);
  }
  void low_rank_gradients(std::int64_t count, bool add, Workspace memory) const {
    if (work.args.dlow.present())
      gemm(count, rank(), work.classes, work.exact_gradient(), as_matrix(work.args.b), dlow, memory);
    if (work.args.db.present()) {
      gemm(work.classes, rank(), count, work.exact_gradient().transposed(), low, as_matrix(work.args.db),
           memory, 1, add ? 1 : 0);
    }
  }
  /// For any number of rows that count: few rows, and a single one, go to other products than many.
  void measure(Workspace memory) const {
    for (const std::int64_t most : {work.chunk, gemm_detail::kNarrowRows, std::int64_t{1}}) {
      const std::int64_t count = std::min(most, work.chunk);
      forward(count, memory);
      input_gradient(count, memory);
      weight_gradient(count, true, memory);
      low_rank_gradients(count, true, memory);
    }
  }
};

/// Fills a gradient with zeros: rows that do not count have none.
void clear(const TensorArg& gradient) {
  if (!gradient.present()) return;
  dispatch_floating(gradient.dtype, "linear_cross_entropy",
                    [&]<class T>() { std::fill_n(gradient.as<T>(), gradient.numel(), T(0.0F)); });
}

void linear_cross_entropy(const LinearCrossEntropyArgs& args, Workspace memory) {
  ChunkedLoss work(args, memory);
  const ChunkProducts products(work);
  if (memory.measuring()) return products.measure(memory);
  work.read_targets();
  const bool grad = args.any_gradient();
  for (const TensorArg* gradient : {&args.dx, &args.dweight, &args.dlow, &args.db}) clear(*gradient);
  const auto total = static_cast<std::int64_t>(work.rows.size());
  for (std::int64_t first = 0; first < total; first += work.chunk) {
    const std::int64_t count = std::min(work.chunk, total - first);
    move_rows(work, first, count, products.x, args.x, true);
    if (args.low.present()) move_rows(work, first, count, products.low, args.low, true);
    products.forward(count, memory);
    chunk_losses(work, first, count, grad);
    products.input_gradient(count, memory);
    if (args.dx.present()) move_rows(work, first, count, products.dx, args.dx, false);
    products.weight_gradient(count, first > 0, memory);
    products.low_rank_gradients(count, first > 0, memory);
    if (args.dlow.present()) move_rows(work, first, count, products.dlow, args.dlow, false);
  }
  double sum = 0;
  for (const float loss : work.losses) sum += loss;
  *args.loss.as<float>() = static_cast<float>(sum);
}

std::string linear_cross_entropy_supports(const LinearCrossEntropyArgs& args) {
  if (auto refusal = refuse_f64(args.x); !refusal.empty()) return refusal;
  if (args.dx.present() && !args.dx.contiguous()) return "needs a contiguous dx";
  if (args.dweight.present() && !args.dweight.contiguous()) return "needs a contiguous dweight";
  if (args.low.dtype == DType::F64 || args.b.dtype == DType::F64) return "f64 is for references";
  return {};
}

}  // namespace

void fill_loss(KernelTable& table) {
  table.cross_entropy.add_measured<cross_entropy>("highway", cross_entropy_supports);
  table.cross_entropy_grad.add_measured<cross_entropy_grad>("highway", cross_entropy_grad_supports);
  table.linear_cross_entropy.add_measured<linear_cross_entropy>("chunked", linear_cross_entropy_supports);
}

}  // namespace candela
#endif

#include "backend/cpu/loss.h"

#include <algorithm>
#include <vector>

#include "backend/cpu/gemm.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

namespace candela {
namespace {

using loss_detail::chunk_losses;
using loss_detail::target_of;

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

void losses_of(ChunkedLoss& work, std::int64_t first, std::int64_t count, bool grad) {
  const Matrix gradient = work.gradient();
  chunk_losses({
      .logits = work.logits,
      .count = count,
      .classes = work.classes,
      .targets = work.targets.data() + first,
      .losses = work.losses.data() + first,
      .gradient = grad ? gradient : Matrix{},
      .replace = grad && work.adapted() && work.narrow_gradient(),
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
    losses_of(work, first, count, grad);
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
  fill_loss_simd(table);
  table.linear_cross_entropy.add_measured<linear_cross_entropy>("chunked", linear_cross_entropy_supports);
}

}  // namespace candela

#include "backend/cpu/norm.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "backend/cpu/blocks.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

namespace candela {
namespace {

using norm_detail::Mode;
using norm_detail::Moments;
using norm_detail::padded;

/// weight + offset.
std::vector<float> shifted(std::vector<float> weight, double offset) {
  if (offset != 0) {
    for (float& w : weight) w += static_cast<float>(offset);
  }
  return weight;
}

/// weight or bias [D] as floats, `absent` everywhere if there is none.
std::vector<float> row_vector(const TensorArg& x, std::int64_t length, float absent) {
  std::vector<float> result(static_cast<std::size_t>(length), absent);
  if (!x.present()) return result;
  dispatch_floating(x.dtype, "norm", [&]<class T>() {
    const float* values = read_floats(x.as<T>(), x.strides[0], length, result.data());
    if (values != result.data()) std::copy(values, values + length, result.data());
  });
  return result;
}

/// The same in the order in which rows of `dtype` are worked on.
std::vector<float> ordered_vector(const TensorArg& x, DType dtype, std::int64_t length, float absent) {
  std::vector<float> result(static_cast<std::size_t>(padded(length)));
  norm_detail::to_row_order(dtype, row_vector(x, length, absent).data(), result.data(), length);
  return result;
}

/// An absent operand takes the layout of `like`, so that it can stand in the list of rows.
TensorArg or_like(const TensorArg& x, const TensorArg& like) {
  return x.present() ? x : like;
}

std::string supports_rms(const RmsNormArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_rms_grad(const RmsNormGradArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_layer(const LayerNormArgs& args) {
  return refuse_f64(args.x);
}
std::string supports_layer_grad(const LayerNormGradArgs& args) {
  return refuse_f64(args.x);
}

void rms_norm(const RmsNormArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "rms_norm", [&]<class T>() {
    const bool added = args.residual.present();
    const Rows<4> rows({args.x, args.out, or_like(args.residual, args.x), or_like(args.sum, args.x)},
                       args.x.rank - 1);
    const std::int64_t grain = row_grain(rows.length);
    const std::int64_t kept = added ? padded(rows.length) : 0;
    WorkspaceSlots slots(memory, concurrent_bodies(rows.count, grain),
                         static_cast<std::size_t>(kept) * sizeof(float));
    if (memory.measuring()) return;
    const std::vector<float> weight =
        shifted(ordered_vector(args.weight, args.x.dtype, rows.length, 1), args.weight_offset);
    const bool unit = rows.strides[1] == 1 && (!added || rows.strides[3] == 1);
    const bool stream = unit && streams_rows(args.out, {args.x, or_like(args.residual, args.x)}) &&
                        (!added || streams_rows(args.sum, {args.x, args.residual}));
    const Mode mode{args.x.dtype, stream};
    parallel_for(rows.count, grain, [&](std::int64_t begin, std::int64_t end) {
      const StreamFence fence(mode.stream);
      const WorkspaceSlots::Slot slot(slots);
      auto* sums = slot.array<float>(kept);
      RowReader<T> x(rows, 0);
      RowReader<T> residual(rows, 2);
      RowWriter<T> out(rows, 1);
      RowWriter<T> sum(rows, 3);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[4];
        rows.offsets(row, at);
        const norm_detail::RmsRow operands{
            .x = x.read(args.x.as<T>() + at[0]),
            .residual = added ? residual.read(args.residual.as<T>() + at[2]) : nullptr,
            .sum = added ? sum.target(args.sum.as<T>() + at[3]) : nullptr,
            .out = out.target(args.out.as<T>() + at[1]),
        };
        const float rstd =
            norm_detail::rms_norm_row(mode, operands, weight.data(), sums, rows.length, args.eps);
        out.finish();
        if (added) sum.finish();
        if (args.rstd.present()) args.rstd.as<float>()[row] = rstd;
      }
    });
  });
}

void layer_norm(const LayerNormArgs& args, Stream&) {
  dispatch_floating(args.x.dtype, "layer_norm", [&]<class T>() {
    const Rows<2> rows({args.x, args.out}, args.x.rank - 1);
    const std::vector<float> weight = ordered_vector(args.weight, args.x.dtype, rows.length, 1);
    const std::vector<float> bias = ordered_vector(args.bias, args.x.dtype, rows.length, 0);
    const Mode mode{args.x.dtype, rows.strides[1] == 1 && streams_rows(args.out, {args.x})};
    parallel_for(rows.count, row_grain(rows.length), [&](std::int64_t begin, std::int64_t end) {
      const StreamFence fence(mode.stream);
      RowReader<T> x(rows, 0);
      RowWriter<T> out(rows, 1);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[2];
        rows.offsets(row, at);
        const T* from = x.read(args.x.as<T>() + at[0]);
        const Moments moments =
            norm_detail::layer_norm_row(mode, from, out.target(args.out.as<T>() + at[1]), weight.data(),
                                        bias.data(), rows.length, args.eps);
        out.finish();
        if (args.mean.present()) args.mean.as<float>()[row] = moments.mean;
        if (args.rstd.present()) args.rstd.as<float>()[row] = moments.rstd;
      }
    });
  });
}

/// Sums over rows, for the gradients of what all rows share. The rows are cut into a fixed number of chunks,
/// whatever the number of threads, and the sums of the chunks join in order.
class ColumnTotals {
 public:
  ColumnTotals(const TensorArg& out, DType dtype, std::int64_t chunks, std::int64_t width, Workspace& memory)
      : out_(out),
        dtype_(dtype),
        chunks_(chunks),
        length_(out.present() ? padded(width) : 0),
        width_(width),
        totals_(memory.take<double>(chunks * length_)),
        ordered_(memory.take<float>(length_)),
        result_(memory.take<float>(out.present() ? width : 0)) {}

  std::int64_t length() const { return length_; }
  double* chunk(std::int64_t index) const { return totals_ + index * length_; }

  void write() {
    if (length_ == 0) return;
    parallel_for(length_, row_grain(chunks_), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t from = 1; from < chunks_; ++from) {
        for (std::int64_t i = begin; i < end; ++i) chunk(0)[i] += chunk(from)[i];
      }
      for (std::int64_t i = begin; i < end; ++i) ordered_[i] = static_cast<float>(chunk(0)[i]);
    });
    norm_detail::from_row_order(dtype_, ordered_, result_, width_);
    write_floats(result_, out_.as<float>(), out_.strides[0], width_);
  }

 private:
  TensorArg out_;
  DType dtype_;
  std::int64_t chunks_, length_, width_;
  double* totals_;
  float *ordered_, *result_;
};

/// The sums of one chunk, for the thread that works on it: runs of kSumRows rows are summed in f32 and joined
/// in f64, so that the error stays small however many rows there are.
class ChunkTotals {
 public:
  /// Takes totals.length() floats of `memory` for the sums of a run.
  ChunkTotals(const ColumnTotals& totals, std::int64_t chunk, Workspace& memory)
      : length_(totals.length()), totals_(totals.chunk(chunk)), run_(memory.take<float>(length_)) {
    std::fill_n(totals_, length_, 0.0);
    std::fill_n(run_, length_, 0.0F);
  }
  ChunkTotals(const ChunkTotals&) = delete;
  ChunkTotals& operator=(const ChunkTotals&) = delete;
  ~ChunkTotals() { join(); }

  /// Where the next row is to be added; null if no sums are wanted.
  float* next_row() {
    if (length_ == 0) return nullptr;
    if (rows_ == kSumRows) join();
    ++rows_;
    return run_;
  }

 private:
  void join() {
    for (std::int64_t i = 0; i < length_; ++i) {
      totals_[i] += static_cast<double>(run_[i]);
      run_[i] = 0;
    }
    rows_ = 0;
  }

  std::int64_t length_, rows_ = 0;
  double* totals_;
  float* run_;
};

std::int64_t chunk_count(std::int64_t rows) {
  constexpr std::int64_t kChunks = 64;
  constexpr std::int64_t kFewestRows = 4;
  return std::clamp<std::int64_t>(rows / kFewestRows, 1, kChunks);
}

/// Chunks of rows that threads share, each thread with memory for the ChunkTotals of `totals`.
class RowChunks {
 public:
  RowChunks(std::int64_t rows, std::int64_t chunks, std::int64_t length,
            std::initializer_list<const ColumnTotals*> totals, Workspace memory)
      : rows_(rows),
        chunks_(chunks),
        grain_(row_grain(length * (rows / chunks + 1))),
        slots_(memory, concurrent_bodies(chunks, grain_), measured_workspace([&](Workspace one) {
                 for (const ColumnTotals* of : totals) one.take<float>(of->length());
               })) {}

  /// Calls body(chunk, begin, end, memory) for every chunk, in parallel.
  template <class Body>
  void for_each(Body&& body) {
    parallel_for(chunks_, grain_, [&](std::int64_t begin, std::int64_t end) {
      const WorkspaceSlots::Slot slot(slots_);
      for (std::int64_t chunk = begin; chunk < end; ++chunk)
        body(chunk, rows_ * chunk / chunks_, rows_ * (chunk + 1) / chunks_, slot.workspace());
    });
  }

 private:
  std::int64_t rows_, chunks_, grain_;
  WorkspaceSlots slots_;
};

constexpr std::int64_t kNarrow = 8;

/// norm_dx for a narrow row, in double: with one element, say, all that is left of g - h c is g eps rstd^2.
template <class T>
void narrow_rms_dx(const T* h, const float* weight, const T* dy, const T* dsum, T* dx, double eps,
                   std::int64_t count) {
  const auto value = [](T x) { return static_cast<double>(static_cast<float>(x)); };
  double squares = 0;
  double gh = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    squares += value(h[i]) * value(h[i]);
    gh += value(dy[i]) * static_cast<double>(weight[i]) * value(h[i]);
  }
  const auto width = static_cast<double>(count);
  const double inverse_square = 1 / (squares / width + eps);
  const double scale = std::sqrt(inverse_square);
  for (std::int64_t i = 0; i < count; ++i) {
    const double g = value(dy[i]) * static_cast<double>(weight[i]);
    const double slope = scale * (g - value(h[i]) * (gh / width * inverse_square));
    dx[i] = T(static_cast<float>(slope + (dsum == nullptr ? 0.0 : value(dsum[i]))));
  }
}

void rms_norm_grad(const RmsNormGradArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "rms_norm_grad", [&]<class T>() {
    const bool added = args.dsum.present();
    const Rows<4> rows({args.x, args.dy, args.dx, or_like(args.dsum, args.x)}, args.x.rank - 1);
    const std::int64_t chunks = chunk_count(rows.count);
    ColumnTotals dweight(args.dweight, args.x.dtype, chunks, rows.length, memory);
    RowChunks work(rows.count, chunks, rows.length, {&dweight}, memory);
    if (memory.measuring()) return;
    const std::vector<float> plain_weight =
        shifted(row_vector(args.weight, rows.length, 1), args.weight_offset);
    const std::vector<float> weight =
        shifted(ordered_vector(args.weight, args.x.dtype, rows.length, 1), args.weight_offset);
    const Mode mode{args.x.dtype, rows.strides[2] == 1 &&
                                      streams_rows(args.dx, {args.x, args.dy, or_like(args.dsum, args.x)})};
    work.for_each([&](std::int64_t chunk, std::int64_t begin, std::int64_t end, Workspace own) {
      const StreamFence fence(mode.stream);
      ChunkTotals weight_sums(dweight, chunk, own);
      RowReader<T> h(rows, 0);
      RowReader<T> dy(rows, 1);
      RowReader<T> dsum(rows, 3);
      RowWriter<T> dx(rows, 2);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[4];
        rows.offsets(row, at);
        const T* h_row = h.read(args.x.as<T>() + at[0]);
        const T* dy_row = dy.read(args.dy.as<T>() + at[1]);
        const T* dsum_row = added ? dsum.read(args.dsum.as<T>() + at[3]) : nullptr;
        T* dx_row = dx.target(args.dx.as<T>() + at[2]);
        const norm_detail::RmsGradRow operands{h_row, dy_row, dsum_row, dx_row, args.rstd.as<float>()[row]};
        norm_detail::rms_norm_grad_row(mode, operands, weight.data(), weight_sums.next_row(), rows.length);
        if (rows.length <= kNarrow) {
          narrow_rms_dx(h_row, plain_weight.data(), dy_row, dsum_row, dx_row, args.eps, rows.length);
        }
        dx.finish();
      }
    });
    dweight.write();
  });
}

void layer_norm_grad(const LayerNormGradArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "layer_norm_grad", [&]<class T>() {
    const Rows<3> rows({args.x, args.dy, args.dx}, args.x.rank - 1);
    const std::int64_t chunks = chunk_count(rows.count);
    ColumnTotals dweight(args.dweight, args.x.dtype, chunks, rows.length, memory);
    ColumnTotals dbias(args.dbias, args.x.dtype, chunks, rows.length, memory);
    RowChunks work(rows.count, chunks, rows.length, {&dweight, &dbias}, memory);
    if (memory.measuring()) return;
    const std::vector<float> weight = ordered_vector(args.weight, args.x.dtype, rows.length, 1);
    const Mode mode{args.x.dtype, rows.strides[2] == 1 && streams_rows(args.dx, {args.x, args.dy})};
    work.for_each([&](std::int64_t chunk, std::int64_t begin, std::int64_t end, Workspace own) {
      const StreamFence fence(mode.stream);
      ChunkTotals weight_sums(dweight, chunk, own);
      ChunkTotals bias_sums(dbias, chunk, own);
      RowReader<T> x(rows, 0);
      RowReader<T> dy(rows, 1);
      RowWriter<T> dx(rows, 2);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[3];
        rows.offsets(row, at);
        const norm_detail::LayerGradRow operands{
            .x = x.read(args.x.as<T>() + at[0]),
            .dy = dy.read(args.dy.as<T>() + at[1]),
            .dx = dx.target(args.dx.as<T>() + at[2]),
            .moments = {args.mean.as<float>()[row], args.rstd.as<float>()[row]},
        };
        norm_detail::layer_norm_grad_row(mode, operands, weight.data(), weight_sums.next_row(),
                                         bias_sums.next_row(), rows.length);
        dx.finish();
      }
    });
    dweight.write();
    dbias.write();
  });
}

}  // namespace

void fill_norm(KernelTable& table) {
  table.rms_norm.add_measured<rms_norm>("highway", supports_rms);
  table.rms_norm_grad.add_measured<rms_norm_grad>("highway", supports_rms_grad);
  table.layer_norm.add("highway", supports_layer, layer_norm);
  table.layer_norm_grad.add_measured<layer_norm_grad>("highway", supports_layer_grad);
}

}  // namespace candela

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/blocks.h"
#include "backend/cpu/row_spans.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

namespace candela {
namespace {

using Floats = std::vector<float>;

Floats floats(std::int64_t count) {
  return Floats(static_cast<std::size_t>(count));
}

/// weight or bias [D] as floats; `absent` everywhere if there is none.
Floats row_vector(const TensorArg& x, std::int64_t length, float absent) {
  Floats result(static_cast<std::size_t>(length), absent);
  if (!x.present()) return result;
  dispatch_floating(x.dtype, "norm", [&]<class T>() {
    const float* values = read_floats(x.as<T>(), x.strides[0], length, result.data());
    if (values != result.data()) std::copy(values, values + length, result.data());
  });
  return result;
}

/// One operand's view of a row: floats to read, or a place to write and bring home.
template <class T>
struct RowAccess {
  T* row = nullptr;
  std::int64_t stride = 1;
  std::int64_t length = 0;
  bool stream = false;

  const float* read(Floats& scratch) const { return read_floats(row, stride, length, scratch.data()); }
  float* target(Floats& scratch) const { return float_target(row, stride, scratch.data(), stream); }
  void write(const float* result) const { write_floats(result, row, stride, length, stream); }
};

template <class T, int N>
RowAccess<T> access(const TensorArg& x, const Rows<N>& rows, const std::int64_t (&at)[N], int n,
                    bool stream = false) {
  return {x.as<T>() + at[n], rows.strides[n], rows.length, stream};
}

/// An absent operand takes the layout of `like`, so that it can stand in the list of rows.
TensorArg or_like(const TensorArg& x, const TensorArg& like) {
  return x.present() ? x : like;
}

float inverse_root(float mean_square, double eps) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(mean_square) + eps));
}

std::string not_f64(const TensorArg& x) {
  return x.dtype == DType::F64 ? "f64 is for references" : "";
}
std::string supports_rms(const RmsNormArgs& args) {
  return not_f64(args.x);
}
std::string supports_rms_grad(const RmsNormGradArgs& args) {
  return not_f64(args.x);
}
std::string supports_layer(const LayerNormArgs& args) {
  return not_f64(args.x);
}
std::string supports_layer_grad(const LayerNormGradArgs& args) {
  return not_f64(args.x);
}

void rms_norm(const RmsNormArgs& args, Stream&) {
  dispatch_floating(args.x.dtype, "rms_norm", [&]<class T>() {
    const int dim = args.x.rank - 1;
    const Rows<4> rows({args.x, args.out, or_like(args.residual, args.x), or_like(args.sum, args.x)}, dim);
    const Floats weight = row_vector(args.weight, rows.length, 1);
    const bool stream = streams(args.out, args.x);
    parallel_for(rows.count, row_grain(rows.length), [&](std::int64_t begin, std::int64_t end) {
      const StreamFence fence(stream);
      Floats scratch = floats(rows.length);
      Floats other = floats(rows.length);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[4];
        rows.offsets(row, at);
        const float* h = access<T>(args.x, rows, at, 0).read(scratch);
        if (args.residual.present()) {
          const float* residual = access<T>(args.residual, rows, at, 2).read(other);
          const auto sum = access<T>(args.sum, rows, at, 3, stream);
          float* target = sum.target(scratch);
          spans::binary(BinaryOp::Add, h, residual, target, rows.length);
          sum.write(target);
          h = target;
        }
        const float squares = spans::reduce(ReduceOp::SumSquares, h, rows.length);
        const float rstd = inverse_root(squares / static_cast<float>(rows.length), args.eps);
        const auto out = access<T>(args.out, rows, at, 1, stream);
        float* target = out.target(other);
        spans::scale_rows(h, rstd, weight.data(), target, rows.length);
        out.write(target);
        if (args.rstd.present()) args.rstd.as<float>()[row] = rstd;
      }
    });
  });
}

void layer_norm(const LayerNormArgs& args, Stream&) {
  dispatch_floating(args.x.dtype, "layer_norm", [&]<class T>() {
    const Rows<2> rows({args.x, args.out}, args.x.rank - 1);
    const Floats weight = row_vector(args.weight, rows.length, 1);
    const Floats bias = row_vector(args.bias, rows.length, 0);
    const auto width = static_cast<float>(rows.length);
    const bool stream = streams(args.out, args.x);
    parallel_for(rows.count, row_grain(rows.length), [&](std::int64_t begin, std::int64_t end) {
      const StreamFence fence(stream);
      Floats scratch = floats(rows.length);
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[2];
        rows.offsets(row, at);
        const float* x = access<T>(args.x, rows, at, 0).read(scratch);
        const float mean = spans::reduce(ReduceOp::Sum, x, rows.length) / width;
        const float rstd = inverse_root(spans::centred_squares(x, mean, rows.length) / width, args.eps);
        const auto out = access<T>(args.out, rows, at, 1, stream);
        float* target = out.target(scratch);
        spans::normalize(x, mean, rstd, weight.data(), bias.data(), target, rows.length);
        out.write(target);
        if (args.mean.present()) args.mean.as<float>()[row] = mean;
        if (args.rstd.present()) args.rstd.as<float>()[row] = rstd;
      }
    });
  });
}

/// Sums over rows: each chunk of rows has a total of its own, and the totals join in order, so that the
/// result does not depend on which thread took what.
struct ColumnTotals {
  std::int64_t chunks;
  std::int64_t length;
  Floats values;

  ColumnTotals(bool wanted, std::int64_t chunk_count, std::int64_t row_length)
      : chunks(chunk_count),
        length(row_length),
        values(static_cast<std::size_t>(wanted ? chunk_count * row_length : 0), 0.0F) {}
  float* of(std::int64_t chunk) { return values.empty() ? nullptr : values.data() + chunk * length; }
  void write(const TensorArg& out) {
    if (values.empty()) return;
    for (std::int64_t chunk = 1; chunk < chunks; ++chunk) {
      spans::fold(ReduceOp::Sum, values.data() + chunk * length, values.data(), length);
    }
    write_floats(values.data(), out.as<float>(), out.strides[0], length);
  }
};

std::int64_t chunk_count(std::int64_t rows) {
  constexpr std::int64_t kChunks = 16;
  return std::clamp<std::int64_t>(rows / 4, 1, std::max<std::int64_t>(kChunks, thread_count()));
}

/// Calls body(chunk, row) for every row, the chunks in parallel.
template <class Body>
void for_each_chunked_row(std::int64_t rows, std::int64_t chunks, std::int64_t length, Body&& body) {
  const std::int64_t per_chunk = rows / chunks + 1;
  parallel_for(chunks, row_grain(length * per_chunk), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      body(chunk, rows * chunk / chunks, rows * (chunk + 1) / chunks);
    }
  });
}

constexpr std::int64_t kNarrow = 8;

/// norm_dx for a narrow row, in double: with one element, say, all that is left of g - h c is g eps rstd^2.
void narrow_rms_dx(const float* h, const float* weight, const float* dy, const float* dsum, float* dx,
                   double eps, std::int64_t count) {
  double squares = 0;
  double gh = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    squares += static_cast<double>(h[i]) * h[i];
    gh += static_cast<double>(dy[i]) * weight[i] * h[i];
  }
  const auto width = static_cast<double>(count);
  const double inverse_square = 1 / (squares / width + eps);
  const double scale = std::sqrt(inverse_square);
  for (std::int64_t i = 0; i < count; ++i) {
    const double g = static_cast<double>(dy[i]) * weight[i];
    const double slope = scale * (g - h[i] * (gh / width * inverse_square));
    dx[i] = static_cast<float>(slope + (dsum == nullptr ? 0.0 : static_cast<double>(dsum[i])));
  }
}

void rms_norm_grad(const RmsNormGradArgs& args, Stream&) {
  dispatch_floating(args.x.dtype, "rms_norm_grad", [&]<class T>() {
    const Rows<4> rows({args.x, args.dy, args.dx, or_like(args.dsum, args.x)}, args.x.rank - 1);
    const Floats weight = row_vector(args.weight, rows.length, 1);
    const std::int64_t chunks = chunk_count(rows.count);
    ColumnTotals dweight(args.dweight.present(), chunks, rows.length);
    const bool stream = streams(args.dx, args.x) && streams(args.dx, args.dy);
    for_each_chunked_row(
        rows.count, chunks, rows.length, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
          const StreamFence fence(stream);
          Floats x_scratch = floats(rows.length);
          Floats dy_scratch = floats(rows.length);
          Floats sum_scratch = floats(rows.length);
          for (std::int64_t row = begin; row < end; ++row) {
            std::int64_t at[4];
            rows.offsets(row, at);
            const float* x = access<T>(args.x, rows, at, 0).read(x_scratch);
            const float* dy = access<T>(args.dy, rows, at, 1).read(dy_scratch);
            const float* dsum =
                args.dsum.present() ? access<T>(args.dsum, rows, at, 3).read(sum_scratch) : nullptr;
            const float rstd = args.rstd.as<float>()[row];
            if (float* total = dweight.of(chunk)) spans::norm_dweight(x, 0, rstd, dy, total, rows.length);
            const auto dx = access<T>(args.dx, rows, at, 2, stream);
            float* target = dx.target(dy_scratch);
            if (rows.length <= kNarrow) {
              narrow_rms_dx(x, weight.data(), dy, dsum, target, args.eps, rows.length);
            } else {
              const float gx = spans::norm_sums(x, 0, weight.data(), dy, rows.length).gx;
              const float slope = gx / static_cast<float>(rows.length) * rstd * rstd;
              spans::norm_dx(x, weight.data(), dy, dsum, target,
                             {.mean = 0, .scale = rstd, .a = 0, .b = slope}, rows.length);
            }
            dx.write(target);
          }
        });
    dweight.write(args.dweight);
  });
}

void layer_norm_grad(const LayerNormGradArgs& args, Stream&) {
  dispatch_floating(args.x.dtype, "layer_norm_grad", [&]<class T>() {
    const Rows<3> rows({args.x, args.dy, args.dx}, args.x.rank - 1);
    const Floats weight = row_vector(args.weight, rows.length, 1);
    const std::int64_t chunks = chunk_count(rows.count);
    const auto width = static_cast<float>(rows.length);
    ColumnTotals dweight(args.dweight.present(), chunks, rows.length);
    ColumnTotals dbias(args.dbias.present(), chunks, rows.length);
    const bool stream = streams(args.dx, args.x) && streams(args.dx, args.dy);
    for_each_chunked_row(
        rows.count, chunks, rows.length, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
          const StreamFence fence(stream);
          Floats x_scratch = floats(rows.length);
          Floats dy_scratch = floats(rows.length);
          for (std::int64_t row = begin; row < end; ++row) {
            std::int64_t at[3];
            rows.offsets(row, at);
            const float* x = access<T>(args.x, rows, at, 0).read(x_scratch);
            const float* dy = access<T>(args.dy, rows, at, 1).read(dy_scratch);
            const float mean = args.mean.as<float>()[row];
            const float rstd = args.rstd.as<float>()[row];
            if (float* total = dweight.of(chunk)) spans::norm_dweight(x, mean, rstd, dy, total, rows.length);
            if (float* total = dbias.of(chunk)) spans::fold(ReduceOp::Sum, dy, total, rows.length);
            const spans::NormSums sums = spans::norm_sums(x, mean, weight.data(), dy, rows.length);
            const auto dx = access<T>(args.dx, rows, at, 2, stream);
            float* target = dx.target(dy_scratch);
            const spans::NormSlopes slopes{
                .mean = mean, .scale = rstd, .a = sums.g / width, .b = sums.gx / width * rstd * rstd};
            spans::norm_dx(x, weight.data(), dy, nullptr, target, slopes, rows.length);
            dx.write(target);
          }
        });
    dweight.write(args.dweight);
    dbias.write(args.dbias);
  });
}

}  // namespace

void fill_norm(KernelTable& table) {
  table.rms_norm.add("highway", supports_rms, rms_norm);
  table.rms_norm_grad.add("highway", supports_rms_grad, rms_norm_grad);
  table.layer_norm.add("highway", supports_layer, layer_norm);
  table.layer_norm_grad.add("highway", supports_layer_grad, layer_norm_grad);
}

}  // namespace candela

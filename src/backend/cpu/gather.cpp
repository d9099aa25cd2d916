#include <algorithm>
#include <vector>

#include <candela/core/error.h>

#include "backend/cpu/blocks.h"
#include "backend/cpu/convert.h"
#include "backend/cpu/table.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

namespace candela {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

/// All ids as i64, checked.
std::vector<std::int64_t> read_ids(const TensorArg& ids, std::int64_t bound) {
  std::vector<std::int64_t> result(static_cast<std::size_t>(ids.numel()));
  dispatch_index(ids.dtype, "embedding", [&]<class I>() {
    for (std::size_t n = 0; n < result.size(); ++n) {
      const auto id = static_cast<std::int64_t>(ids.as<I>()[static_cast<std::int64_t>(n) * ids.strides[0]]);
      require(id >= 0 && id < bound, "embedding: ids must be in [0, {}); got {} at position {}", bound, id,
              n);
      result[n] = id;
    }
  });
  return result;
}

void embedding(const EmbeddingArgs& args, Stream&) {
  const std::vector<std::int64_t> ids = read_ids(args.ids, args.weight.shape[0]);
  const std::int64_t width = args.weight.shape[1];
  dispatch_plain(args.weight.dtype, "embedding", [&]<class T>() {
    parallel_for(static_cast<std::int64_t>(ids.size()), std::max<std::int64_t>(1, kGrain / width),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t n = begin; n < end; ++n) {
                     const T* row =
                         args.weight.as<T>() + ids[static_cast<std::size_t>(n)] * args.weight.strides[0];
                     T* out = args.out.as<T>() + n * args.out.strides[0];
                     if (args.weight.strides[1] == 1 && args.out.strides[1] == 1) {
                       std::copy(row, row + width, out);
                       continue;
                     }
                     for (std::int64_t i = 0; i < width; ++i) {
                       out[i * args.out.strides[1]] = row[i * args.weight.strides[1]];
                     }
                   }
                 });
  });
}

std::string supports_embedding_grad(const EmbeddingGradArgs& args) {
  return args.dweight.dtype == DType::F32 && args.dy.dtype != DType::F64 ? "" : "sums are f32";
}

std::string supports_embedding_grad_loops(const EmbeddingGradArgs& args) {
  return args.dweight.dtype == DType::F64 ? "" : "is for f64";
}

/// The path for f64.
void embedding_grad_loops(const EmbeddingGradArgs& args, Stream&) {
  const std::vector<std::int64_t> ids = read_ids(args.ids, args.dweight.shape[0]);
  const std::int64_t width = args.dweight.shape[1];
  auto* dweight = args.dweight.as<double>();
  std::fill(dweight, dweight + args.dweight.numel(), 0.0);
  dispatch_plain(args.dy.dtype, "embedding_grad", [&]<class T>() {
    for (std::size_t n = 0; n < ids.size(); ++n) {
      const T* dy = args.dy.as<T>() + static_cast<std::int64_t>(n) * args.dy.strides[0];
      for (std::int64_t i = 0; i < width; ++i) {
        dweight[ids[n] * width + i] += convert<double>(dy[i * args.dy.strides[1]]);
      }
    }
  });
}

/// Threads share the columns, so that every element of dweight gets its terms in the order of n.
void embedding_grad(const EmbeddingGradArgs& args, Stream&) {
  const std::vector<std::int64_t> ids = read_ids(args.ids, args.dweight.shape[0]);
  const std::int64_t vocabulary = args.dweight.shape[0];
  const std::int64_t width = args.dweight.shape[1];
  float* dweight = args.dweight.as<float>();
  parallel_for(vocabulary * width, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::fill(dweight + begin, dweight + end, 0.0F);
  });
  const std::int64_t grain = std::max<std::int64_t>(64, kGrain / std::max<std::int64_t>(args.ids.numel(), 1));
  const std::int64_t step = args.dy.strides[1];
  dispatch_floating(args.dy.dtype, "embedding_grad", [&]<class T>() {
    parallel_for(width, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::size_t n = 0; n < ids.size(); ++n) {
        const T* dy = args.dy.as<T>() + static_cast<std::int64_t>(n) * args.dy.strides[0];
        float* total = dweight + ids[n] * width;
        for (std::int64_t i = begin; i < end; ++i) total[i] += static_cast<float>(dy[i * step]);
      }
    });
  });
}

/// Calls body(offsets, index) for every element of `index`'s shape; rows along `dim` are never split between
/// threads. Operand 0 has the index's shape, operand 1 has the gathered tensor's, which differs in `dim`
/// alone; offsets[1] is at position 0 of `dim`.
template <class Body>
void for_each_pick(const TensorArg& index, const TensorArg& like_index, const TensorArg& gathered, int dim,
                   Body&& body) {
  TensorArg stretched = gathered;
  stretched.shape[dim] = index.shape[dim];
  const Rows<3> rows({index, like_index, stretched}, dim);
  const std::int64_t bound = gathered.shape[dim];
  dispatch_index(index.dtype, "gather", [&]<class I>() {
    parallel_for(rows.count, row_grain(rows.length), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[3];
        rows.offsets(row, at);
        for (std::int64_t i = 0; i < rows.length; ++i) {
          const auto pick = static_cast<std::int64_t>(index.as<I>()[at[0] + i * rows.strides[0]]);
          require(pick >= 0 && pick < bound, "gather: indices must be in [0, {}); got {}", bound, pick);
          body(at[1] + i * rows.strides[1], at[2] + pick * rows.strides[2]);
        }
      }
    });
  });
}

void gather(const GatherArgs& args, Stream&) {
  dispatch_plain(args.x.dtype, "gather", [&]<class T>() {
    for_each_pick(args.index, args.out, args.x, args.dim,
                  [out = args.out.as<T>(), x = args.x.as<T>()](std::int64_t to, std::int64_t from) {
                    out[to] = x[from];
                  });
  });
}

void gather_grad(const GatherGradArgs& args, Stream&) {
  dispatch_plain(args.dx.dtype, "gather_grad", [&]<class S>() {
    S* dx = args.dx.as<S>();
    parallel_for(args.dx.numel(), kGrain,
                 [&](std::int64_t begin, std::int64_t end) { std::fill(dx + begin, dx + end, S(0.0F)); });
    if (args.dy.numel() == 0) return;
    dispatch_plain(args.dy.dtype, "gather_grad", [&]<class T>() {
      for_each_pick(args.index, args.dy, args.dx, args.dim,
                    [dx, dy = args.dy.as<T>()](std::int64_t from, std::int64_t to) {
                      dx[to] = convert<S>(convert<double>(dx[to]) + convert<double>(dy[from]));
                    });
    });
  });
}

}  // namespace

void fill_gather(KernelTable& table) {
  table.embedding.add("rows", supports_all, embedding);
  table.embedding_grad.add("rows", supports_embedding_grad, embedding_grad);
  table.embedding_grad.add("loops", supports_embedding_grad_loops, embedding_grad_loops);
  table.gather.add("loops", supports_all, gather);
  table.gather_grad.add("loops", supports_all, gather_grad);
}

}  // namespace candela

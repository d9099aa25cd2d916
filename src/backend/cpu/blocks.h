#pragma once

#include <algorithm>
#include <cstdint>
#include <hwy/cache_control.h>
#include <vector>

#include <candela/core/parallel.h>

#include "backend/layout.h"

/// How kernels walk operands: blocks of innermost loops, rows along one dimension.
namespace candela {

/// Elements per block: a few blocks of floats fit the first-level cache.
inline constexpr std::int64_t kBlock = 1024;

/// `count` rounded up to whole pairs of the widest vectors: the floats that a loop over pairs may touch.
constexpr std::int64_t padded(std::int64_t count) {
  constexpr std::int64_t kPair = 128;
  return (count + kPair - 1) / kPair * kPair;
}

/// Whether results for `out` should go past the caches: it is too large to stay there until it is used, and
/// `input` lies elsewhere.
inline bool streams(const TensorArg& out, const TensorArg& input) {
  constexpr std::int64_t kLarge = std::int64_t{16} << 20;
  return out.data != input.data && out.numel() * static_cast<std::int64_t>(size_of(out.dtype)) >= kLarge;
}

/// As streams(), for loops that stream whole vectors: every row of `out` must also begin at one.
template <int N>
bool streams_rows(const TensorArg& out, const TensorArg (&inputs)[N]) {
  constexpr std::int64_t kVector = 64;
  if (!std::all_of(inputs, inputs + N, [&](const TensorArg& input) { return streams(out, input); }))
    return false;
  bool aligned = reinterpret_cast<std::uintptr_t>(out.data) % kVector == 0;
  for (int d = 0; d < out.rank; ++d) {
    if (out.shape[d] == 1 || out.strides[d] == 1) continue;
    aligned = aligned && out.strides[d] * static_cast<std::int64_t>(size_of(out.dtype)) % kVector == 0;
  }
  return aligned;
}

/// At the end of a thread's share of the work: makes what it streamed visible to others.
struct StreamFence {
  bool needed;

  explicit StreamFence(bool streamed) : needed(streamed) {}
  StreamFence(const StreamFence&) = delete;
  StreamFence& operator=(const StreamFence&) = delete;
  ~StreamFence() {
    if (needed) hwy::FlushStream();
  }
};

/// Calls body(offsets, first, count) over blocks of at most `block` elements of innermost loops, in parallel:
/// the block is elements [first, first + count) of the innermost loop that starts at `offsets`.
template <int N, class Body>
void for_each_block(const Loops<N>& loops, std::int64_t block, bool stream, Body&& body) {
  constexpr std::int64_t kGrain = 1 << 14;
  const std::int64_t inner = loops.inner();
  const std::int64_t outer = loops.outer();
  const auto run = [&](std::int64_t index, std::int64_t begin, std::int64_t end) {
    std::int64_t offsets[N];
    loops.offsets(index, offsets);
    for (std::int64_t at = begin; at < end; at += block) body(offsets, at, std::min(block, end - at));
  };
  if (outer < thread_count() && inner > kGrain) {
    for (std::int64_t i = 0; i < outer; ++i) {
      parallel_for(inner, kGrain, [&](std::int64_t begin, std::int64_t end) {
        const StreamFence fence(stream);
        run(i, begin, end);
      });
    }
    return;
  }
  parallel_for(outer, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(inner, 1)),
               [&](std::int64_t begin, std::int64_t end) {
                 const StreamFence fence(stream);
                 for (std::int64_t i = begin; i < end; ++i) run(i, 0, inner);
               });
}

/// The rows of N operands of one shape along `dim`: what softmax, norms and the like work on.
template <int N>
struct Rows {
  std::int64_t length;
  std::int64_t count;
  /// of one step along the row
  std::int64_t strides[N];
  /// Rows that lie at even distances: row indices [0, run) of each run.
  std::int64_t run;
  /// from row to row of a run
  std::int64_t across[N];

  Rows(const TensorArg (&operands)[N], int dim) : Rows(cut(operands, dim), operands, dim) {}

  void offsets(std::int64_t row, std::int64_t (&at)[N]) const {
    loops_.offsets(row / loops_.inner(), at);
    const std::int64_t j = row % loops_.inner();
    for (int n = 0; n < N; ++n) at[n] += j * across[n];
  }

 private:
  struct Cut {
    TensorArg operands[N];
  };
  static Cut cut(const TensorArg (&operands)[N], int dim) {
    Cut result;
    for (int n = 0; n < N; ++n) {
      result.operands[n] = operands[n];
      if (operands[n].rank > 0) result.operands[n].shape[dim] = 1;
    }
    return result;
  }
  Rows(const Cut& cut, const TensorArg (&operands)[N], int dim) : loops_(cut.operands) {
    length = operands[0].rank == 0 ? 1 : operands[0].shape[dim];
    count = cut.operands[0].numel();
    run = std::max<std::int64_t>(loops_.inner(), 1);
    for (int n = 0; n < N; ++n) {
      strides[n] = operands[n].rank == 0 ? 1 : operands[n].strides[dim];
      across[n] = loops_.strides[n][loops_.rank - 1];
    }
  }

  Loops<N> loops_;
};

/// Reads rows of one operand as contiguous elements: where they lie, or gathered.
template <class T>
class RowReader {
 public:
  template <int N>
  RowReader(const Rows<N>& rows, int n)
      : stride_(rows.strides[n]), scratch_(static_cast<std::size_t>(stride_ == 1 ? 0 : rows.length)) {}
  const T* read(const T* row) {
    for (std::size_t i = 0; i < scratch_.size(); ++i)
      scratch_[i] = row[static_cast<std::int64_t>(i) * stride_];
    return stride_ == 1 ? row : scratch_.data();
  }

 private:
  std::int64_t stride_;
  std::vector<T> scratch_;
};

/// Where rows of one operand are to be written as contiguous elements; finish() brings them home.
template <class T>
class RowWriter {
 public:
  template <int N>
  RowWriter(const Rows<N>& rows, int n)
      : stride_(rows.strides[n]), scratch_(static_cast<std::size_t>(stride_ == 1 ? 0 : rows.length)) {}
  T* target(T* row) {
    row_ = row;
    return stride_ == 1 ? row : scratch_.data();
  }
  void finish() {
    for (std::size_t i = 0; i < scratch_.size(); ++i)
      row_[static_cast<std::int64_t>(i) * stride_] = scratch_[i];
  }

 private:
  std::int64_t stride_;
  T* row_ = nullptr;
  std::vector<T> scratch_;
};

/// Rows per thread below which a second thread is not worth it.
inline std::int64_t row_grain(std::int64_t length) {
  return std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(length, 1));
}

}  // namespace candela

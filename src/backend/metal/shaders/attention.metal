#include "attention_tile.h"

using namespace candela::shader;

/// The largest score of a row so far (times the sign of the scale), and the sum of exponentials below it.
struct RunningSoftmax {
  float top, total;
};

/// Turns the scores [8][C] of a simdgroup into weights below the largest score so far; four lanes share a
/// row, which sees columns [begin, end). Gives what sums below the largest score before are to be multiplied
/// by.
template <uint C>
inline float weigh_band(threadgroup float* scores, thread RunningSoftmax& running,
                        constant AttentionParams& p, device const float* bias, uint h, int t, int first,
                        int begin, int end, uint lane) {
  float sign = p.scale < 0.0f ? -1.0f : 1.0f;
  float factor = fabs(p.scale);
  threadgroup float* row = scores + lane / 4 * (C + kPadding);
  float values[C / 4];
  float largest = -INFINITY;
  for (uint i = 0; i < C / 4; ++i) {
    uint c = i * 4 + lane % 4;
    int j = first + static_cast<int>(c);
    values[i] = -INFINITY;
    if (j >= begin && j < end) values[i] = sign * (row[c] + bias_of(p, bias, h, t, j));
    largest = fmax(largest, values[i]);
  }
  float before = running.top;
  running.top = fmax(before, quad_max(largest));
  float shift = running.top == -INFINITY ? 0.0f : running.top;
  float decay = before == running.top ? 1.0f : exp(factor * (before - shift));
  float part = 0.0f;
  for (uint i = 0; i < C / 4; ++i) {
    uint c = i * 4 + lane % 4;
    int j = first + static_cast<int>(c);
    float weight = j >= begin && j < end ? exp(factor * (values[i] - shift)) : 0.0f;
    row[c] = weight;
    part += weight;
  }
  running.total = running.total * decay + quad_sum(part);
  return decay;
}

/// out = softmax(scale q k^T) v for a block of kBand S queries: S simdgroups, against C keys at a time, by
/// the running maximum of FlashAttention-2 (Dao, 2023). Heads of at most D elements. Grid (blocks of queries,
/// H, B).
template <class T, uint D, uint S, uint C>
[[kernel]] [[max_total_threads_per_threadgroup(S * 32)]] void attention(
    device const T* q [[buffer(0)]], device const T* k [[buffer(1)]], device const T* v [[buffer(2)]],
    device T* out [[buffer(3)]], device float* tops [[buffer(4)]], device float* totals [[buffer(5)]],
    device const int* q_start [[buffer(6)]], device const int* cu_seqlens [[buffer(7)]],
    device const float* bias [[buffer(8)]], device atomic_uint* fault [[buffer(9)]],
    constant AttentionParams& p [[buffer(10)]], uint3 group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float q_tile[S * kBand * (D + kPadding)];
  threadgroup float column_tile[C * (D + kPadding)];
  threadgroup float scores[S * kBand * (C + kPadding)];
  threadgroup float places[64];
  threadgroup float factors[S * kBand];
  threadgroup int begin[S * kBand];
  threadgroup int end[S * kBand];
  threadgroup atomic_uint marked;
  constexpr uint kThreads = S * 32;
  uint h = group.y;
  uint b = group.z;
  int first_row = static_cast<int>(group.x * S * kBand);
  int rows = static_cast<int>(p.queries);
  if (group.x + group.y + group.z == 0) check_bounds(p, cu_seqlens, fault, thread_index, kThreads);
  see<false>(p, q_start, cu_seqlens, b, first_row, rows, S * kBand, begin, end, factors, places, &marked,
             thread_index, kThreads);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  q += static_cast<long>(b) * p.q.batch + static_cast<long>(h) * p.q.head;
  k += static_cast<long>(b) * p.k.batch + static_cast<long>(h / p.group) * p.k.head;
  v += static_cast<long>(b) * p.v.batch + static_cast<long>(h / p.group) * p.v.head;
  out += static_cast<long>(b) * p.out.batch + static_cast<long>(h) * p.out.head;
  load_heads<T, D>(q_tile, q, p.q.row, first_row, rows, p.size, S * kBand, p.in_fours != 0, &marked, 0u,
                   thread_index, kThreads);
  Interval all = union_of(begin, end, S * kBand);
  Interval mine = union_of(begin + simdgroup * kBand, end + simdgroup * kBand, kBand);
  threadgroup float* my_scores = scores + simdgroup * kBand * (C + kPadding);
  // Four lanes share a row of the scores.
  uint row = simdgroup * kBand + lane / 4;
  int t = first_row + static_cast<int>(row);
  RunningSoftmax running = {-INFINITY, 0.0f};
  BandSums<D> sums;
  clear_sums(sums, places);
  uint stamp = 0u;
  for (int first = all.begin; first < all.end; first += static_cast<int>(C)) {
    bool active = mine.begin < first + static_cast<int>(C) && first < mine.end;
    ++stamp;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    load_heads<T, D>(column_tile, k, p.k.row, first, all.end, p.size, C, p.in_fours != 0, &marked, 0u,
                     thread_index, kThreads);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (active) {
      multiply_bands<D, C>(q_tile + simdgroup * kBand * (D + kPadding), column_tile, my_scores, p.size);
      simdgroup_barrier(mem_flags::mem_threadgroup);
      float decay = weigh_band<C>(my_scores, running, p, bias, h, t, first, begin[row], end[row], lane);
      if (lane % 4 == 0) factors[row] = decay;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    load_heads<T, D>(column_tile, v, p.v.row, first, all.end, p.size, C, p.in_fours != 0, &marked, stamp,
                     thread_index, kThreads);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (active) {
      for (uint n = 0; n * 8 < p.size; ++n) {
        for (uint e = 0; e < 2; ++e)
          sums.at[n].thread_elements()[e] *= factors[simdgroup * kBand + sums.row[e]];
      }
      bool exact = atomic_load_explicit(&marked, memory_order_relaxed) == stamp;
      add_band<D, C>(sums, my_scores, column_tile, p.size, exact, begin + simdgroup * kBand,
                     end + simdgroup * kBand, first);
    }
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  if (lane % 4 == 0) {
    factors[row] = begin[row] < end[row] ? 1.0f / running.total : 0.0f;
    if (p.has_statistics != 0 && t < rows) {
      long place = (static_cast<long>(b) * p.heads + h) * p.queries + t;
      tops[place] = (p.scale < 0.0f ? -1.0f : 1.0f) * running.top;
      totals[place] = running.total;
    }
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  write_band<T, D>(sums, out, p.out.row, first_row + static_cast<int>(simdgroup * kBand), rows, p.size,
                   factors + simdgroup * kBand);
}

/// The weight of a key whose product with the query is `product`.
inline float weight_of(float scale, float product, float top, float total) {
  return exp(scale * (product - top)) / total;
}

/// dq for a block of queries, and delta [B, H, T], the mean of dout v^T under a row's weights. From the
/// weights and not from the rounded output: it must vanish where a query sees one key. The keys are met
/// twice, first for delta. Grid as for the forward.
template <class T, uint D, uint S, uint C>
[[kernel]] [[max_total_threads_per_threadgroup(S * 32)]] void attention_grad_queries(
    device const T* q [[buffer(0)]], device const T* k [[buffer(1)]], device const T* v [[buffer(2)]],
    device const T* dout [[buffer(3)]], device T* dq [[buffer(4)]], device const float* tops [[buffer(5)]],
    device const float* totals [[buffer(6)]], device float* deltas [[buffer(7)]],
    device const int* q_start [[buffer(8)]], device const int* cu_seqlens [[buffer(9)]],
    device const float* bias [[buffer(10)]], constant AttentionGradParams& g [[buffer(11)]],
    uint3 group [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float q_tile[S * kBand * (D + kPadding)];
  threadgroup float dout_tile[S * kBand * (D + kPadding)];
  threadgroup float column_tile[C * (D + kPadding)];
  threadgroup float scores[S * kBand * (C + kPadding)];
  threadgroup float slopes[S * kBand * (C + kPadding)];
  threadgroup float places[64];
  threadgroup float factors[S * kBand];
  threadgroup int begin[S * kBand];
  threadgroup int end[S * kBand];
  threadgroup atomic_uint marked;
  constant AttentionParams& p = g.forward;
  constexpr uint kThreads = S * 32;
  uint h = group.y;
  uint b = group.z;
  int first_row = static_cast<int>(group.x * S * kBand);
  int rows = static_cast<int>(p.queries);
  bool in_fours = p.in_fours != 0;
  see<false>(p, q_start, cu_seqlens, b, first_row, rows, S * kBand, begin, end, factors, places, &marked,
             thread_index, kThreads);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  k += static_cast<long>(b) * p.k.batch + static_cast<long>(h / p.group) * p.k.head;
  v += static_cast<long>(b) * p.v.batch + static_cast<long>(h / p.group) * p.v.head;
  load_heads<T, D>(q_tile, q + (static_cast<long>(b) * p.q.batch + static_cast<long>(h) * p.q.head), p.q.row,
                   first_row, rows, p.size, S * kBand, in_fours, &marked, 0u, thread_index, kThreads);
  load_heads<T, D>(
      dout_tile, dout + (static_cast<long>(b) * g.dout.batch + static_cast<long>(h) * g.dout.head),
      g.dout.row, first_row, rows, p.size, S * kBand, in_fours, &marked, 0u, thread_index, kThreads);
  Interval all = union_of(begin, end, S * kBand);
  Interval mine = union_of(begin + simdgroup * kBand, end + simdgroup * kBand, kBand);
  threadgroup float* my_scores = scores + simdgroup * kBand * (C + kPadding);
  threadgroup float* my_slopes = slopes + simdgroup * kBand * (C + kPadding);
  uint row = simdgroup * kBand + lane / 4;
  int t = first_row + static_cast<int>(row);
  long place = (static_cast<long>(b) * p.heads + h) * p.queries + t;
  float top = t < rows ? tops[place] : 0.0f;
  float total = t < rows ? totals[place] : 1.0f;
  float delta = 0.0f;
  BandSums<D> sums;
  clear_sums(sums, places);
  uint stamp = 0u;
  for (uint pass = 0; pass < 2; ++pass) {
    float part = 0.0f;
    for (int first = all.begin; first < all.end; first += static_cast<int>(C)) {
      bool active = mine.begin < first + static_cast<int>(C) && first < mine.end;
      ++stamp;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      load_heads<T, D>(column_tile, v, p.v.row, first, all.end, p.size, C, in_fours, &marked, 0u,
                       thread_index, kThreads);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (active)
        multiply_bands<D, C>(dout_tile + simdgroup * kBand * (D + kPadding), column_tile, my_slopes, p.size);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      load_heads<T, D>(column_tile, k, p.k.row, first, all.end, p.size, C, in_fours, &marked, stamp,
                       thread_index, kThreads);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (!active) continue;
      multiply_bands<D, C>(q_tile + simdgroup * kBand * (D + kPadding), column_tile, my_scores, p.size);
      simdgroup_barrier(mem_flags::mem_threadgroup);
      for (uint i = 0; i < C / 4; ++i) {
        uint c = i * 4 + lane % 4;
        uint at = lane / 4 * (C + kPadding) + c;
        int j = first + static_cast<int>(c);
        float slope = 0.0f;
        if (j >= begin[row] && j < end[row]) {
          float weight = weight_of(p.scale, my_scores[at] + bias_of(p, bias, h, t, j), top, total);
          if (pass == 0) part += weight * my_slopes[at];
          slope = weight * (my_slopes[at] - delta) * p.scale;
        }
        my_slopes[at] = slope;
      }
      if (pass == 0) continue;
      simdgroup_barrier(mem_flags::mem_threadgroup);
      bool exact = atomic_load_explicit(&marked, memory_order_relaxed) == stamp;
      add_band<D, C>(sums, my_slopes, column_tile, p.size, exact, begin + simdgroup * kBand,
                     end + simdgroup * kBand, first);
    }
    if (pass == 0) {
      delta = quad_sum(part);
      if (lane % 4 == 0 && t < rows) deltas[place] = delta;
    }
  }
  write_band<T, D>(sums, dq + (static_cast<long>(b) * g.dq.batch + static_cast<long>(h) * g.dq.head),
                   g.dq.row, first_row + static_cast<int>(simdgroup * kBand), rows, p.size,
                   factors + simdgroup * kBand);
}

/// dk and dv for a block of keys: the query heads of their group in order, of each the queries that see them.
/// Grid (blocks of keys, K, B).
template <class T, uint D, uint S, uint C>
[[kernel]] [[max_total_threads_per_threadgroup(S * 32)]] void attention_grad_keys(
    device const T* q [[buffer(0)]], device const T* k [[buffer(1)]], device const T* v [[buffer(2)]],
    device const T* dout [[buffer(3)]], device T* dk [[buffer(4)]], device T* dv [[buffer(5)]],
    device const float* tops [[buffer(6)]], device const float* totals [[buffer(7)]],
    device const float* deltas [[buffer(8)]], device const int* q_start [[buffer(9)]],
    device const int* cu_seqlens [[buffer(10)]], device const float* bias [[buffer(11)]],
    constant AttentionGradParams& g [[buffer(12)]], uint3 group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float k_tile[S * kBand * (D + kPadding)];
  threadgroup float v_tile[S * kBand * (D + kPadding)];
  threadgroup float column_tile[C * (D + kPadding)];
  threadgroup float scores[S * kBand * (C + kPadding)];
  threadgroup float slopes[S * kBand * (C + kPadding)];
  threadgroup float places[64];
  threadgroup float factors[S * kBand];
  threadgroup int begin[S * kBand];
  threadgroup int end[S * kBand];
  threadgroup atomic_uint marked;
  constant AttentionParams& p = g.forward;
  constexpr uint kThreads = S * 32;
  uint key_head = group.y;
  uint b = group.z;
  int first_row = static_cast<int>(group.x * S * kBand);
  int rows = static_cast<int>(p.keys);
  bool in_fours = p.in_fours != 0;
  see<true>(p, q_start, cu_seqlens, b, first_row, rows, S * kBand, begin, end, factors, places, &marked,
            thread_index, kThreads);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  load_heads<T, D>(k_tile, k + (static_cast<long>(b) * p.k.batch + static_cast<long>(key_head) * p.k.head),
                   p.k.row, first_row, rows, p.size, S * kBand, in_fours, &marked, 0u, thread_index,
                   kThreads);
  load_heads<T, D>(v_tile, v + (static_cast<long>(b) * p.v.batch + static_cast<long>(key_head) * p.v.head),
                   p.v.row, first_row, rows, p.size, S * kBand, in_fours, &marked, 0u, thread_index,
                   kThreads);
  Interval all = union_of(begin, end, S * kBand);
  Interval mine = union_of(begin + simdgroup * kBand, end + simdgroup * kBand, kBand);
  threadgroup float* my_scores = scores + simdgroup * kBand * (C + kPadding);
  threadgroup float* my_slopes = slopes + simdgroup * kBand * (C + kPadding);
  uint row = simdgroup * kBand + lane / 4;
  int key = first_row + static_cast<int>(row);
  BandSums<D> key_sums;
  BandSums<D> value_sums;
  clear_sums(key_sums, places);
  clear_sums(value_sums, places);
  uint stamp = 0u;
  for (uint h = key_head * p.group; h < (key_head + 1) * p.group; ++h) {
    device const T* q_head = q + (static_cast<long>(b) * p.q.batch + static_cast<long>(h) * p.q.head);
    device const T* dout_head =
        dout + (static_cast<long>(b) * g.dout.batch + static_cast<long>(h) * g.dout.head);
    long statistics = (static_cast<long>(b) * p.heads + h) * p.queries;
    for (int first = all.begin; first < all.end; first += static_cast<int>(C)) {
      bool active = mine.begin < first + static_cast<int>(C) && first < mine.end;
      stamp += 2u;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      load_heads<T, D>(column_tile, dout_head, g.dout.row, first, all.end, p.size, C, in_fours, &marked, 0u,
                       thread_index, kThreads);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (active)
        multiply_bands<D, C>(v_tile + simdgroup * kBand * (D + kPadding), column_tile, my_slopes, p.size);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      load_heads<T, D>(column_tile, q_head, p.q.row, first, all.end, p.size, C, in_fours, &marked, stamp,
                       thread_index, kThreads);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (active) {
        multiply_bands<D, C>(k_tile + simdgroup * kBand * (D + kPadding), column_tile, my_scores, p.size);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (uint i = 0; i < C / 4; ++i) {
          uint c = i * 4 + lane % 4;
          uint at = lane / 4 * (C + kPadding) + c;
          int t = first + static_cast<int>(c);
          float weight = 0.0f;
          float slope = 0.0f;
          if (t >= begin[row] && t < end[row]) {
            weight = weight_of(p.scale, my_scores[at] + bias_of(p, bias, h, t, key), tops[statistics + t],
                               totals[statistics + t]);
            slope = weight * (my_slopes[at] - deltas[statistics + t]) * p.scale;
          }
          my_scores[at] = weight;
          my_slopes[at] = slope;
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);
        bool exact = atomic_load_explicit(&marked, memory_order_relaxed) == stamp;
        add_band<D, C>(key_sums, my_slopes, column_tile, p.size, exact, begin + simdgroup * kBand,
                       end + simdgroup * kBand, first);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      load_heads<T, D>(column_tile, dout_head, g.dout.row, first, all.end, p.size, C, in_fours, &marked,
                       stamp + 1u, thread_index, kThreads);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (active) {
        bool exact = atomic_load_explicit(&marked, memory_order_relaxed) == stamp + 1u;
        add_band<D, C>(value_sums, my_scores, column_tile, p.size, exact, begin + simdgroup * kBand,
                       end + simdgroup * kBand, first);
      }
    }
  }
  int first_mine = first_row + static_cast<int>(simdgroup * kBand);
  write_band<T, D>(key_sums,
                   dk + (static_cast<long>(b) * g.dk.batch + static_cast<long>(key_head) * g.dk.head),
                   g.dk.row, first_mine, rows, p.size, factors + simdgroup * kBand);
  write_band<T, D>(value_sums,
                   dv + (static_cast<long>(b) * g.dv.batch + static_cast<long>(key_head) * g.dv.head),
                   g.dv.row, first_mine, rows, p.size, factors + simdgroup * kBand);
}

template [[host_name(
    "attention_f32_32")]] [[kernel]] decltype(attention<float, 32, 4, 32>) attention<float, 32, 4, 32>;
template [[host_name(
    "attention_f32_64")]] [[kernel]] decltype(attention<float, 64, 4, 32>) attention<float, 64, 4, 32>;
template [[host_name(
    "attention_f32_128")]] [[kernel]] decltype(attention<float, 128, 4, 16>) attention<float, 128, 4, 16>;
template [[host_name(
    "attention_f32_256")]] [[kernel]] decltype(attention<float, 256, 2, 8>) attention<float, 256, 2, 8>;
template [[host_name(
    "attention_f32_320")]] [[kernel]] decltype(attention<float, 320, 2, 8>) attention<float, 320, 2, 8>;
template [[host_name(
    "attention_f16_32")]] [[kernel]] decltype(attention<half, 32, 4, 32>) attention<half, 32, 4, 32>;
template [[host_name(
    "attention_f16_64")]] [[kernel]] decltype(attention<half, 64, 4, 32>) attention<half, 64, 4, 32>;
template [[host_name(
    "attention_f16_128")]] [[kernel]] decltype(attention<half, 128, 4, 16>) attention<half, 128, 4, 16>;
template [[host_name(
    "attention_f16_256")]] [[kernel]] decltype(attention<half, 256, 2, 8>) attention<half, 256, 2, 8>;
template [[host_name(
    "attention_f16_320")]] [[kernel]] decltype(attention<half, 320, 2, 8>) attention<half, 320, 2, 8>;
template [[host_name(
    "attention_bf16_32")]] [[kernel]] decltype(attention<bf16, 32, 4, 32>) attention<bf16, 32, 4, 32>;
template [[host_name(
    "attention_bf16_64")]] [[kernel]] decltype(attention<bf16, 64, 4, 32>) attention<bf16, 64, 4, 32>;
template [[host_name(
    "attention_bf16_128")]] [[kernel]] decltype(attention<bf16, 128, 4, 16>) attention<bf16, 128, 4, 16>;
template [[host_name(
    "attention_bf16_256")]] [[kernel]] decltype(attention<bf16, 256, 2, 8>) attention<bf16, 256, 2, 8>;
template [[host_name(
    "attention_bf16_320")]] [[kernel]] decltype(attention<bf16, 320, 2, 8>) attention<bf16, 320, 2, 8>;
template [[host_name(
    "attention_grad_queries_f32_32")]] [[kernel]] decltype(attention_grad_queries<float, 32, 4, 16>)
    attention_grad_queries<float, 32, 4, 16>;
template [[host_name(
    "attention_grad_queries_f32_64")]] [[kernel]] decltype(attention_grad_queries<float, 64, 4, 16>)
    attention_grad_queries<float, 64, 4, 16>;
template [[host_name(
    "attention_grad_queries_f32_128")]] [[kernel]] decltype(attention_grad_queries<float, 128, 2, 16>)
    attention_grad_queries<float, 128, 2, 16>;
template [[host_name(
    "attention_grad_queries_f32_256")]] [[kernel]] decltype(attention_grad_queries<float, 256, 1, 8>)
    attention_grad_queries<float, 256, 1, 8>;
template [[host_name(
    "attention_grad_queries_f32_320")]] [[kernel]] decltype(attention_grad_queries<float, 320, 1, 8>)
    attention_grad_queries<float, 320, 1, 8>;
template [[host_name(
    "attention_grad_queries_f16_32")]] [[kernel]] decltype(attention_grad_queries<half, 32, 4, 16>)
    attention_grad_queries<half, 32, 4, 16>;
template [[host_name(
    "attention_grad_queries_f16_64")]] [[kernel]] decltype(attention_grad_queries<half, 64, 4, 16>)
    attention_grad_queries<half, 64, 4, 16>;
template [[host_name(
    "attention_grad_queries_f16_128")]] [[kernel]] decltype(attention_grad_queries<half, 128, 2, 16>)
    attention_grad_queries<half, 128, 2, 16>;
template [[host_name(
    "attention_grad_queries_f16_256")]] [[kernel]] decltype(attention_grad_queries<half, 256, 1, 8>)
    attention_grad_queries<half, 256, 1, 8>;
template [[host_name(
    "attention_grad_queries_f16_320")]] [[kernel]] decltype(attention_grad_queries<half, 320, 1, 8>)
    attention_grad_queries<half, 320, 1, 8>;
template [[host_name(
    "attention_grad_queries_bf16_32")]] [[kernel]] decltype(attention_grad_queries<bf16, 32, 4, 16>)
    attention_grad_queries<bf16, 32, 4, 16>;
template [[host_name(
    "attention_grad_queries_bf16_64")]] [[kernel]] decltype(attention_grad_queries<bf16, 64, 4, 16>)
    attention_grad_queries<bf16, 64, 4, 16>;
template [[host_name(
    "attention_grad_queries_bf16_128")]] [[kernel]] decltype(attention_grad_queries<bf16, 128, 2, 16>)
    attention_grad_queries<bf16, 128, 2, 16>;
template [[host_name(
    "attention_grad_queries_bf16_256")]] [[kernel]] decltype(attention_grad_queries<bf16, 256, 1, 8>)
    attention_grad_queries<bf16, 256, 1, 8>;
template [[host_name(
    "attention_grad_queries_bf16_320")]] [[kernel]] decltype(attention_grad_queries<bf16, 320, 1, 8>)
    attention_grad_queries<bf16, 320, 1, 8>;
template
    [[host_name("attention_grad_keys_f32_32")]] [[kernel]] decltype(attention_grad_keys<float, 32, 4, 16>)
        attention_grad_keys<float, 32, 4, 16>;
template
    [[host_name("attention_grad_keys_f32_64")]] [[kernel]] decltype(attention_grad_keys<float, 64, 4, 16>)
        attention_grad_keys<float, 64, 4, 16>;
template
    [[host_name("attention_grad_keys_f32_128")]] [[kernel]] decltype(attention_grad_keys<float, 128, 2, 16>)
        attention_grad_keys<float, 128, 2, 16>;
template
    [[host_name("attention_grad_keys_f32_256")]] [[kernel]] decltype(attention_grad_keys<float, 256, 1, 8>)
        attention_grad_keys<float, 256, 1, 8>;
template
    [[host_name("attention_grad_keys_f32_320")]] [[kernel]] decltype(attention_grad_keys<float, 320, 1, 8>)
        attention_grad_keys<float, 320, 1, 8>;
template [[host_name("attention_grad_keys_f16_32")]] [[kernel]] decltype(attention_grad_keys<half, 32, 4, 16>)
    attention_grad_keys<half, 32, 4, 16>;
template [[host_name("attention_grad_keys_f16_64")]] [[kernel]] decltype(attention_grad_keys<half, 64, 4, 16>)
    attention_grad_keys<half, 64, 4, 16>;
template
    [[host_name("attention_grad_keys_f16_128")]] [[kernel]] decltype(attention_grad_keys<half, 128, 2, 16>)
        attention_grad_keys<half, 128, 2, 16>;
template
    [[host_name("attention_grad_keys_f16_256")]] [[kernel]] decltype(attention_grad_keys<half, 256, 1, 8>)
        attention_grad_keys<half, 256, 1, 8>;
template
    [[host_name("attention_grad_keys_f16_320")]] [[kernel]] decltype(attention_grad_keys<half, 320, 1, 8>)
        attention_grad_keys<half, 320, 1, 8>;
template
    [[host_name("attention_grad_keys_bf16_32")]] [[kernel]] decltype(attention_grad_keys<bf16, 32, 4, 16>)
        attention_grad_keys<bf16, 32, 4, 16>;
template
    [[host_name("attention_grad_keys_bf16_64")]] [[kernel]] decltype(attention_grad_keys<bf16, 64, 4, 16>)
        attention_grad_keys<bf16, 64, 4, 16>;
template
    [[host_name("attention_grad_keys_bf16_128")]] [[kernel]] decltype(attention_grad_keys<bf16, 128, 2, 16>)
        attention_grad_keys<bf16, 128, 2, 16>;
template
    [[host_name("attention_grad_keys_bf16_256")]] [[kernel]] decltype(attention_grad_keys<bf16, 256, 1, 8>)
        attention_grad_keys<bf16, 256, 1, 8>;
template
    [[host_name("attention_grad_keys_bf16_320")]] [[kernel]] decltype(attention_grad_keys<bf16, 320, 1, 8>)
        attention_grad_keys<bf16, 320, 1, 8>;

#include "fault.h"
#include "lines.h"

using namespace candela::shader;

/// out[n] = weight[ids[n]]: a thread per element, the rows of the grid are n.
template <class T, class I>
[[kernel]] void embedding(device const T* weight [[buffer(0)]], device const I* ids [[buffer(1)]],
                          device T* out [[buffer(2)]], device atomic_uint* fault [[buffer(3)]],
                          constant EmbeddingParams& p [[buffer(4)]], uint2 at [[thread_position_in_grid]]) {
  long id = static_cast<long>(ids[static_cast<long>(at.y) * p.id_step]);
  if (id < 0 || id >= static_cast<long>(p.classes)) {
    if (at.x == 0) report(fault, kEmbeddingId, id, p.classes);
    return;
  }
  out[static_cast<long>(at.y) * p.out_row + static_cast<long>(at.x) * p.out_column] =
      weight[id * p.weight_row + static_cast<long>(at.x) * p.weight_column];
}

/// dweight = 0, then dweight[ids[n]] += dy[n] in the order of n. A thread owns one column of the classes with
/// id % parts == part, so that no two write one element. The forward op has checked the ids; one that does
/// not fit is passed over. Grid (ceil(width / threads), parts).
template <class T, class I>
[[kernel]] void embedding_grad(device const T* dy [[buffer(0)]], device const I* ids [[buffer(1)]],
                               device float* dweight [[buffer(2)]], constant EmbeddingParams& p [[buffer(3)]],
                               uint2 group [[threadgroup_position_in_grid]],
                               uint2 parts [[threadgroups_per_grid]],
                               uint thread_index [[thread_index_in_threadgroup]],
                               uint2 threads [[threads_per_threadgroup]]) {
  uint column = group.x * threads.x + thread_index;
  if (column >= p.width) return;
  device float* mine = dweight + static_cast<long>(column) * p.weight_column;
  device const T* from = dy + static_cast<long>(column) * p.out_column;
  for (uint id = group.y; id < p.classes; id += parts.y) mine[static_cast<long>(id) * p.weight_row] = 0.0f;
  for (uint n = 0; n < p.count; ++n) {
    long id = static_cast<long>(ids[static_cast<long>(n) * p.id_step]);
    if (id < 0 || id >= static_cast<long>(p.classes)) continue;
    if (static_cast<uint>(id) % parts.y != group.y) continue;
    mine[id * p.weight_row] += to_float(from[static_cast<long>(n) * p.out_row]);
  }
}

/// out[i] = x[index[i]] along the gathered dimension: a thread per element, the rows of the grid are lines.
template <class T, class I>
[[kernel]] void gather(device T* out [[buffer(0)]], device const I* index [[buffer(1)]],
                       device const T* x [[buffer(2)]], device atomic_uint* fault [[buffer(3)]],
                       constant GatherParams& p [[buffer(4)]], uint2 at [[thread_position_in_grid]]) {
  long i = static_cast<long>(at.x);
  long pick = static_cast<long>(index[line_offset(p.lines, 1, at.y) + i * p.lines.step[1]]);
  if (pick < 0 || pick >= static_cast<long>(p.length)) {
    report(fault, kGatherIndex, pick, p.length);
    return;
  }
  out[line_offset(p.lines, 0, at.y) + i * p.lines.step[0]] =
      x[line_offset(p.lines, 2, at.y) + pick * p.lines.step[2]];
}

/// One threadgroup per line: dx [length] = 0, then dx[index[j]] += dy[j] in the order of j. A thread adds
/// only what falls on elements of its own, so that none needs to wait for another and the order of the sums
/// is fixed. The forward op has checked the indices; one that does not fit is passed over.
template <class T, class I>
[[kernel]] void gather_grad(device const T* dy [[buffer(0)]], device const I* index [[buffer(1)]],
                            device float* dx [[buffer(2)]], constant GatherParams& p [[buffer(3)]],
                            uint line [[threadgroup_position_in_grid]],
                            uint thread_index [[thread_index_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]]) {
  device const T* from = dy + line_offset(p.lines, 0, line);
  device const I* picks = index + line_offset(p.lines, 1, line);
  device float* to = dx + line_offset(p.lines, 2, line);
  for (uint i = thread_index; i < p.length; i += threads) to[static_cast<long>(i) * p.lines.step[2]] = 0.0f;
  for (uint j = 0; j < p.picks; ++j) {
    long pick = static_cast<long>(picks[static_cast<long>(j) * p.lines.step[1]]);
    if (pick < 0 || pick >= static_cast<long>(p.length)) continue;
    if (static_cast<uint>(pick) % threads != thread_index) continue;
    to[pick * p.lines.step[2]] += to_float(from[static_cast<long>(j) * p.lines.step[0]]);
  }
}

template [[host_name("embedding_f32_i32")]] [[kernel]] decltype(embedding<float, int>) embedding<float, int>;
template
    [[host_name("embedding_f32_i64")]] [[kernel]] decltype(embedding<float, long>) embedding<float, long>;
template [[host_name("embedding_f16_i32")]] [[kernel]] decltype(embedding<half, int>) embedding<half, int>;
template [[host_name("embedding_f16_i64")]] [[kernel]] decltype(embedding<half, long>) embedding<half, long>;
template [[host_name("embedding_bf16_i32")]] [[kernel]] decltype(embedding<bf16, int>) embedding<bf16, int>;
template [[host_name("embedding_bf16_i64")]] [[kernel]] decltype(embedding<bf16, long>) embedding<bf16, long>;
template [[host_name(
    "embedding_grad_f32_i32")]] [[kernel]] decltype(embedding_grad<float, int>) embedding_grad<float, int>;
template [[host_name(
    "embedding_grad_f32_i64")]] [[kernel]] decltype(embedding_grad<float, long>) embedding_grad<float, long>;
template [[host_name(
    "embedding_grad_f16_i32")]] [[kernel]] decltype(embedding_grad<half, int>) embedding_grad<half, int>;
template [[host_name(
    "embedding_grad_f16_i64")]] [[kernel]] decltype(embedding_grad<half, long>) embedding_grad<half, long>;
template [[host_name(
    "embedding_grad_bf16_i32")]] [[kernel]] decltype(embedding_grad<bf16, int>) embedding_grad<bf16, int>;
template [[host_name(
    "embedding_grad_bf16_i64")]] [[kernel]] decltype(embedding_grad<bf16, long>) embedding_grad<bf16, long>;
template [[host_name("gather_f32_i32")]] [[kernel]] decltype(gather<float, int>) gather<float, int>;
template [[host_name("gather_f32_i64")]] [[kernel]] decltype(gather<float, long>) gather<float, long>;
template [[host_name("gather_f16_i32")]] [[kernel]] decltype(gather<half, int>) gather<half, int>;
template [[host_name("gather_f16_i64")]] [[kernel]] decltype(gather<half, long>) gather<half, long>;
template [[host_name("gather_bf16_i32")]] [[kernel]] decltype(gather<bf16, int>) gather<bf16, int>;
template [[host_name("gather_bf16_i64")]] [[kernel]] decltype(gather<bf16, long>) gather<bf16, long>;
template
    [[host_name("gather_grad_f32_i32")]] [[kernel]] decltype(gather_grad<float, int>) gather_grad<float, int>;
template [[host_name(
    "gather_grad_f32_i64")]] [[kernel]] decltype(gather_grad<float, long>) gather_grad<float, long>;
template
    [[host_name("gather_grad_f16_i32")]] [[kernel]] decltype(gather_grad<half, int>) gather_grad<half, int>;
template
    [[host_name("gather_grad_f16_i64")]] [[kernel]] decltype(gather_grad<half, long>) gather_grad<half, long>;
template
    [[host_name("gather_grad_bf16_i32")]] [[kernel]] decltype(gather_grad<bf16, int>) gather_grad<bf16, int>;
template [[host_name(
    "gather_grad_bf16_i64")]] [[kernel]] decltype(gather_grad<bf16, long>) gather_grad<bf16, long>;

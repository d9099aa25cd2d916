#include "common.h"

using namespace candela::shader;

/// One threadgroup per row along the gathered dimension: dx [length] = 0, then dx[index[j]] += dy[j] in the
/// order of j. A thread adds only what falls on elements of its own, so that none needs to wait for another
/// and the order of the sums is fixed. The forward op has checked the indices; one that does not fit is
/// passed over.
template <class T, class I>
[[kernel]] void gather_grad(device const T* dy [[buffer(0)]], device const I* index [[buffer(1)]],
                            device float* dx [[buffer(2)]], constant GatherParams& p [[buffer(3)]],
                            uint row [[threadgroup_position_in_grid]],
                            uint thread_index [[thread_index_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]]) {
  long dy_at = 0;
  long index_at = 0;
  long dx_at = 0;
  for (int d = static_cast<int>(p.outer_rank) - 1; d >= 0; --d) {
    uint size = p.outer_shape[d];
    long i = static_cast<long>(row % size);
    dy_at += i * p.dy_outer[d];
    index_at += i * p.index_outer[d];
    dx_at += i * p.dx_outer[d];
    row /= size;
  }
  for (uint i = thread_index; i < p.length; i += threads) dx[dx_at + static_cast<long>(i) * p.dx_step] = 0.0f;
  for (uint j = 0; j < p.picks; ++j) {
    long pick = static_cast<long>(index[index_at + static_cast<long>(j) * p.index_step]);
    if (pick < 0 || pick >= static_cast<long>(p.length)) continue;
    if (static_cast<uint>(pick) % threads != thread_index) continue;
    dx[dx_at + pick * p.dx_step] += to_float(dy[dy_at + static_cast<long>(j) * p.dy_step]);
  }
}

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

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/blocks.h"
#include "backend/cpu/simd_targets.h"
#include "backend/cpu/table.h"
#include "backend/cpu/workspace_slots.h"
#include "backend/dispatch.h"
#include "backend/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/topk_simd.cpp"
#include <hwy/foreach_target.h>

#include "backend/cpu/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace candela::HWY_NAMESPACE {
namespace {

/// A value and its place. Better: NaN before all, then the larger value, then the lower index.
struct Candidate {
  float value;
  std::int32_t index;
};

bool better(const Candidate& a, const Candidate& b) {
  const bool a_nan = std::isnan(a.value);
  const bool b_nan = std::isnan(b.value);
  if (a_nan || b_nan) return a_nan && (!b_nan || a.index < b.index);
  return a.value > b.value || (a.value == b.value && a.index < b.index);
}

/// The k best of a row, best first: a heap holds the best so far with the worst of them on top, so that most
/// elements cost one comparison.
void select_row(const float* x, std::int64_t length, std::int64_t k, std::vector<Candidate>& heap) {
  heap.clear();
  for (std::int64_t i = 0; i < length; ++i) {
    const Candidate here{x[i], static_cast<std::int32_t>(i)};
    if (i < k) {
      heap.push_back(here);
      if (i + 1 == k) std::make_heap(heap.begin(), heap.end(), better);
      continue;
    }
    // Later elements lose ties, so only a larger value (or NaN) can enter.
    if (here.value <= heap.front().value || !better(here, heap.front())) continue;
    std::pop_heap(heap.begin(), heap.end(), better);
    heap.back() = here;
    std::push_heap(heap.begin(), heap.end(), better);
  }
  std::sort_heap(heap.begin(), heap.end(), better);
}

void topk(const TopkArgs& args, Workspace memory) {
  dispatch_floating(args.x.dtype, "topk", [&]<class T>() {
    const Rows<1> rows({args.x}, args.x.rank - 1);
    const std::int64_t grain = row_grain(rows.length);
    WorkspaceSlots slots(memory, concurrent_bodies(rows.count, grain),
                         static_cast<std::size_t>(rows.length) * sizeof(float));
    if (memory.measuring()) return;
    parallel_for(rows.count, grain, [&](std::int64_t begin, std::int64_t end) {
      const WorkspaceSlots::Slot slot(slots);
      auto* floats = slot.array<float>(rows.length);
      std::vector<Candidate> heap;
      heap.reserve(static_cast<std::size_t>(args.k));
      for (std::int64_t row = begin; row < end; ++row) {
        std::int64_t at[1];
        rows.offsets(row, at);
        const T* x = args.x.as<T>() + at[0];
        select_row(read_floats(x, rows.strides[0], rows.length, floats), rows.length, args.k, heap);
        for (std::int64_t i = 0; i < args.k; ++i) {
          const std::int32_t index = heap[static_cast<std::size_t>(i)].index;
          args.values.as<T>()[row * args.k + i] = x[index * rows.strides[0]];
          args.indices.as<std::int32_t>()[row * args.k + i] = index;
        }
      }
    });
  });
}

}  // namespace
}  // namespace candela::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace candela {
namespace {

HWY_EXPORT(topk);

void run_topk(const TopkArgs& args, Workspace memory) {
  HWY_DYNAMIC_DISPATCH(topk)(args, memory);
}

std::string supports_topk(const TopkArgs& args) {
  if (auto refusal = refuse_f64(args.x); !refusal.empty()) return refusal;
  return args.x.last() <= INT32_MAX ? "" : "positions must fit i32";
}

}  // namespace

void fill_topk(KernelTable& table) {
  table.topk.add_measured<run_topk>("heap", supports_topk);
}

}  // namespace candela
#endif

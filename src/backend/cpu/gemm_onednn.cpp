#include "backend/cpu/gemm.h"

#if defined(__APPLE__)

namespace candela::gemm_detail {

std::string_view onednn_refusal(const GemmArgs&) {
  return "this build has no oneDNN";
}

void onednn(const GemmArgs&, Workspace) {}

}  // namespace candela::gemm_detail

namespace candela {

std::string describe_vendor() {
  return "Accelerate";
}

}  // namespace candela

#else

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/parallel.h>

#include "backend/cpu/gemm_cut.h"
#include "backend/cpu/instruction_limit.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/vendor_threads.h"

/// f32 and bf16 products by oneDNN, on the operands as they lie: one primitive for each piece.
namespace candela::gemm_detail {
namespace {

using dnnl::memory;

/// Everything a oneDNN primitive is compiled for.
struct Shape {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t a_strides[2] = {}, b_strides[2] = {}, c_strides[2] = {};
  DType operands = DType::F32, result = DType::F32, bias = DType::F32;
  bool has_bias = false;
  float alpha = 1, beta = 0;

  // NOLINTNEXTLINE(modernize-use-nullptr): it sees one in what the compiler writes
  auto operator<=>(const Shape&) const = default;
};

memory::data_type type_of(DType dtype) {
  return dtype == DType::F32 ? memory::data_type::f32 : memory::data_type::bf16;
}

memory::desc description(std::int64_t rows, std::int64_t cols, DType dtype,
                         const std::int64_t (&strides)[2]) {
  return {{rows, cols}, type_of(dtype), {strides[0], strides[1]}};
}

/// Products whose primitives are kept. A training step at one sequence length has about 24 of them, and a
/// primitive holds some 70 KiB of code and tables: what earlier lengths have left behind would soon
/// outgrow a small model. To make one again takes a tenth of a millisecond.
constexpr std::size_t kKeptPrimitives = 40;

const dnnl::engine& cpu_engine() {
  prepare_vendor();
  static const dnnl::engine engine = [] {
    // Its default, 1024, is made for networks of one shape.
    dnnl::set_primitive_cache_capacity(static_cast<int>(kKeptPrimitives));
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return engine;
}

/// A primitive, which threads execute side by side: each brings its operands and its scratchpad.
struct Primitive {
  /// Unlike its address, never used again.
  std::uint64_t id;
  memory::desc a, b, c, bias, scratchpad;
  bool has_bias;
  dnnl::matmul execute;

  Primitive(const Shape& shape, std::uint64_t number)
      : id(number),
        a(description(shape.m, shape.k, shape.operands, shape.a_strides)),
        b(description(shape.k, shape.n, shape.operands, shape.b_strides)),
        c(description(shape.m, shape.n, shape.result, shape.c_strides)),
        bias({1, shape.n}, type_of(shape.bias), memory::format_tag::ab),
        has_bias(shape.has_bias) {
    dnnl::primitive_attr attributes = scaled_product(shape.alpha, shape.beta);
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc chosen =
        product_of(cpu_engine(), a, b, has_bias ? &bias : nullptr, c, attributes);
    scratchpad = chosen.scratchpad_desc();
    execute = dnnl::matmul(chosen);
  }
};

/// The primitives of the latest shapes, for all threads.
class Primitives {
 public:
  static Primitives& instance() {
    // Never destroyed: at the end of the program threads may still be at work.
    static Primitives& primitives = *new Primitives;
    return primitives;
  }

  std::shared_ptr<const Primitive> find(const Shape& shape) {
    const std::lock_guard lock(mutex_);
    const auto found = places_.find(shape);
    if (found != places_.end()) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return found->second->second;
    }
    require_room_for_code();
    auto made = std::make_shared<const Primitive>(shape, ++made_);
    if (recent_.size() >= kKeptPrimitives) {
      places_.erase(recent_.back().first);
      recent_.pop_back();
    }
    recent_.emplace_front(shape, made);
    places_.emplace(shape, recent_.begin());
    return made;
  }

 private:
  using Entry = std::pair<Shape, std::shared_ptr<const Primitive> >;
  std::mutex mutex_;
  std::uint64_t made_ = 0;
  std::list<Entry> recent_;  // the latest first
  std::map<Shape, std::list<Entry>::iterator> places_;
};

/// What one thread executes primitives with. oneDNN 2.6 makes six allocations for the memory objects that
/// name the operands, which take as long as a small product, and it crashes where one fails: they are kept
/// for the latest primitives and only pointed at other operands, which allocates nothing.
class Executor {
 public:
  void run(const Primitive& primitive, const GemmArgs& p) {
    Handles& handles = handles_of(primitive);
    dnnl_exec_arg_t arguments[5];
    int count = 0;
    const auto pass = [&](int name, memory& handle, void* data) {
      handle.set_data_handle(data);
      arguments[count++] = {name, handle.get()};
    };
    pass(DNNL_ARG_SRC, handles.a, p.a.data);
    pass(DNNL_ARG_WEIGHTS, handles.b, p.b.data);
    pass(DNNL_ARG_DST, handles.c, p.c.data);
    if (primitive.has_bias) pass(DNNL_ARG_BIAS, handles.bias, const_cast<void*>(p.bias.data));
    if (const std::size_t bytes = primitive.scratchpad.get_size(); bytes > 0)
      pass(DNNL_ARG_SCRATCHPAD, handles.scratchpad, scratchpad(bytes));
    dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive.execute.get(), stream_.get(), count, arguments),
                            "could not execute a product");
    dnnl::error::wrap_c_api(dnnl_stream_wait(stream_.get()), "could not wait for a stream");
  }

 private:
  struct Handles {
    std::uint64_t primitive = 0;
    memory a, b, c, bias, scratchpad;
  };

  Handles& handles_of(const Primitive& primitive) {
    Handles& handles = handles_[primitive.id % kKeptHandles];
    if (handles.primitive == primitive.id) return handles;
    require_room_for_code();
    const auto handle = [](const memory::desc& of) { return memory(of, cpu_engine(), DNNL_MEMORY_NONE); };
    handles = {0, handle(primitive.a), handle(primitive.b), handle(primitive.c), {}, {}};
    if (primitive.has_bias) handles.bias = handle(primitive.bias);
    if (primitive.scratchpad.get_size() > 0) handles.scratchpad = handle(primitive.scratchpad);
    handles.primitive = primitive.id;
    return handles;
  }

  void* scratchpad(std::size_t bytes) {
    constexpr std::size_t kAlignment = 64;
    if (scratchpad_.size() < bytes + kAlignment) {
      scratchpad_ = {};
      scratchpad_.resize(bytes + kAlignment);
    }
    void* at = scratchpad_.data();
    std::size_t room = scratchpad_.size();
    return std::align(kAlignment, bytes, at, room);
  }

  static constexpr std::size_t kKeptHandles = 16;
  dnnl::stream stream_ = (require_room_for_code(), dnnl::stream(cpu_engine()));
  std::vector<std::byte> scratchpad_;
  Handles handles_[kKeptHandles];
};

/// The strides that oneDNN is told of: one is 1, the other the leading dimension.
void plain_strides(const Matrix& x, std::int64_t rows, std::int64_t cols, std::int64_t (&out)[2]) {
  BlasMatrix plain;
  as_blas(x, rows, cols, plain);
  out[0] = plain.transposed ? 1 : plain.ld;
  out[1] = plain.transposed ? plain.ld : 1;
}

#if defined(__x86_64__)
/// Whether oneDNN uses all of `isa`, which has one bit per instruction set.
bool vendor_uses(dnnl_cpu_isa_t isa) {
  static const unsigned used = [] {
    prepare_vendor();
    return static_cast<unsigned>(dnnl_get_effective_cpu_isa());
  }();
  const auto needed = static_cast<unsigned>(isa);
  return (used & needed) == needed;
}
#endif

/// Whether this processor multiplies bf16; where it does not, f32 is faster.
bool multiplies_bf16() {
#if defined(__x86_64__)
  return vendor_uses(dnnl_cpu_isa_avx512_core_bf16);
#else
  return false;
#endif
}

}  // namespace

void require_room_for_code() {
  constexpr std::size_t kRoom = std::size_t{4} << 20U;  // several times what one primitive takes
  // Small: a large block that is freed raises the size from which glibc maps blocks, and oneDNN's buffers of
  // a megabyte would stay in the heap of each thread from then on. Where pages can be had, so can more heap.
  constexpr std::size_t kHeap = std::size_t{64} << 10U;
  void* const heap = std::malloc(kHeap);
  const bool has_heap = heap != nullptr;
  std::free(heap);
  void* const pages = ::mmap(nullptr, kRoom, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const bool has_pages = pages != MAP_FAILED;
  if (has_pages) ::munmap(pages, kRoom);
  require<DeviceError>(has_heap && has_pages,
                       "matmul: there is no room for the code of a product ({} bytes): out of memory; use a "
                       "smaller batch, a shorter length or a smaller file",
                       kRoom);
}

std::string_view onednn_refusal(const GemmArgs& p) {
  BlasMatrix probe;
  if (p.a.dtype != p.b.dtype || (p.a.dtype != DType::F32 && p.a.dtype != DType::BF16))
    return "takes f32 or bf16";
  if (p.a.dtype == DType::BF16 && !multiplies_bf16()) return "this processor does not multiply bf16";
  if (p.c.dtype != DType::F32 && p.c.dtype != p.a.dtype) return "gives f32, or bf16 from bf16";
  const auto alpha = static_cast<float>(p.alpha);
  if (alpha == 0) return "does not let NaN through where alpha is 0";
  // As parts of the key by which primitives are found, they would equal every other number.
  if (!std::isfinite(alpha) || !std::isfinite(static_cast<float>(p.beta))) return "takes finite factors";
  if (p.bias.data != nullptr && (p.bias.stride != 1 || p.bias.dtype == DType::F16 || p.alpha != 1)) {
    return "adds a bias of unit stride, bf16 or f32, to an unscaled product";
  }
  if (!as_blas(p.a, p.m, p.k, probe) || !as_blas(p.b, p.k, p.n, probe))
    return "needs matrices with one unit stride";
  if (!as_blas(p.c, p.m, p.n, probe) || probe.transposed) return "writes rows";
  return {};
}

namespace {

Shape shape_of(const GemmArgs& p) {
  Shape shape;
  shape.m = p.m;
  shape.n = p.n;
  shape.k = p.k;
  plain_strides(p.a, p.m, p.k, shape.a_strides);
  plain_strides(p.b, p.k, p.n, shape.b_strides);
  plain_strides(p.c, p.m, p.n, shape.c_strides);
  shape.operands = p.a.dtype;
  shape.result = p.c.dtype;
  shape.has_bias = p.bias.data != nullptr;
  shape.bias = shape.has_bias ? p.bias.dtype : DType::F32;
  shape.alpha = static_cast<float>(p.alpha);
  shape.beta = static_cast<float>(p.beta);
  return shape;
}

/// The primitives of the pieces of a product, found before the threads begin, so that these do not queue for
/// the table. Pieces at the lower and right edge are smaller: at most four shapes.
class PiecePrimitives {
 public:
  PiecePrimitives(const GemmArgs& p, const Cut& cut)
      : rows_(std::min(cut.rows, p.m)), cols_(std::min(cut.cols, p.n)) {
    for (const std::int64_t m : {rows_, p.m % rows_}) {
      for (const std::int64_t n : {cols_, p.n % cols_}) {
        if (m == 0 || n == 0) continue;
        GemmArgs piece = p;
        piece.m = m;
        piece.n = n;
        place(piece) = Primitives::instance().find(shape_of(piece));
      }
    }
  }
  const Primitive& of(const GemmArgs& piece) const { return *found_[piece.m != rows_][piece.n != cols_]; }

 private:
  std::shared_ptr<const Primitive>& place(const GemmArgs& piece) {
    return found_[piece.m != rows_][piece.n != cols_];
  }

  std::int64_t rows_, cols_;
  std::shared_ptr<const Primitive> found_[2][2];
};

}  // namespace

void onednn(const GemmArgs& p, Workspace memory) {
  if (memory.measuring()) return;
  const Cut cut = cut_for(p);
  try {
    // Held where primitives are made, too: they are made for a number of threads.
    const OneVendorThread alone;
    const PiecePrimitives primitives(p, cut);
    for_each_piece(p, cut, [&](const GemmArgs& piece) {
      const OneVendorThread alone_here;
      thread_local Executor executor;
      executor.run(primitives.of(piece), piece);
    });
  } catch (const dnnl::error& error) {
    throw DeviceError(
        fmt::format("matmul: oneDNN failed on [{}, {}] x [{}, {}]: {}", p.m, p.k, p.k, p.n, error.what()));
  }
}

}  // namespace candela::gemm_detail

namespace candela {

std::string describe_vendor() {
  const dnnl_version_t& version = *dnnl_version();
  std::string text = fmt::format("oneDNN {}.{}.{}", version.major, version.minor, version.patch);
#if defined(__x86_64__)
  const auto& uses = gemm_detail::vendor_uses;
  if (uses(dnnl_cpu_isa_avx512_core_amx)) return text + ", up to AMX";
  if (uses(dnnl_cpu_isa_avx512_core_bf16)) return text + ", up to AVX-512 with bf16";
  if (uses(dnnl_cpu_isa_avx512_core)) return text + ", up to AVX-512";
  if (uses(dnnl_cpu_isa_avx2)) return text + ", up to AVX2";
  text += ", up to SSE4.1";
#endif
  return text;
}

}  // namespace candela

#endif

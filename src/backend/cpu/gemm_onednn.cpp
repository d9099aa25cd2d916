#include "backend/cpu/gemm.h"

#if defined(__APPLE__)

namespace candela::gemm_detail {

std::string onednn_supports(const Product&) {
  return "this build has no oneDNN";
}

void onednn(const Product&, Workspace) {}

}  // namespace candela::gemm_detail

namespace candela {

std::string describe_vendor() {
  return "Accelerate";
}

}  // namespace candela

#else

#include <array>
#include <cmath>
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

/// The memory objects that one execution names its operands by. oneDNN 2.6 makes six allocations for them and
/// crashes where one fails, so they are kept and only pointed at other operands, which allocates nothing.
struct Operands {
  memory a, b, c, bias, scratchpad;
};

/// A primitive, which threads execute side by side: each with operands and a scratchpad of its own.
class Primitive {
 public:
  explicit Primitive(const Shape& shape)
      : a_(description(shape.m, shape.k, shape.operands, shape.a_strides)),
        b_(description(shape.k, shape.n, shape.operands, shape.b_strides)),
        c_(description(shape.m, shape.n, shape.result, shape.c_strides)),
        bias_({1, shape.n}, type_of(shape.bias), memory::format_tag::ab),
        has_bias_(shape.has_bias) {
    dnnl::primitive_attr attributes = scaled_product(shape.alpha, shape.beta);
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc chosen =
        product_of(cpu_engine(), a_, b_, has_bias_ ? &bias_ : nullptr, c_, attributes);
    scratchpad_ = chosen.scratchpad_desc();
    matmul_ = dnnl::matmul(chosen);
  }

  std::size_t scratchpad_bytes() const { return scratchpad_.get_size(); }

  /// `scratchpad` holds scratchpad_bytes(), aligned to 64.
  void execute(const dnnl::stream& stream, const Product& p, void* scratchpad) const {
    const Loan operands(*this);
    std::array<dnnl_exec_arg_t, 5> arguments;
    int count = 0;
    const auto add = [&](int name, const memory& object, void* data) {
      object.set_data_handle(data);
      arguments[static_cast<std::size_t>(count++)] = {name, object.get()};
    };
    add(DNNL_ARG_SRC, operands->a, p.a.data);
    add(DNNL_ARG_WEIGHTS, operands->b, p.b.data);
    add(DNNL_ARG_DST, operands->c, p.c.data);
    if (has_bias_) add(DNNL_ARG_BIAS, operands->bias, const_cast<void*>(p.bias.data));
    if (scratchpad_bytes() > 0) add(DNNL_ARG_SCRATCHPAD, operands->scratchpad, scratchpad);
    dnnl::error::wrap_c_api(dnnl_primitive_execute(matmul_.get(), stream.get(), count, arguments.data()),
                            "could not execute a primitive");
    dnnl::error::wrap_c_api(dnnl_stream_wait(stream.get()), "could not wait for a stream");
  }

 private:
  /// Operands for one execution, which go back to the primitive afterwards.
  class Loan {
   public:
    explicit Loan(const Primitive& of) : of_(of), operands_(of.take()) {}
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    ~Loan() {
      const std::lock_guard lock(of_.mutex_);
      of_.idle_.push_back(std::move(operands_));  // take() has made room
    }
    const Operands* operator->() const { return operands_.get(); }

   private:
    const Primitive& of_;
    std::unique_ptr<Operands> operands_;
  };

  std::unique_ptr<Operands> take() const {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Operands> operands = std::move(idle_.back());
      idle_.pop_back();
      return operands;
    }
    require_room_for_code();
    idle_.reserve(made_ + 1);
    const auto object = [](const memory::desc& of) { return memory(of, cpu_engine(), DNNL_MEMORY_NONE); };
    auto operands = std::make_unique<Operands>();
    operands->a = object(a_);
    operands->b = object(b_);
    operands->c = object(c_);
    if (has_bias_) operands->bias = object(bias_);
    if (scratchpad_bytes() > 0) operands->scratchpad = object(scratchpad_);
    ++made_;
    return operands;
  }

  memory::desc a_, b_, c_, bias_, scratchpad_;
  bool has_bias_;
  dnnl::matmul matmul_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Operands> > idle_;
  mutable std::size_t made_ = 0;
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
    auto made = std::make_shared<const Primitive>(shape);
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
  std::list<Entry> recent_;  // the latest first
  std::map<Shape, std::list<Entry>::iterator> places_;
};

/// What one thread executes primitives with.
struct Executor {
  dnnl::stream stream = (require_room_for_code(), dnnl::stream(cpu_engine()));
  std::vector<std::byte> scratchpad;

  void run(const Primitive& primitive, const Product& p) {
    constexpr std::size_t kAlignment = 64;
    const std::size_t bytes = primitive.scratchpad_bytes();
    if (bytes > 0 && scratchpad.size() < bytes + kAlignment) {
      scratchpad = {};
      scratchpad.resize(bytes + kAlignment);
    }
    void* at = scratchpad.data();
    std::size_t room = scratchpad.size();
    if (bytes > 0) std::align(kAlignment, bytes, at, room);
    primitive.execute(stream, p, at);
  }
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

std::string onednn_supports(const Product& p) {
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

/// On the calling thread alone.
void multiply_piece(const Product& p) {
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
  // Held where primitives are made, too: they are made for a number of threads.
  const OneVendorThread alone;
  try {
    thread_local Executor executor;
    executor.run(*Primitives::instance().find(shape), p);
  } catch (const dnnl::error& error) {
    throw DeviceError(
        fmt::format("matmul: oneDNN failed on [{}, {}] x [{}, {}]: {}", p.m, p.k, p.k, p.n, error.what()));
  }
}

}  // namespace

void onednn(const Product& p, Workspace memory) {
  if (memory.measuring()) return;
  for_each_piece(p, multiply_piece);
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

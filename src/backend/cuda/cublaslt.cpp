#include "backend/cuda/cublaslt.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cublasLt.h>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <candela/core/error.h>

#include "backend/cuda/library.h"
#include "backend/cuda/operand.h"
#include "backend/cuda/stream.h"
#include "backend/tuning.h"

namespace candela::cuda {
namespace {

/// What cuBLASLt wants on Hopper; algorithms that split the depth keep their parts in it.
constexpr std::size_t kWorkspace = std::size_t{64} << 20U;

/// Of the heuristic, where tuning is on; what smaller products cost is not the algorithm's.
constexpr int kMaxAlgorithms = 8;
constexpr double kMeasuredFlops = 1e9;

/// The functions that are called, by the names of the library.
struct Functions {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) version = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmulDescCreate) create_desc = nullptr;
  decltype(&cublasLtMatmulDescDestroy) destroy_desc = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_desc = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) create_layout = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) set_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;

  explicit Functions(const Library& library) {
    library.bind(create, "cublasLtCreate");
    library.bind(destroy, "cublasLtDestroy");
    library.bind(version, "cublasLtGetVersion");
    library.bind(matmul, "cublasLtMatmul");
    library.bind(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    library.bind(create_desc, "cublasLtMatmulDescCreate");
    library.bind(destroy_desc, "cublasLtMatmulDescDestroy");
    library.bind(set_desc, "cublasLtMatmulDescSetAttribute");
    library.bind(create_layout, "cublasLtMatrixLayoutCreate");
    library.bind(destroy_layout, "cublasLtMatrixLayoutDestroy");
    library.bind(set_layout, "cublasLtMatrixLayoutSetAttribute");
    library.bind(create_preference, "cublasLtMatmulPreferenceCreate");
    library.bind(destroy_preference, "cublasLtMatmulPreferenceDestroy");
    library.bind(set_preference, "cublasLtMatmulPreferenceSetAttribute");
  }
};

void check_blas(cublasStatus_t status, std::string_view what) {
  check(status == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown, what);
}

/// How a row-major library's matrix lies for a column-major one: `turned` if its columns lie side by side.
struct Lie {
  bool turned;
  std::int64_t leading;
};

std::optional<Lie> lie_of(const TensorArg& x) {
  const std::int64_t rows = x.shape[x.rank - 2];
  const std::int64_t columns = x.shape[x.rank - 1];
  const std::int64_t row_stride = x.strides[x.rank - 2];
  const std::int64_t column_stride = x.strides[x.rank - 1];
  if (column_stride == 1 || columns == 1) {
    const std::int64_t leading = rows == 1 ? std::max(columns, row_stride) : row_stride;
    if (leading >= columns) return Lie{false, leading};
  }
  if (row_stride == 1 || rows == 1) {
    const std::int64_t leading = columns == 1 ? std::max(rows, column_stride) : column_stride;
    if (leading >= rows) return Lie{true, leading};
  }
  return std::nullopt;
}

/// The leading dimensions as one: its size, and the step of every operand.
struct Batch {
  std::int64_t count = 1;
  std::int64_t step[3] = {};
};

std::optional<Batch> batch_of(const MatmulArgs& args) {
  Batch batch;
  const TensorArg* operands[3] = {&args.a, &args.b, &args.out};
  for (int d = args.out.rank - 3; d >= 0; --d) {
    const std::int64_t size = args.out.shape[d];
    if (size == 1) continue;
    for (int n = 0; n < 3; ++n) {
      if (batch.count == 1) {
        batch.step[n] = operands[n]->strides[d];
      } else if (operands[n]->strides[d] != batch.step[n] * batch.count) {
        return std::nullopt;
      }
    }
    batch.count *= size;
  }
  return batch;
}

cudaDataType_t data_type(DType dtype) {
  return dtype == DType::F32 ? CUDA_R_32F : (dtype == DType::BF16 ? CUDA_R_16BF : CUDA_R_16F);
}

/// The largest power of two up to 16 that divides an address.
std::int64_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data) | 16U;
  return static_cast<std::int64_t>(address & ~(address - 1));
}

class CublasLt final : public Blas {
 public:
  CublasLt(CudaStream& stream, const Library& library) : stream_(stream), lt_(library) {
    check_blas(lt_.create(&handle_), "cublasLtCreate");
    check(cudaMalloc(&workspace_, kWorkspace), "cuBLASLt's workspace");
  }
  ~CublasLt() override {
    for (auto& [key, plan] : plans_) destroy(plan);
    cudaFree(workspace_);
    lt_.destroy(handle_);
  }

  bool run(const MatmulArgs& args) override;

 private:
  /// b comes first: a row-major product is the column-major one of the swapped operands.
  struct Plan {
    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatrixLayout_t first = nullptr, second = nullptr, out = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    bool found = false;
  };
  using Key = std::array<std::int64_t, 18>;

  Plan make_plan(const MatmulArgs& args, const Batch& batch);
  cublasLtMatrixLayout_t layout_of(const TensorArg& x, const Lie& lie, const Batch& batch, int operand);
  /// The heuristic's algorithms for a plan, the most promising first.
  std::vector<cublasLtMatmulAlgo_t> ask_heuristic(const MatmulArgs& args, const Plan& plan);
  /// The fastest of them, as measured or as the tuning table has it.
  std::size_t measure(const MatmulArgs& args, const Plan& plan,
                      const std::vector<cublasLtMatmulAlgo_t>& algorithms);
  void destroy(Plan& plan);
  void enqueue(const MatmulArgs& args, const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, void* result);

  CudaStream& stream_;
  Functions lt_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::mutex mutex_;
  std::map<Key, Plan> plans_;
};

cublasLtMatrixLayout_t CublasLt::layout_of(const TensorArg& x, const Lie& lie, const Batch& batch,
                                           int operand) {
  const auto rows = static_cast<std::uint64_t>(x.shape[x.rank - 2]);
  const auto columns = static_cast<std::uint64_t>(x.shape[x.rank - 1]);
  cublasLtMatrixLayout_t layout = nullptr;
  check_blas(lt_.create_layout(&layout, data_type(x.dtype), lie.turned ? rows : columns,
                               lie.turned ? columns : rows, lie.leading),
             "cublasLtMatrixLayoutCreate");
  if (batch.count > 1) {
    const auto count = static_cast<std::int32_t>(batch.count);
    const std::int64_t step = batch.step[operand];
    lt_.set_layout(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count));
    lt_.set_layout(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof(step));
  }
  return layout;
}

std::vector<cublasLtMatmulAlgo_t> CublasLt::ask_heuristic(const MatmulArgs& args, const Plan& plan) {
  cublasLtMatmulPreference_t preference = nullptr;
  check_blas(lt_.create_preference(&preference), "cublasLtMatmulPreferenceCreate");
  const std::size_t most = kWorkspace;
  lt_.set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof(most));
  const auto align = [&](cublasLtMatmulPreferenceAttributes_t which, const void* data) {
    const auto bytes = static_cast<std::uint32_t>(alignment_of(data));
    lt_.set_preference(preference, which, &bytes, sizeof(bytes));
  };
  align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, args.b.data);
  align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, args.a.data);
  align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, args.out.data);
  align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, args.out.data);
  std::array<cublasLtMatmulHeuristicResult_t, kMaxAlgorithms> results{};
  int count = 0;
  const cublasStatus_t status =
      lt_.heuristic(handle_, plan.desc, plan.first, plan.second, plan.out, plan.out, preference,
                    Tuning::instance().enabled() ? kMaxAlgorithms : 1, results.data(), &count);
  lt_.destroy_preference(preference);
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i) {
    if (results[static_cast<std::size_t>(i)].state == CUBLAS_STATUS_SUCCESS)
      algorithms.push_back(results[static_cast<std::size_t>(i)].algo);
  }
  return algorithms;
}

std::size_t CublasLt::measure(const MatmulArgs& args, const Plan& plan,
                              const std::vector<cublasLtMatmulAlgo_t>& algorithms) {
  const double flops = 2.0 * static_cast<double>(args.out.numel()) * static_cast<double>(args.a.last());
  if (!Tuning::instance().enabled() || algorithms.size() < 2 || args.out.rank != 2 || flops < kMeasuredFlops)
    return 0;
  const Lie a = *lie_of(args.a);
  const Lie b = *lie_of(args.b);
  const std::int64_t leading = lie_of(args.out)->leading;
  const std::string key =
      fmt::format("cublaslt {} {} to {} {}{} m{} n{} k{} ld{},{},{}{}{}", lt_.version(),
                  to_string(args.a.dtype), to_string(args.out.dtype), a.turned ? 't' : 'n',
                  b.turned ? 't' : 'n', args.out.shape[0], args.out.shape[1], args.a.last(), a.leading,
                  b.leading, leading, args.bias.present() ? " bias" : "", args.beta != 0 ? " add" : "");
  std::vector<std::string> names;
  for (std::size_t i = 0; i < algorithms.size(); ++i) names.push_back(fmt::format("algorithm {}", i));
  if (const std::optional<TunedChoice> known = Tuning::instance().find(stream_.name(), key)) {
    const auto found = std::find(names.begin(), names.end(), known->implementation);
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  }
  if (stream_.recording()) return 0;  // recorded work does not run
  // The result goes elsewhere: the product may add to it.
  const StoragePtr result =
      stream_.scratch(static_cast<std::size_t>(args.out.shape[0] * leading) * size_of(args.out.dtype));
  std::vector<TuningCandidate> candidates;
  for (std::size_t i = 0; i < algorithms.size(); ++i) {
    candidates.push_back({names[i], [this, &args, &plan, &result, algorithm = &algorithms[i]] {
                            // Several, so that the wait behind them weighs little.
                            for (int run = 0; run < 4; ++run) enqueue(args, plan, *algorithm, result->data());
                            stream_.synchronize();
                          }});
  }
  return tune(stream_.name(), key, candidates);
}

CublasLt::Plan CublasLt::make_plan(const MatmulArgs& args, const Batch& batch) {
  Plan plan;
  check_blas(lt_.create_desc(&plan.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
  const Lie a = *lie_of(args.a);
  const Lie b = *lie_of(args.b);
  const cublasOperation_t first = b.turned ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = a.turned ? CUBLAS_OP_T : CUBLAS_OP_N;
  lt_.set_desc(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof(first));
  lt_.set_desc(plan.desc, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof(second));
  if (args.bias.present()) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t type = data_type(args.bias.dtype);
    lt_.set_desc(plan.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue));
    lt_.set_desc(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof(type));
    lt_.set_desc(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &args.bias.data, sizeof(void*));
  }
  plan.first = layout_of(args.b, b, batch, 1);
  plan.second = layout_of(args.a, a, batch, 0);
  plan.out = layout_of(args.out, *lie_of(args.out), batch, 2);
  const std::vector<cublasLtMatmulAlgo_t> algorithms = ask_heuristic(args, plan);
  plan.found = !algorithms.empty();
  if (plan.found) plan.algorithm = algorithms[measure(args, plan, algorithms)];
  return plan;
}

void CublasLt::destroy(Plan& plan) {
  for (cublasLtMatrixLayout_t layout : {plan.first, plan.second, plan.out}) lt_.destroy_layout(layout);
  lt_.destroy_desc(plan.desc);
}

bool CublasLt::run(const MatmulArgs& args) {
  const Batch batch = *batch_of(args);
  const Lie a = *lie_of(args.a);
  const Lie b = *lie_of(args.b);
  const int last = args.out.rank - 1;
  const Key key = {args.out.shape[last - 1],
                   args.out.shape[last],
                   args.a.shape[last],
                   a.turned,
                   a.leading,
                   b.turned,
                   b.leading,
                   lie_of(args.out)->leading,
                   batch.count,
                   batch.step[0],
                   batch.step[1],
                   batch.step[2],
                   static_cast<std::int64_t>(args.a.dtype),
                   static_cast<std::int64_t>(args.out.dtype),
                   args.bias.present(),
                   args.beta != 0,
                   alignment_of(args.a.data) * 32 + alignment_of(args.b.data),
                   alignment_of(args.out.data) * 32 + alignment_of(args.bias.data)};
  const std::lock_guard lock(mutex_);
  auto found = plans_.find(key);
  if (found == plans_.end()) found = plans_.emplace(key, make_plan(args, batch)).first;
  Plan& plan = found->second;
  if (!plan.found) return false;
  if (args.bias.present())
    lt_.set_desc(plan.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &args.bias.data, sizeof(void*));
  enqueue(args, plan, plan.algorithm, args.out.data);
  return true;
}

void CublasLt::enqueue(const MatmulArgs& args, const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                       void* result) {
  const auto alpha = static_cast<float>(args.alpha);
  const auto beta = static_cast<float>(args.beta);
  check_blas(
      lt_.matmul(handle_, plan.desc, &alpha, args.b.data, plan.first, args.a.data, plan.second, &beta, result,
                 plan.out, result, plan.out, &algorithm, workspace_, kWorkspace, stream_.handle()),
      "cublasLtMatmul");
}

}  // namespace

std::string Blas::supports(const MatmulArgs& args) {
  if (!is_kernel_float(args.a.dtype) || args.a.dtype != args.b.dtype)
    return "takes operands of one of f32, bf16 and f16";
  if (args.out.dtype != args.a.dtype && args.out.dtype != DType::F32)
    return "the result must be f32 or of the operands' dtype";
  if (args.a.last() == 0) return "needs a depth of at least 1";
  const std::optional<Lie> out = lie_of(args.out);
  if (!lie_of(args.a) || !lie_of(args.b) || !out || out->turned)
    return "takes matrices whose rows or columns lie side by side";
  if (!batch_of(args)) return "takes one batch stride";
  if (args.bias.present() &&
      (args.bias.dtype != args.out.dtype || (args.bias.strides[0] != 1 && args.bias.shape[0] != 1)))
    return "takes a bias of the result's dtype";
  return {};
}

std::unique_ptr<Blas> Blas::open([[maybe_unused]] CudaStream& stream) {
#if defined(CANDELA_CUDA_VENDOR)
  const char* wanted = std::getenv("CANDELA_CUDA_BLAS");
  if (wanted != nullptr && std::string_view(wanted) == "0") return nullptr;
  static const Library library("libcublasLt.so.13");
  if (library.loaded()) return std::make_unique<CublasLt>(stream, library);
#endif
  return nullptr;
}

}  // namespace candela::cuda

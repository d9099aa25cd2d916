#include "backend/cuda/cudnn.h"

#include "backend/cuda/operand.h"
#include "backend/cuda/stream.h"

#if defined(CANDELA_CUDNN)
#include <array>
#include <cstdlib>
#include <cudnn_frontend.h>
#include <map>
#include <mutex>
#include <unordered_map>

#include <candela/core/error.h>

#include "backend/cuda/kernels/attention.h"
#include "backend/cuda/library.h"

namespace cudnn_frontend {
/// The library as cudnn-frontend's calls find it.
void* cudnn_dlhandle = nullptr;
}  // namespace cudnn_frontend
#endif

namespace candela::cuda {

std::string Cudnn::supports(const AttentionArgs& args) {
  if (args.q.dtype != DType::BF16 && args.q.dtype != DType::F16) return "takes bf16 and f16";
  if (args.distance_bias.present() || args.window_after > 0)
    return "takes no distance bias and no window after a query";
  if (args.q_start.present() || args.cu_seqlens.present()) return "takes rows without offsets and packing";
  if (args.q.shape[1] != args.k.shape[1] || args.q.shape[1] < 64)
    return "takes as many queries as keys, 64 at least";
  if (args.q.shape[3] % 8 != 0 || args.q.shape[3] > 128)
    return "takes heads of 8 to 128 elements, in groups of 8";
  if (args.window > 0 && !args.causal) return "takes a window with the causal mask";
  if (args.scale <= 0) return "takes a positive scale";
  for (const TensorArg* x : {&args.q, &args.k, &args.v, &args.out}) {
    bool aligned = reinterpret_cast<std::uintptr_t>(x->data) % 16 == 0;
    for (int d = 0; d < 3; ++d) aligned = aligned && x->strides[d] % 8 == 0 && x->strides[d] > 0;
    if (!aligned) return "takes heads of 16-byte alignment";
  }
  return {};
}

#if defined(CANDELA_CUDNN)
namespace {

namespace fe = cudnn_frontend;

enum Uid : std::int64_t { kQ = 1, kK, kV, kOut, kStats, kDout, kDq, kDk, kDv };

struct Plan {
  /// null: there is none
  std::shared_ptr<fe::graph::Graph> graph;
  std::int64_t workspace = 0;
};

using Key = std::array<std::int64_t, 36>;

/// Dimensions as cuDNN counts them, [B, H, T, D], of an operand [B, T, H, D].
std::vector<std::int64_t> dims_of(const TensorArg& x) {
  return {x.shape[0], x.shape[2], x.shape[1], x.shape[3]};
}
std::vector<std::int64_t> strides_of(const TensorArg& x) {
  return {x.strides[0], x.strides[2], x.strides[1], 1};
}

class CudnnAttention final : public Cudnn {
 public:
  explicit CudnnAttention(CudaStream& stream) : stream_(stream) {
    check(fe::detail::create_handle(&handle_) == CUDNN_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown,
          "cudnnCreate");
    check(fe::detail::set_stream(handle_, stream.handle()) == CUDNN_STATUS_SUCCESS ? cudaSuccess
                                                                                   : cudaErrorUnknown,
          "cudnnSetStream");
  }
  ~CudnnAttention() override {
    plans_.clear();
    fe::detail::destroy_handle(handle_);
  }

  bool attention(const AttentionArgs& args, float* statistics) override;
  bool attention_grad(const AttentionGradArgs& args, float* statistics) override;

 private:
  Plan& plan_of(const AttentionArgs& args, const AttentionGradArgs* grad);
  std::shared_ptr<fe::graph::Graph> describe(const AttentionArgs& args, const AttentionGradArgs* grad);
  void execute(const Plan& plan, std::unordered_map<std::int64_t, void*>& pack, std::string_view op);

  CudaStream& stream_;
  cudnnHandle_t handle_ = nullptr;
  std::mutex mutex_;
  std::map<Key, Plan> plans_;
};

template <class Attributes>
void set_mask(Attributes& attributes, const AttentionArgs& args) {
  attributes.set_attn_scale(static_cast<float>(args.scale));
  if (!args.causal) return;
  attributes.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
  if (args.window > 0) attributes.set_diagonal_band_left_bound(static_cast<int>(args.window));
}

std::shared_ptr<fe::graph::Graph> CudnnAttention::describe(const AttentionArgs& args,
                                                           const AttentionGradArgs* grad) {
  auto graph = std::make_shared<fe::graph::Graph>();
  graph->set_io_data_type(args.q.dtype == DType::BF16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::HALF)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const auto input = [&](const char* name, const TensorArg& x, Uid uid) {
    return graph->tensor(fe::graph::Tensor_attributes()
                             .set_name(name)
                             .set_dim(dims_of(x))
                             .set_stride(strides_of(x))
                             .set_uid(uid));
  };
  const auto output = [](const std::shared_ptr<fe::graph::Tensor_attributes>& y, const TensorArg& x,
                         Uid uid) {
    y->set_output(true).set_dim(dims_of(x)).set_stride(strides_of(x)).set_uid(uid);
  };
  const std::int64_t rows = args.q.shape[1];
  const std::vector<std::int64_t> stats_dims = {args.q.shape[0], args.q.shape[2], rows, 1};
  const std::vector<std::int64_t> stats_strides = {args.q.shape[2] * rows, rows, 1, 1};
  const auto q = input("q", args.q, kQ);
  const auto k = input("k", args.k, kK);
  const auto v = input("v", args.v, kV);
  if (grad == nullptr) {
    auto attributes =
        fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(args.top.present());
    set_mask(attributes, args);
    const auto [out, stats] = graph->sdpa(q, k, v, attributes);
    output(out, args.out, kOut);
    if (args.top.present()) {
      stats->set_output(true)
          .set_data_type(fe::DataType_t::FLOAT)
          .set_dim(stats_dims)
          .set_stride(stats_strides)
          .set_uid(kStats);
    }
    return graph;
  }
  const auto out = input("out", args.out, kOut);
  const auto dout = input("dout", grad->dout, kDout);
  const auto stats = graph->tensor(fe::graph::Tensor_attributes()
                                       .set_name("stats")
                                       .set_dim(stats_dims)
                                       .set_stride(stats_strides)
                                       .set_data_type(fe::DataType_t::FLOAT)
                                       .set_uid(kStats));
  auto attributes =
      fe::graph::SDPA_backward_attributes().set_name("attention_grad").set_deterministic_algorithm(true);
  set_mask(attributes, args);
  const auto [dq, dk, dv] = graph->sdpa_backward(q, k, v, out, dout, stats, attributes);
  output(dq, grad->dq, kDq);
  output(dk, grad->dk, kDk);
  output(dv, grad->dv, kDv);
  return graph;
}

Plan& CudnnAttention::plan_of(const AttentionArgs& args, const AttentionGradArgs* grad) {
  Key key{};
  std::size_t at = 0;
  for (int d = 0; d < 4; ++d) key[at++] = args.q.shape[d];
  key[at++] = args.k.shape[2];
  const auto add = [&](const TensorArg& x) {
    for (int d = 0; d < 3; ++d) key[at++] = x.strides[d];
  };
  for (const TensorArg* x : {&args.q, &args.k, &args.v, &args.out}) add(*x);
  if (grad != nullptr) {
    for (const TensorArg* x : {&grad->dout, &grad->dq, &grad->dk, &grad->dv}) add(*x);
  }
  at = 29;
  key[at++] = args.causal;
  key[at++] = args.window;
  key[at++] = static_cast<std::int64_t>(args.q.dtype);
  key[at++] = args.top.present();
  key[at++] = grad != nullptr;
  key[at++] = static_cast<std::int64_t>(args.scale * 1e9);
  const auto [found, fresh] = plans_.try_emplace(key);
  if (!fresh) return found->second;
  auto graph = describe(args, grad);
  const bool built = graph->validate().is_good() && graph->build_operation_graph(handle_).is_good() &&
                     graph->create_execution_plans({fe::HeurMode_t::A}).is_good() &&
                     graph->check_support().is_good() && graph->build_plans().is_good() &&
                     graph->get_workspace_size(found->second.workspace).is_good();
  if (built) found->second.graph = std::move(graph);
  return found->second;
}

void CudnnAttention::execute(const Plan& plan, std::unordered_map<std::int64_t, void*>& pack,
                             std::string_view op) {
  const StoragePtr workspace =
      stream_.scratch(static_cast<std::size_t>(std::max<std::int64_t>(plan.workspace, 1)));
  auto status = plan.graph->execute(handle_, pack, workspace->data());
  require<DeviceError>(status.is_good(), "cuda: {}: cuDNN failed: {}", op, status.get_message());
}

bool CudnnAttention::attention(const AttentionArgs& args, float* statistics) {
  const std::lock_guard lock(mutex_);
  const Plan& plan = plan_of(args, nullptr);
  if (plan.graph == nullptr) return false;
  std::unordered_map<std::int64_t, void*> pack = {
      {kQ, args.q.data}, {kK, args.k.data}, {kV, args.v.data}, {kOut, args.out.data}};
  if (args.top.present()) pack[kStats] = statistics;
  execute(plan, pack, "attention");
  if (args.top.present()) {
    check(launch_keep_statistics(statistics, args.top.as<float>(), args.total.as<float>(), args.top.numel(),
                                 stream_.handle()),
          "attention");
  }
  return true;
}

bool CudnnAttention::attention_grad(const AttentionGradArgs& args, float* statistics) {
  const std::lock_guard lock(mutex_);
  const AttentionArgs& forward = args.forward;
  const Plan& plan = plan_of(forward, &args);
  if (plan.graph == nullptr) return false;
  check(launch_join_statistics(forward.top.as<float>(), forward.total.as<float>(), statistics,
                               forward.top.numel(), static_cast<float>(forward.scale), stream_.handle()),
        "attention_grad");
  std::unordered_map<std::int64_t, void*> pack = {
      {kQ, forward.q.data},     {kK, forward.k.data},    {kV, forward.v.data},
      {kOut, forward.out.data}, {kDout, args.dout.data}, {kDq, args.dq.data},
      {kDk, args.dk.data},      {kDv, args.dv.data},     {kStats, statistics}};
  execute(plan, pack, "attention_grad");
  return true;
}

}  // namespace

std::unique_ptr<Cudnn> Cudnn::open(CudaStream& stream) {
  const char* wanted = std::getenv("CANDELA_CUDA_CUDNN");
  if (wanted != nullptr && std::string_view(wanted) == "0") return nullptr;
  static const Library library("libcudnn.so.9");
  if (!library.loaded()) return nullptr;
  cudnn_frontend::cudnn_dlhandle = library.handle();
  return std::make_unique<CudnnAttention>(stream);
}

#else

std::unique_ptr<Cudnn> Cudnn::open(CudaStream&) {
  return nullptr;
}

#endif

}  // namespace candela::cuda

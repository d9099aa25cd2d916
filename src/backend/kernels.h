#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/args/attention.h"
#include "backend/args/copy.h"
#include "backend/args/elementwise.h"
#include "backend/args/gather.h"
#include "backend/args/lora.h"
#include "backend/args/loss.h"
#include "backend/args/matmul.h"
#include "backend/args/norm.h"
#include "backend/args/optimizer.h"
#include "backend/args/random.h"
#include "backend/args/reduce.h"
#include "backend/args/rope.h"
#include "backend/args/softmax.h"
#include "backend/args/topk.h"
#include "backend/backend.h"
#include "backend/workspace.h"

namespace candela {

/// One implementation of one op. `supports` returns why it cannot take the arguments, or an empty string if
/// it can.
template <class Args>
struct Kernel {
  using Supports = std::string (*)(const Args&);
  using WorkspaceBytes = std::size_t (*)(const Args&);
  using Run = void (*)(const Args&, Stream&);
  using RunWith = void (*)(const Args&, Stream&, Workspace);
  using Yields = bool (*)(const Args&);

  std::string_view name;
  Supports supports;
  /// Bytes of the workspace that `run` is handed; null: none. Looks at dtypes, shapes and strides alone: data
  /// may not be there yet, and never are on the plan device.
  WorkspaceBytes workspace = nullptr;
  /// One of the two is set: without a workspace, or with one.
  Run run_plain = nullptr;
  RunWith run_with = nullptr;
  /// How often it ran: what `candela bench ops --why` and the tests look at.
  std::shared_ptr<std::atomic<std::uint64_t>> runs = std::make_shared<std::atomic<std::uint64_t>>(0);
  /// Whether one further down the list that takes these arguments too is to be preferred; null: never.
  Yields yields = nullptr;
  /// Taken only where no other can, and never measured against others: it holds up the device's stream, which
  /// costs more than its own time.
  bool last_resort = false;

  bool gives_way(const Args& args) const { return last_resort || (yields != nullptr && yields(args)); }
  std::size_t workspace_bytes(const Args& args) const { return workspace == nullptr ? 0 : workspace(args); }
  /// Enqueues the work on `stream`. `memory` holds workspace_bytes(args).
  void run(const Args& args, Stream& stream, Workspace memory = {}) const {
    run_with == nullptr ? run_plain(args, stream) : run_with(args, stream, memory);
  }
};

/// The implementations of one op on one device, the preferred one first.
template <class Args>
struct KernelList {
  std::string_view op;
  std::vector<Kernel<Args>> kernels;

  Kernel<Args>& add(std::string_view name, typename Kernel<Args>::Supports supports,
                    typename Kernel<Args>::Run run) {
    return append({name, supports, nullptr, run, nullptr});
  }
  /// With a workspace of workspace(args) bytes.
  Kernel<Args>& add(std::string_view name, typename Kernel<Args>::Supports supports,
                    typename Kernel<Args>::WorkspaceBytes workspace, typename Kernel<Args>::RunWith run) {
    return append({name, supports, workspace, nullptr, run});
  }
  /// kRun(args, Workspace) both states and takes its workspace: given a measuring one, it takes its arrays
  /// and returns.
  template <void (*kRun)(const Args&, Workspace)>
  Kernel<Args>& add_measured(std::string_view name, typename Kernel<Args>::Supports supports) {
    return add(
        name, supports,
        [](const Args& args) { return measured_workspace([&](Workspace memory) { kRun(args, memory); }); },
        [](const Args& args, Stream&, Workspace memory) { kRun(args, memory); });
  }

 private:
  Kernel<Args>& append(Kernel<Args> kernel) {
    kernels.push_back(std::move(kernel));
    return kernels.back();
  }
};

/// The `supports` of an implementation that takes everything the op's checks let through.
template <class Args>
std::string supports_all(const Args&) {
  return {};
}

/// Why a kernel that leaves f64 to plain loops or the composed reference does not take `x`: empty for the
/// other dtypes.
inline std::string refuse_f64(const TensorArg& x) {
  return x.dtype == DType::F64 ? "f64 is for references" : "";
}

/// All implementations of a device. Each family's file fills its own lists (`fill_<family>`).
struct KernelTable {
  KernelList<UnaryArgs> unary{"unary", {}};
  KernelList<UnaryGradArgs> unary_grad{"unary_grad", {}};
  KernelList<BinaryArgs> binary{"binary", {}};
  KernelList<SwigluArgs> swiglu{"swiglu", {}};
  KernelList<SwigluGradArgs> swiglu_grad{"swiglu_grad", {}};
  KernelList<GegluArgs> geglu{"geglu", {}};
  KernelList<GegluGradArgs> geglu_grad{"geglu_grad", {}};
  KernelList<ReduceArgs> reduce{"reduce", {}};
  KernelList<ArgmaxArgs> argmax{"argmax", {}};
  KernelList<MatmulArgs> matmul{"matmul", {}};
  /// The matrix products of a backend's native kernels; which of them this machine has is no part of the op's
  /// support.
  KernelList<GemmArgs> gemm{"gemm", {}};
  KernelList<RmsNormArgs> rms_norm{"rms_norm", {}};
  KernelList<RmsNormGradArgs> rms_norm_grad{"rms_norm_grad", {}};
  KernelList<LayerNormArgs> layer_norm{"layer_norm", {}};
  KernelList<LayerNormGradArgs> layer_norm_grad{"layer_norm_grad", {}};
  KernelList<SoftmaxArgs> softmax{"softmax", {}};
  KernelList<SoftmaxGradArgs> softmax_grad{"softmax_grad", {}};
  KernelList<AttentionArgs> attention{"attention", {}};
  KernelList<AttentionGradArgs> attention_grad{"attention_grad", {}};
  KernelList<RopeArgs> rope{"rope", {}};
  KernelList<EmbeddingArgs> embedding{"embedding", {}};
  KernelList<EmbeddingGradArgs> embedding_grad{"embedding_grad", {}};
  KernelList<GatherArgs> gather{"gather", {}};
  KernelList<GatherGradArgs> gather_grad{"gather_grad", {}};
  KernelList<CrossEntropyArgs> cross_entropy{"cross_entropy", {}};
  KernelList<CrossEntropyGradArgs> cross_entropy_grad{"cross_entropy_grad", {}};
  KernelList<LinearCrossEntropyArgs> linear_cross_entropy{"linear_cross_entropy", {}};
  KernelList<AdamwArgs> adamw{"adamw", {}};
  KernelList<AdamwFactorsArgs> adamw_factors{"adamw_factors", {}};
  KernelList<UniformArgs> uniform{"uniform", {}};
  KernelList<NormalArgs> normal{"normal", {}};
  KernelList<DropoutArgs> dropout{"dropout", {}};
  KernelList<CopyArgs> copy{"copy", {}};
  KernelList<FillArgs> fill{"fill", {}};
  KernelList<LoraLinearArgs> lora_linear{"lora_linear", {}};
  KernelList<LoraLinearGradArgs> lora_linear_grad{"lora_linear_grad", {}};
  KernelList<TopkArgs> topk{"topk", {}};

  /// Calls `visit` with every list, by its name: visit.operator()<&KernelTable::unary>() and so on.
  template <class Visit>
  static void for_each_list(Visit&& visit) {
    visit.template operator()<&KernelTable::unary>();
    visit.template operator()<&KernelTable::unary_grad>();
    visit.template operator()<&KernelTable::binary>();
    visit.template operator()<&KernelTable::swiglu>();
    visit.template operator()<&KernelTable::swiglu_grad>();
    visit.template operator()<&KernelTable::geglu>();
    visit.template operator()<&KernelTable::geglu_grad>();
    visit.template operator()<&KernelTable::reduce>();
    visit.template operator()<&KernelTable::argmax>();
    visit.template operator()<&KernelTable::matmul>();
    visit.template operator()<&KernelTable::gemm>();
    visit.template operator()<&KernelTable::rms_norm>();
    visit.template operator()<&KernelTable::rms_norm_grad>();
    visit.template operator()<&KernelTable::layer_norm>();
    visit.template operator()<&KernelTable::layer_norm_grad>();
    visit.template operator()<&KernelTable::softmax>();
    visit.template operator()<&KernelTable::softmax_grad>();
    visit.template operator()<&KernelTable::attention>();
    visit.template operator()<&KernelTable::attention_grad>();
    visit.template operator()<&KernelTable::rope>();
    visit.template operator()<&KernelTable::embedding>();
    visit.template operator()<&KernelTable::embedding_grad>();
    visit.template operator()<&KernelTable::gather>();
    visit.template operator()<&KernelTable::gather_grad>();
    visit.template operator()<&KernelTable::cross_entropy>();
    visit.template operator()<&KernelTable::cross_entropy_grad>();
    visit.template operator()<&KernelTable::linear_cross_entropy>();
    visit.template operator()<&KernelTable::adamw>();
    visit.template operator()<&KernelTable::adamw_factors>();
    visit.template operator()<&KernelTable::uniform>();
    visit.template operator()<&KernelTable::normal>();
    visit.template operator()<&KernelTable::dropout>();
    visit.template operator()<&KernelTable::copy>();
    visit.template operator()<&KernelTable::fill>();
    visit.template operator()<&KernelTable::lora_linear>();
    visit.template operator()<&KernelTable::lora_linear_grad>();
    visit.template operator()<&KernelTable::topk>();
  }
};

}  // namespace candela

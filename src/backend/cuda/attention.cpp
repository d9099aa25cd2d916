#include "backend/cuda/kernels/attention.h"

#include "backend/cuda/cudnn.h"
#include "backend/cuda/table.h"

namespace candela::cuda {
namespace {

HeadsParams heads_params(const TensorArg& x) {
  return {x.data, {x.strides[0], x.strides[1], x.strides[2]}};
}

AttentionParams attention_params(const AttentionArgs& args) {
  AttentionParams params{};
  params.q = heads_params(args.q);
  params.k = heads_params(args.k);
  params.v = heads_params(args.v);
  params.out = heads_params(args.out);
  params.batch = args.q.shape[0];
  params.queries = args.q.shape[1];
  params.keys = args.k.shape[1];
  params.heads = args.q.shape[2];
  params.key_heads = args.k.shape[2];
  params.size = args.q.shape[3];
  params.top = args.top.as<float>();
  params.total = args.total.as<float>();
  params.q_start = args.q_start.as<std::int32_t>();
  params.q_start_step = args.q_start.strides[0];
  params.cu_seqlens = args.cu_seqlens.as<std::int32_t>();
  params.cu_seqlens_step = args.cu_seqlens.strides[0];
  params.sequences = args.cu_seqlens.present() ? args.cu_seqlens.shape[0] - 1 : 0;
  params.scale = static_cast<float>(args.scale);
  params.causal = args.causal;
  params.window = args.window;
  params.window_after = args.window_after;
  if (args.distance_bias.present()) {
    params.distance_bias = args.distance_bias.as<float>();
    params.bias_head = args.distance_bias.strides[0];
    params.bias_step = args.distance_bias.strides[1];
    params.reach = args.distance_bias.shape[1] / 2;
  }
  return params;
}

/// Heads that are read 16 bytes at a time.
bool is_aligned(const TensorArg& x) {
  bool aligned = reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
  for (int d = 0; d < 3; ++d)
    aligned = aligned && x.strides[d] % 8 == 0 && (x.strides[d] > 0 || x.shape[d] == 1);
  return aligned;
}

std::string supports(const AttentionArgs& args) {
  if (args.q.shape[3] > kMaxHeadSize) return "takes heads of at most 384 elements";
  return refuse_other_floats(args.q);
}

void attention(const AttentionArgs& args, Stream& stream) {
  check(launch_attention(attention_params(args), type_of(args.q), stream_of(stream).handle()), "attention");
}

std::int64_t rows_of_queries(const AttentionArgs& args) {
  return args.q.shape[0] * args.q.shape[1] * args.q.shape[2];
}

AttentionGradParams grad_params(const AttentionGradArgs& args, float* delta) {
  AttentionGradParams params{};
  params.forward = attention_params(args.forward);
  params.dout = heads_params(args.dout);
  params.dq = heads_params(args.dq);
  params.dk = heads_params(args.dk);
  params.dv = heads_params(args.dv);
  params.delta = delta;
  return params;
}

void attention_grad(const AttentionGradArgs& args, CudaStream* stream, Workspace memory) {
  auto* delta = memory.take<float>(rows_of_queries(args.forward));
  if (memory.measuring()) return;
  check(launch_attention_grad(grad_params(args, delta), type_of(args.forward.q), stream->handle()),
        "attention_grad");
}

/// A block of the flash kernel's queries: with fewer, most of its tile is empty.
constexpr std::int64_t kFewestQueries = 64;

/// What tensor cores take: see launch_flash.
std::string flash_supports(const AttentionArgs& args) {
  if (args.q.dtype != DType::BF16) return "takes bf16";
  if (args.q.shape[3] % 8 != 0 || args.q.shape[3] > kMaxFlashHead)
    return "takes heads of 8 to 128 elements, in groups of 8";
  if (args.scale <= 0) return "takes a positive scale";
  if (args.distance_bias.present()) return "takes no distance bias";
  if (args.q.shape[1] < kFewestQueries || args.k.shape[1] == 0) return "takes 64 queries at least, and keys";
  if (args.q.shape[0] > 65535 || args.q.shape[2] > 65535) return "takes at most 65535 rows and heads";
  for (const TensorArg* x : {&args.q, &args.k, &args.v, &args.out}) {
    if (!is_aligned(*x)) return "takes heads of 16-byte alignment";
  }
  return {};
}

void flash(const AttentionArgs& args, Stream& stream) {
  check(launch_flash(attention_params(args), stream_of(stream).handle()), "attention");
}

void flash_grad(const AttentionGradArgs& args, CudaStream* stream, Workspace memory) {
  auto* delta = memory.take<float>(rows_of_queries(args.forward));
  if (memory.measuring()) return;
  check(launch_flash_grad(grad_params(args, delta), stream->handle()), "attention_grad");
}

std::string flash_grad_supports(const AttentionGradArgs& args) {
  for (const TensorArg* x : {&args.dout, &args.dq, &args.dk, &args.dv}) {
    if (!is_aligned(*x)) return "takes gradients of 16-byte alignment";
  }
  return flash_supports(args.forward);
}

std::string cudnn_grad_supports(const AttentionGradArgs& args) {
  for (const TensorArg* x : {&args.dout, &args.dq, &args.dk, &args.dv}) {
    if (!is_aligned(*x)) return "takes gradients of 16-byte alignment";
  }
  return Cudnn::supports(args.forward);
}

// The library may have no plan for what it takes in general: then a native kernel stands in, in the same
// workspace.

void cudnn(const AttentionArgs& args, CudaStream* stream, Workspace memory) {
  auto* statistics = memory.take<float>(args.top.present() ? rows_of_queries(args) : 0);
  if (memory.measuring() || stream->cudnn()->attention(args, statistics)) return;
  check(launch_attention(attention_params(args), type_of(args.q), stream->handle()), "attention");
}

void cudnn_grad(const AttentionGradArgs& args, CudaStream* stream, Workspace memory) {
  auto* statistics = memory.take<float>(rows_of_queries(args.forward));
  if (memory.measuring() || stream->cudnn()->attention_grad(args, statistics)) return;
  check(launch_attention_grad(grad_params(args, statistics), type_of(args.forward.q), stream->handle()),
        "attention_grad");
}

}  // namespace

void fill_attention(KernelTable& table, const Offer& offer) {
  if (offer.cudnn) {
    add_measured<cudnn>(table.attention, "cudnn", Cudnn::supports);
    add_measured<cudnn_grad>(table.attention_grad, "cudnn", cudnn_grad_supports);
  }
  table.attention.add("flash", flash_supports, flash);
  add_measured<flash_grad>(table.attention_grad, "flash", flash_grad_supports);
  table.attention.add("native", supports, attention);
  add_measured<attention_grad>(table.attention_grad, "native",
                               [](const AttentionGradArgs& args) { return supports(args.forward); });
}

}  // namespace candela::cuda

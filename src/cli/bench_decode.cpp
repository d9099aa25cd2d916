#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include <candela/core/grad.h>
#include <candela/ops/copy.h>
#include <candela/ops/reduce.h>

#include "cases/peak.h"
#include "cli/bench_model.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/options.h"

namespace candela::cli {
namespace {

struct DecodeBench {
  std::string model;
  std::string dtype = "bf16";
  ComputeOptions compute;
  std::int64_t context = 64;
  std::int64_t prompt = 0;
  double seconds = 6;
  bool json = false;
};

/// Tokens per second of reading `prompt` tokens into an empty cache, up to the choice of the first new one.
double measure_prefill(Model& model, std::int64_t prompt, double seconds) {
  KvCache cache = model.make_cache(1, prompt);
  ForwardOptions forward;
  forward.cache = &cache;
  const Tensor tokens = full({1, prompt}, 1, DType::I32, model.device());
  Tensor token;
  const auto read = [&] {
    cache.truncate(0);
    const Tensor hidden = model.forward_hidden(tokens, forward);
    token = argmax(model.logits(slice(hidden, 1, prompt - 1, prompt)), -1);
    device_interface(model.device()).synchronize();
  };
  return static_cast<double>(prompt) / cases::median_seconds_in_turn({{read}}, seconds, 3).front();
}

/// Bytes per second that a device with memory of its own reads and writes in a copy of 2 GiB.
double device_bandwidth(Device device, double seconds) {
  constexpr std::int64_t kElements = std::int64_t{1} << 28U;
  const Tensor from = zeros({kElements}, DType::F32, device);
  const Tensor to = Tensor::empty({kElements}, DType::F32, device);
  const auto copy = [&] {
    copy_(to, from);
    device_interface(device).synchronize();
  };
  return 2.0 * sizeof(float) * kElements / cases::median_seconds_in_turn({{copy}}, seconds, 3).front();
}

void bench_decode(const DecodeBench& options) {
  const NoGrad guard;
  set_up_compute(options.compute);
  const auto model =
      bench_model(options.model, {parse_dtype(options.dtype), parse_device(options.compute.device)});
  const double prefill = options.prompt > 0 ? measure_prefill(*model, options.prompt, options.seconds) : 0;
  KvCache cache = model->make_cache(1, options.context + 1024);
  ForwardOptions forward;
  forward.cache = &cache;
  model->forward_hidden(full({1, options.context}, 1, DType::I32, model->device()), forward);
  Tensor token = full({1, 1}, 1, DType::I32, model->device());
  // The host's memory says nothing of a device with memory of its own.
  const bool on_host = device_interface(model->device()).host_accessible();
  std::optional<cases::MemoryYardstick> memory;
  if (on_host) memory.emplace();
  const auto decode = [&] {
    // The context stays the same length: every measured token does the same work.
    cache.truncate(options.context);
    const Tensor hidden = model->forward_hidden(token, forward);
    token = cast(argmax(model->logits(hidden), -1), DType::I32);
    device_interface(model->device()).synchronize();
  };
  std::vector<cases::Contender> calls = {{decode}};
  if (memory) calls.push_back({[&] { memory->read(); }});
  const std::vector<double> seconds = cases::median_seconds_in_turn(calls, options.seconds);
  double bytes = 0;
  for (const NamedTensor& parameter : model->named_parameters()) {
    // Each weight is read once a token. The embedding alone is not, one row aside; where it is tied it is the
    // output layer's weight too, and is.
    if (parameter.name.find("embed_tokens") != std::string::npos && !model->tied()) continue;
    bytes += static_cast<double>(parameter.tensor.numel()) *
             static_cast<double>(size_of(parameter.tensor.dtype()));
  }
  const double bandwidth = memory ? cases::MemoryYardstick::bytes_read() / seconds[1]
                                  : device_bandwidth(model->device(), options.seconds / 4);
  const double rate = 1 / seconds[0];
  const double limit = bandwidth / bytes;
  const std::string name = bench_model_name(options.model);
  if (options.json) {
    nlohmann::json report = {{"model", name},
                             {"tokens_per_s", rate},
                             {"weight_bytes", bytes},
                             {"read_gb_per_s", bandwidth / 1e9},
                             {"limit_tokens_per_s", limit},
                             {"share_of_limit", rate / limit}};
    if (options.prompt > 0) {
      report["prompt_tokens"] = options.prompt;
      report["prefill_tokens_per_s"] = prefill;
    }
    fmt::print("{}\n", report.dump(2));
    return;
  }
  fmt::print("{}, {}, batch 1, context {}\n", name, options.dtype, options.context);
  fmt::print(
      "{:.1f} tok/s; reading {:.0f} MB of weights once a token at the measured {:.1f} GB/s allows {:.1f} "
      "tok/s: {:.0f} %\n",
      rate, bytes / 1e6, bandwidth / 1e9, limit, 100 * rate / limit);
  if (options.prompt > 0) {
    fmt::print("prefill of {} tokens: {:.1f} tok/s, {:.1f} ms to the first new token\n", options.prompt,
               prefill, 1e3 * static_cast<double>(options.prompt) / prefill);
  }
}

}  // namespace

void add_bench_decode(CLI::App& bench, Action& action) {
  auto options = std::make_shared<DecodeBench>();
  CLI::App* command = bench.add_subcommand(
      "decode", "One token at a time: tokens/s and the share of what reading the weights allows");
  add_path(*command, "--model", options->model, kBenchModelHelp);
  add_choice(*command, "--dtype", options->dtype, {"f32", "bf16", "f16"}, "Weights");
  declare_compute_options(*command, options->compute);
  add_number(*command, "--context", options->context, {1, kMostCount}, "Tokens already in the cache");
  add_number(*command, "--prompt", options->prompt, {0, kMostCount},
             "Also measure the prefill of so many tokens: from an empty cache to the first new token");
  add_number(*command, "--seconds", options->seconds, {0, 3600, true}, "How long to measure each");
  command->add_flag("--json", options->json, "Print JSON instead of text");
  command->footer(
      "Example:\n  candela bench decode --prompt 512\n  candela bench decode --model models/stories-7m "
      "--dtype f32");
  command->callback([&action, options] { action = [options] { bench_decode(*options); }; });
}

}  // namespace candela::cli

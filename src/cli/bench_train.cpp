#include <algorithm>
#include <fmt/format.h>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include <candela/core/process.h>
#include <candela/train/trainer.h>

#include "cases/peak.h"
#include "cli/bench_model.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/progress.h"

namespace candela::cli {
namespace {

struct TrainBench {
  ModelOptions model;
  std::int64_t batch_size = 16;
  std::int64_t length = 128;
  std::int64_t rank = 16;
  std::string checkpoint = "none";
  double seconds = 6;
  bool json = false;
};

/// Rows of random tokens, all of them trained.
std::vector<Sample> random_rows(std::int64_t rows, std::int64_t length, std::int64_t vocabulary) {
  Generator generator(7);
  std::vector<Sample> samples(static_cast<std::size_t>(rows));
  for (Sample& sample : samples) {
    for (std::int64_t t = 0; t <= length; ++t) {
      sample.ids.push_back(
          static_cast<TokenId>(generator.next_below(static_cast<std::uint64_t>(vocabulary))));
      sample.trained.push_back(t > 0 ? 1 : 0);
    }
  }
  return samples;
}

/// On a device with memory of its own: the most that was taken of it stands beside the speed.
void report_device_bench(const TrainBench& options, const Model& model, double seconds, double tokens_per_s,
                         double flops_per_s, const MemoryStats& memory) {
  if (options.json) {
    fmt::print("{}\n", nlohmann::json{{"seconds_per_step", seconds},
                                      {"tokens_per_s", tokens_per_s},
                                      {"gflop_per_s", flops_per_s / 1e9},
                                      {"peak_device_bytes", memory.peak_reserved}}
                           .dump(2));
    return;
  }
  fmt::print("{}, LoRA rank {} on all linear layers, {} x {} tokens, {}, on {}\n",
             bench_model_name(options.model.model), options.rank, options.batch_size, options.length,
             to_string(model.dtype()), model.device());
  fmt::print("{:.2f} ms a step, {} tok/s, {:.1f} TFLOP/s at 4 FLOP per parameter and token\n", seconds * 1e3,
             format_count(static_cast<std::int64_t>(tokens_per_s)), flops_per_s / 1e12);
  fmt::print("peak device memory {}\n", format_bytes(static_cast<double>(memory.peak_reserved)));
}

void bench_train(const TrainBench& options) {
  set_up_compute(options.model);
  const auto model = bench_model(options.model.model,
                                 {wanted_dtype(options.model, true), parse_device(options.model.device)});
  LoraConfig config;
  config.rank = options.rank;
  config.alpha = static_cast<double>(options.rank);
  Lora::attach(*model, config);
  TrainOptions train;
  train.checkpointing = parse_checkpointing(options.checkpoint);
  Trainer trainer(*model, train);
  const std::vector<Sample> samples =
      random_rows(options.batch_size, options.length, model->config().vocab_size);
  std::vector<std::size_t> rows(samples.size());
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = i;
  const HostBatch batch = make_host_batch(samples, rows, 0);
  DeviceInterface& device = device_interface(model->device());
  // As fit() does: a device that records is given a step before the last one is read.
  const std::size_t ahead = device.records() ? 1 : 0;
  std::vector<cases::Contender> calls = {{[&] {
    trainer.enqueue(std::span(&batch, 1), 1e-4);
    if (trainer.in_flight() > ahead) trainer.finish();
  }}};
  // The host's products say nothing of a device with memory of its own.
  std::optional<cases::ProductYardstick> product;
  if (device.host_accessible()) {
    product.emplace(model->dtype());
    calls.push_back({[&] { product->run_own(); }});
    if (product->vendor_refusal().empty()) calls.push_back({[&] { product->run_vendor(); }, true});
  }
  const std::vector<double> medians = cases::median_seconds_in_turn(calls, options.seconds);
  while (trainer.in_flight() > 0) trainer.finish();
  const double seconds = medians[0];
  const auto tokens = static_cast<double>(batch.tokens);
  // Forward, and backward to the activations: frozen weights need no gradient of their own.
  const double flops = 4.0 * static_cast<double>(model->parameter_count()) * tokens / seconds;
  if (!product)
    return report_device_bench(options, *model, seconds, tokens / seconds, flops, device.allocator().stats());
  const double peak =
      cases::ProductYardstick::flops() / *std::min_element(medians.begin() + 1, medians.end());
  if (options.json) {
    nlohmann::json report = {
        {"seconds_per_step", seconds},   {"tokens_per_s", tokens / seconds},
        {"gflop_per_s", flops / 1e9},    {"product_peak_gflop_per_s", peak / 1e9},
        {"share_of_peak", flops / peak}, {"peak_memory_bytes", process_memory().peak_resident}};
    if (!product->vendor_refusal().empty()) report["vendor_absent"] = product->vendor_refusal();
    fmt::print("{}\n", report.dump(2));
    return;
  }
  fmt::print("{}, LoRA rank {} on all linear layers, {} x {} tokens, {}\n",
             bench_model_name(options.model.model), options.rank, options.batch_size, options.length,
             to_string(model->dtype()));
  fmt::print(
      "{:.1f} ms a step, {} tok/s, {:.1f} GFLOP/s at 4 FLOP per parameter and token: {:.1f} % of the {:.0f} "
      "GFLOP/s product peak{}\n",
      seconds * 1e3, format_count(static_cast<std::int64_t>(tokens / seconds)), flops / 1e9,
      100 * flops / peak, peak / 1e9,
      product->vendor_refusal().empty() ? ""
                                        : fmt::format(" of Candela alone ({})", product->vendor_refusal()));
  fmt::print("peak memory {}\n", format_bytes(static_cast<double>(process_memory().peak_resident)));
}

}  // namespace

void add_bench_train(CLI::App& bench, Action& action) {
  auto options = std::make_shared<TrainBench>();
  CLI::App* command = bench.add_subcommand(
      "train", "One LoRA training step on random tokens: tokens/s and the share of the product peak");
  add_path(*command, "--model", options->model.model, kBenchModelHelp);
  declare_arithmetic(*command, options->model);
  add_number(*command, "--batch-size", options->batch_size, {1, kMostCount}, "Rows");
  add_number(*command, "--length", options->length, {1, kMostCount}, "Tokens a row");
  add_number(*command, "--rank", options->rank, {1, kMostRank}, "Rank of the adapters, on all linear layers");
  add_choice(*command, "--checkpoint", options->checkpoint, {"keep", "none", "mlp", "layer"},
             "What is computed again instead of being kept, as of finetune");
  command->add_flag("--json", options->json, "Print JSON instead of text");
  add_number(*command, "--seconds", options->seconds, {0, 3600, true}, "How long to measure");
  command->footer(
      "Example:\n  candela bench train --model models/stories-7m\n  candela bench train --dtype bf16 "
      "--batch-size 1 --length 512");
  command->callback([&action, options] { action = [options] { bench_train(*options); }; });
}

}  // namespace candela::cli

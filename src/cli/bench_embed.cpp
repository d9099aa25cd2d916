#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include <candela/embed/embedder.h>

#include "cases/peak.h"
#include "cli/command.h"
#include "cli/embed_options.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output.h"

namespace candela::cli {
namespace {

struct EmbedBench {
  std::string model;
  std::string dtype = "f32";
  ComputeOptions compute;
  std::string file;
  std::int64_t sentences = 1024;
  std::int64_t batch_tokens = 4096;
  double seconds = 10;
  bool json = false;
};

/// The geometry of all-MiniLM-L6-v2, from its published config.json.
constexpr const char* kMiniLm = R"({
  "model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
  "num_attention_heads": 12, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
  "hidden_act": "gelu", "torch_dtype": "float32"})";

/// Tokens of a sentence of the STS benchmark (dev) under MiniLM's tokenizer: the middles of 32 equal shares.
constexpr std::array<int, 32> kLengths = {8,  9,  9,  10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 16,
                                          16, 17, 18, 18, 19, 19, 20, 20, 21, 22, 23, 23, 24, 26, 27, 31};
/// The one sentence whose latency is measured.
constexpr int kShort = 16;

Embedder make(const EmbedBench& options) {
  const LoadOptions load{parse_dtype(options.dtype), parse_device(options.compute.device)};
  if (!options.model.empty()) return Embedder::load(options.model, load);
  EmbedderConfig config;
  config.pooling = {Pooling::Mean};
  config.steps.emplace_back();
  return Embedder::of_model(make_model(ModelConfig::parse(kMiniLm, "MiniLM-L6"), load, 1), config);
}

std::vector<TokenId> ids_of(int length, std::int64_t vocab_size, std::int64_t seed) {
  std::vector<TokenId> ids;
  for (std::int64_t i = 0; i < length; ++i)
    ids.push_back(static_cast<TokenId>((7919 * (seed + 1) + 104729 * i) % (vocab_size - 2) + 2));
  return ids;
}

struct Speed {
  std::size_t sentences = 0;
  std::size_t tokens = 0;
  double seconds = 0;
  /// of one sentence of kShort tokens
  double latency = 0;
};

Speed measure(const EmbedBench& options, const Embedder& embedder) {
  const std::int64_t vocab_size = embedder.model().config().vocab_size;
  EmbedOptions embed;
  embed.batch_tokens = options.batch_tokens;
  Speed speed;
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> rows;
  if (options.file.empty()) {
    for (std::int64_t i = 0; i < options.sentences; ++i)
      rows.push_back(ids_of(kLengths[static_cast<std::size_t>(i * 13 % 32)], vocab_size, i));
  } else {
    texts = read_texts({options.file}, "text");
    rows = embedder.tokenize(texts).ids;
  }
  speed.sentences = rows.size();
  for (const auto& row : rows) speed.tokens += row.size();
  const auto all = [&] {
    if (texts.empty()) {
      embedder.embed_ids(rows, embed);
    } else {
      embedder.embed(texts, embed);
    }
  };
  const std::vector<std::vector<TokenId>> one = {ids_of(kShort, vocab_size, 5)};
  speed.seconds = cases::median_seconds_in_turn({{all}}, options.seconds, 3).front();
  constexpr double kShareOfLatency = 0.2;
  speed.latency = cases::median_seconds_in_turn({{[&] { embedder.embed_ids(one, embed); }}},
                                                kShareOfLatency * options.seconds, 20)
                      .front();
  return speed;
}

void bench_embed(const EmbedBench& options) {
  set_up_compute(options.compute);
  const Embedder embedder = make(options);
  const Speed speed = measure(options, embedder);
  const std::string name = options.model.empty() ? "MiniLM-L6 geometry, random weights" : options.model;
  const std::string texts =
      options.file.empty() ? "ids of the STS benchmark's lengths" : options.file + ", tokenizing included";
  const double rate = static_cast<double>(speed.sentences) / speed.seconds;
  if (options.json) {
    const nlohmann::json report = {{"model", name},
                                   {"dtype", options.dtype},
                                   {"texts", texts},
                                   {"sentences", speed.sentences},
                                   {"tokens", speed.tokens},
                                   {"sentences_per_s", rate},
                                   {"tokens_per_s", static_cast<double>(speed.tokens) / speed.seconds},
                                   {"latency_tokens", kShort},
                                   {"latency_ms", 1e3 * speed.latency}};
    return print_out("{}\n", report.dump(2));
  }
  print_out("{}, {}: {} sentences of {:.1f} tokens ({})\n", name, options.dtype, speed.sentences,
            static_cast<double>(speed.tokens) / static_cast<double>(speed.sentences), texts);
  print_out("{:.0f} sentences/s, {:.0f} tok/s; one sentence of {} tokens: {:.2f} ms\n", rate,
            static_cast<double>(speed.tokens) / speed.seconds, kShort, 1e3 * speed.latency);
}

}  // namespace

void add_bench_embed(CLI::App& bench, Action& action) {
  auto options = std::make_shared<EmbedBench>();
  CLI::App* command =
      bench.add_subcommand("embed", "Turning sentences into vectors: sentences/s, and the latency of one");
  add_path(*command, "--model", options->model,
           "Embedder's folder; without it, random weights in the geometry of MiniLM-L6");
  add_choice(*command, "--dtype", options->dtype, {"f32", "bf16", "f16"}, "Weights");
  declare_compute_options(*command, options->compute);
  CLI::Option* const file =
      add_path(*command, "--file", options->file, "Sentences, one a line; they are tokenized each time");
  file->needs(find_option(*command, "--model"));
  add_number(*command, "--sentences", options->sentences, {1, 1 << 20},
             "Sentences, as rows of ids with the lengths of the STS benchmark's")
      ->excludes(file);
  add_number(*command, "--batch-tokens", options->batch_tokens, {1, kMostCount}, "Tokens computed at once");
  add_number(*command, "--seconds", options->seconds, {0, 3600, true}, "How long to measure");
  command->add_flag("--json", options->json, "Print JSON instead of text");
  command->footer("Example:\n  candela bench embed\n  candela bench embed --model DIR --file sentences.txt");
  command->callback([&action, options] { action = [options] { bench_embed(*options); }; });
}

}  // namespace candela::cli

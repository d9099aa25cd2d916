#include "cli/command.h"

namespace candela::cli {

void add_bench_ops(CLI::App& bench, Action& action);
void add_bench_products(CLI::App& bench, Action& action);
void add_bench_train(CLI::App& bench, Action& action);
void add_bench_table(CLI::App& bench, Action& action);
void add_bench_decode(CLI::App& bench, Action& action);
void add_bench_tokenize(CLI::App& bench, Action& action);
void add_bench_embed(CLI::App& bench, Action& action);

void add_bench(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "bench", "Measure this machine: ops, products, small ops, training, decoding, tokenizing, embedding");
  command->require_subcommand(1);
  command->footer(
      "Example:\n  candela bench ops --family softmax\n  candela bench train --model models/stories-7m");
  add_bench_ops(*command, action);
  add_bench_products(*command, action);
  add_bench_train(*command, action);
  add_bench_table(*command, action);
  add_bench_decode(*command, action);
  add_bench_tokenize(*command, action);
  add_bench_embed(*command, action);
}

}  // namespace candela::cli

#include <candela/core/parallel.h>
#include <candela/generate/generate.h>
#include <candela/io/dataset.h>
#include <candela/lora/lora.h>
#include <candela/train/trainer.h>

#include "cli/cli.h"
#include "faults/interpose.h"
#include "faults/sweep.h"

/// Memory that runs out anywhere in what people do.
namespace candela::test {
namespace {

namespace fs = std::filesystem;
using faults::Call;

class MemorySweep : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_rows("rows.jsonl", 8);
    set_thread_count(1);  // the children have no team
    model_ = write_tiny_model("model");
  }

  /// Everything the library does, from nothing.
  void everything() const {
    const auto model = load_model(model_);
    const Tokenizer tokenizer = Tokenizer::load(model_);
    const Dataset data =
        Dataset::load(path("rows.jsonl"), tokenizer, DatasetOptions::for_model(tokenizer, model->config()));
    Lora lora = Lora::attach(*model, {.rank = 2});
    TrainOptions options;
    options.batch_size = 2;
    options.max_steps = 2;
    Trainer(*model, options).fit(data.samples, {}, [](const StepReport&) {});
    lora.save(path("adapter"), "");
    lora.merge();
    TextGenerator generator(*model, tokenizer);
    GenerateOptions generate;
    generate.max_tokens = 3;
    generator.generate("Once", generate, {});
    lora.detach();
    Lora::load(*model, path("adapter"));
  }

  long count_from(const std::string& name) const { return std::atol(read(path(name)).c_str()); }

  std::string model_;
};

TEST_F(MemorySweep, TheLibraryEndsInAnErrorWhateverAllocationFails) {
  ASSERT_EQ(in_child([&] {
              faults::count();
              everything();
              std::ofstream(path("count")) << faults::disarm(Call::Allocate);
            }),
            kDone);
  const long count = count_from("count");
  ASSERT_GT(count, 1000);
  long tries = 0;
  for (const bool onwards : {false, true}) {
    for (const long at : points_of(count, 20)) {
      const int code = in_child([&] {
        faults::arm(Call::Allocate, at, onwards, ENOMEM);
        everything();
        faults::disarm(Call::Allocate);
      });
      EXPECT_TRUE(code == kDone || code == kRefused)
          << "allocation " << at << (onwards ? " and all later ones" : "") << " of " << count << ": " << code;
      ++tries;
    }
  }
  report_tries("library: load, train, save, merge, generate; an allocation failing (once, from then on)",
               tries);
}

TEST_F(MemorySweep, TheBinaryEndsInAnErrorWhateverFails) {
  const std::string adapter = path("adapter");
  ASSERT_EQ(run(finetune(fmt::format("--output '{}' --max-steps 1", adapter), model_)).status, 0);
  const std::vector<std::string> commands = {
      finetune(fmt::format("--output '{}' --max-steps 1 --save-every 1", path("new")), model_),
      fmt::format("generate --model '{}' --adapter '{}' --prompt Once --max-tokens 2", model_, adapter),
      fmt::format("merge --model '{}' --adapter '{}' --output '{}'", model_, adapter, path("merged")),
      fmt::format("eval --model '{}' --data '{}' --limit 2 --max-tokens 2", model_, path("rows.jsonl")),
      fmt::format("tokenize --tokenizer '{}' <'{}'", model_, path("rows.jsonl"))};
  long tries = 0;
  for (const std::string& command : commands) {
    for (const char* call : {"allocate", "mmap"}) {
      const auto with = [&](const std::string& fault) {
        fs::remove_all(path("new"));
        fs::remove_all(path("merged"));
        return run(command, fmt::format("OMP_NUM_THREADS=1 CANDELA_FAULT={}:{} "
                                        "CANDELA_FAULT_COUNT='{}' LD_PRELOAD='{}'",
                                        call, fault, path("count"), CANDELA_FAULTS_LIBRARY));
      };
      const Outcome whole = with("1000000000:12");
      ASSERT_EQ(whole.status, 0) << command << whole.err;
      const long count = count_from("count");
      for (const bool onwards : {false, true}) {
        for (const long at : points_of(count, 2)) {
          const Outcome result = with(fmt::format("{}{}:12", at, onwards ? "+" : ""));
          EXPECT_TRUE(result.status == 0 || result.status == 1)
              << command << ": " << call << " " << at << (onwards ? "+" : "") << " of " << count << ": "
              << result.status << result.err;
          if (result.status == 1) {
            EXPECT_TRUE(result.says("candela: error: ")) << result.err;
            EXPECT_FALSE(exists("merged")) << "a folder is left";
          }
          ++tries;
        }
      }
    }
  }
  report_tries("binary: finetune, generate, merge, eval, tokenize; an allocation or mmap failing", tries);
}

}  // namespace
}  // namespace candela::test

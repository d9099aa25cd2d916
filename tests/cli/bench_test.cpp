#include <cmath>
#include <map>

#include "cli/cli.h"
#include "support/instruction_sets.h"

namespace candela {
namespace {

using test::Cli;
using test::Outcome;

/// What benches print is read by scripts: the fields are there and are numbers that can be. No time is
/// judged.
class Bench : public Cli {
 protected:
  nlohmann::json bench(const std::string& arguments, const std::string& before = "") const {
    const Outcome result = run(fmt::format("bench {} --json", arguments), before);
    EXPECT_EQ(result.status, 0) << arguments << ": " << result.err;
    return nlohmann::json::parse(result.out, nullptr, false);
  }
  static void expect_positive(const nlohmann::json& object, const std::vector<std::string>& fields) {
    for (const std::string& field : fields) {
      ASSERT_TRUE(object.contains(field) && object[field].is_number()) << field << ": " << object.dump(2);
      const auto value = object[field].get<double>();
      EXPECT_TRUE(std::isfinite(value) && value > 0) << field << ": " << value;
    }
  }
};

TEST_F(Bench, OpsGiveRateAndShareForwardAndBackward) {
  const nlohmann::json report = bench("ops --op matmul --case bench_128 --dtype f32 --seconds 0.01");
  EXPECT_NE(report.value("device", ""), "");
  ASSERT_EQ(report["rows"].size(), 2U) << report.dump(2);
  const std::vector<std::string> directions = {"forward", "backward"};
  for (std::size_t i = 0; i < 2; ++i) {
    const nlohmann::json& row = report["rows"][i];
    EXPECT_EQ(row["name"], "matmul.bench_128");
    EXPECT_EQ(row["direction"], directions[i]);
    EXPECT_EQ(row["dtype"], "f32");
    EXPECT_NE(row.value("implementation", ""), "");
    expect_positive(row, {"microseconds", "gflop_per_s", "gb_per_s", "limit_g_per_s", "share_of_limit"});
  }
}

TEST_F(Bench, OpsWhyNamesTheImplementation) {
  const Outcome result = run("bench ops --op matmul --case bench_128 --dtype f32 --seconds 0.01 --why");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(result.says("implementations that ran on cpu")) << result.out;
  EXPECT_TRUE(result.says("matmul.bench_128")) << result.out;
  EXPECT_TRUE(result.says(" times")) << result.out;
}

TEST_F(Bench, ProductsCompareWithTheVendor) {
  const nlohmann::json rows = bench("products --size 16 --seconds 0.001");
  ASSERT_EQ(rows.size(), 16U) << rows.dump(2);  // four shapes, b and its transpose, two dtypes
  for (const nlohmann::json& row : rows) {
    EXPECT_TRUE(row["b_transposed"].is_boolean());
    expect_positive(row, {"gflop_per_s"});
    if (row["dtype"] == "f32" || !row.contains("vendor_absent")) expect_positive(row, {"vendor_gflop_per_s"});
  }
  EXPECT_EQ(rows[0]["shape"], "16 x 16 x 16");
}

/// oneDNN multiplies bf16 on AVX-512 only. The line of each says so.
TEST_F(Bench, GoesOnWhereTheVendorHasNoProduct) {
  if (!test::has_lesser_instruction_sets()) GTEST_SKIP() << "not on x86-64";
  const std::string no_bf16 = "oneDNN has no bf16 product on this processor";
  const std::string held_to_avx2 = "CANDELA_MAX_CPU_ISA=avx2";
  EXPECT_TRUE(run("bench products --size 16 --seconds 0.001", held_to_avx2).says("no vendor: " + no_bf16));
  const std::string tiny = fmt::format("bench train --model '{}' --dtype bf16 --length 8 --seconds 0.01",
                                       write_tiny_model("model"));
  EXPECT_TRUE(run(tiny, held_to_avx2).says("of Candela alone (" + no_bf16 + ")"));
  for (const std::string set : {"sse4", "avx2"}) {
    const std::string held = "CANDELA_MAX_CPU_ISA=" + set;
    const nlohmann::json rows = bench("products --size 16 --seconds 0.001", held);
    ASSERT_EQ(rows.size(), 16U) << rows.dump(2);
    for (const nlohmann::json& row : rows) {
      expect_positive(row, {"gflop_per_s"});
      if (row["dtype"] == "f32") {
        expect_positive(row, {"vendor_gflop_per_s"});
        EXPECT_FALSE(row.contains("vendor_absent")) << row.dump(2);
      } else {
        EXPECT_EQ(row.value("vendor_absent", ""), no_bf16) << row.dump(2);
        EXPECT_FALSE(row.contains("vendor_gflop_per_s")) << row.dump(2);
      }
    }
    EXPECT_EQ(bench("ops --op matmul --case bench_128 --dtype bf16 --seconds 0.01", held)["rows"].size(), 2U);
    const std::string train =
        fmt::format("train --model '{}' --dtype bf16 --batch-size 2 --length 8 --rank 2 --seconds 0.01",
                    write_tiny_model("model"));
    const nlohmann::json report = bench(train, held);
    expect_positive(report, {"tokens_per_s", "product_peak_gflop_per_s", "share_of_peak"});
    EXPECT_EQ(report.value("vendor_absent", ""), no_bf16);
  }
}

TEST_F(Bench, TrainGivesRateAndShareOfThePeak) {
  const std::string model = write_tiny_model("model");
  expect_positive(
      bench(fmt::format("train --model '{}' --batch-size 2 --length 8 --rank 2 --seconds 0.01", model)),
      {"seconds_per_step", "tokens_per_s", "gflop_per_s", "product_peak_gflop_per_s", "share_of_peak",
       "peak_memory_bytes"});
}

TEST_F(Bench, DecodeGivesRateAndShareOfReadingTheWeights) {
  const std::string model = write_tiny_model("model");
  const nlohmann::json report =
      bench(fmt::format("decode --model '{}' --dtype f32 --context 4 --prompt 9 --seconds 0.01", model));
  EXPECT_EQ(report["model"], model);
  expect_positive(report, {"tokens_per_s", "weight_bytes", "read_gb_per_s", "limit_tokens_per_s",
                           "share_of_limit", "prefill_tokens_per_s"});
  EXPECT_EQ(report["prompt_tokens"], 9);
}

TEST_F(Bench, TableMeasuresSmallOps) {
  const nlohmann::json rows = bench("table --seconds 0.001 --threads 1");
  std::map<std::string, std::vector<std::string>> shapes;
  for (const nlohmann::json& row : rows) {
    shapes[row["op"]].push_back(row["shape"]);
    EXPECT_EQ(row["dtype"], "f32");
    EXPECT_EQ(row["threads"], 1);
    expect_positive(row, {"median_us", "least_us"});
  }
  const std::vector<std::string> lora = {"(4,16,512) r=8",  "(4,16,1024) r=8",  "(4,16,2048) r=8",
                                         "(4,16,1024) r=4", "(4,16,1024) r=16", "(4,16,1024) r=32",
                                         "(4,16,1024) r=64"};
  EXPECT_EQ(shapes["LoRA delta"], lora);
  EXPECT_EQ(shapes["LoRA layer"], lora);
  for (const std::string op : {"softmax", "layer norm", "RMS norm"})
    EXPECT_EQ(shapes[op], (std::vector<std::string>{"(4,16,1024)", "(1024,1024)"})) << op;
  EXPECT_EQ(shapes["product"].front(), "64 x 64 x 64");
  EXPECT_EQ(shapes["product"].back(), "2048 x 2048 x 2048");
}

TEST_F(Bench, TokenizeGivesRates) {
  const std::vector<std::string> rates = {"seconds", "mb_per_s", "tokens_per_s", "mb_per_s_again"};
  const nlohmann::json built_in = bench(fmt::format("tokenize --tokenizer '{}'", kModel));
  EXPECT_EQ(built_in["text"], "built-in text");
  EXPECT_GE(built_in["bytes"], 2000000);
  EXPECT_EQ(built_in["threads"], 1);
  expect_positive(built_in, rates);
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "Once upon a time";
  write("text", text);
  const nlohmann::json own =
      bench(fmt::format("tokenize --tokenizer '{}' --file '{}'", kModel, path("text")));
  EXPECT_EQ(own["text"], path("text"));
  EXPECT_EQ(own["bytes"], 16000);
  EXPECT_EQ(own["tokens"], 4000);
  expect_positive(own, rates);
}

TEST_F(Bench, TokenizeNeedsText) {
  write("empty", "");
  for (const std::string file : {"empty", "missing"}) {
    const Outcome result =
        run(fmt::format("bench tokenize --tokenizer '{}' --file '{}'", kModel, path(file)));
    EXPECT_EQ(result.status, 1) << file;
    EXPECT_TRUE(result.says(path(file))) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

TEST_F(Bench, EmbedGivesRateAndLatency) {
  const nlohmann::json report =
      bench(fmt::format("embed --model '{}' --sentences 3 --seconds 0.01", write_tiny_model("model")));
  expect_positive(report, {"sentences", "tokens", "sentences_per_s", "tokens_per_s", "latency_ms"});
}

}  // namespace
}  // namespace candela

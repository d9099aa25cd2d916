#include <cmath>
#include <cstring>

#include "cli/cli.h"

namespace candela {
namespace {

using test::Cli;
using test::Outcome;

class CliEmbed : public Cli {
 protected:
  std::string embed(const std::string& more) const {
    return fmt::format("embed --model '{}' {}", write_tiny_model("model"), more);
  }
};

TEST_F(CliEmbed, EveryFormatHoldsTheSameVectors) {
  write("texts.txt", "the cat\nsat on a mat\n");
  ASSERT_EQ(run(embed(fmt::format("--output '{}' '{}'", path("e.safetensors"), path("texts.txt")))).status,
            0);
  const Tensor stored = SafetensorsReader::open(path("e.safetensors")).tensor("embeddings");
  ASSERT_EQ(stored.shape(), (Shape{2, 32}));
  EXPECT_EQ(stored.dtype(), DType::F32);
  const std::vector<float> values = stored.to_vector<float>();
  double length = 0;
  for (std::size_t d = 0; d < 32; ++d) length += values[d] * values[d];
  EXPECT_NEAR(length, 1, 1e-5);

  const Outcome lines = run(embed(""), fmt::format("cat '{}' |", path("texts.txt")));
  ASSERT_EQ(lines.status, 0) << lines.err;
  std::istringstream in(lines.out);
  std::string line;
  for (std::size_t row = 0; row < 2; ++row) {
    ASSERT_TRUE(std::getline(in, line));
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json["id"], row);
    EXPECT_EQ(json["text"], row == 0 ? "the cat" : "sat on a mat");
    for (std::size_t d = 0; d < 32; ++d)
      EXPECT_NEAR(json["embedding"][d].get<float>(), values[row * 32 + d], 1e-6);
  }

  ASSERT_EQ(run(embed(fmt::format("--output '{}' '{}'", path("e.npy"), path("texts.txt")))).status, 0);
  const std::string npy = read(path("e.npy"));
  ASSERT_EQ(npy.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  ASSERT_EQ(npy.size() % 64, (2 * 32 * sizeof(float)) % 64);
  EXPECT_NE(npy.find("'shape': (2, 32)"), std::string::npos);
  EXPECT_EQ(std::memcmp(npy.data() + npy.size() - values.size() * sizeof(float), values.data(),
                        values.size() * sizeof(float)),
            0);
}

TEST_F(CliEmbed, IdsGiveHiddenStatesWithZerosAtPadding) {
  write_safetensors(
      path("ids.safetensors"),
      {{"input_ids", Tensor::from_values(std::vector<std::int64_t>{5, 6, 7, 8, 9, 9}, {2, 3})},
       {"attention_mask", Tensor::from_values(std::vector<std::int64_t>{1, 1, 1, 1, 0, 0}, {2, 3})}});
  const std::string line = embed(fmt::format("--pooling mean --no-normalize --ids '{}' --output '{}'",
                                             path("ids.safetensors"), path("o.safetensors")));
  ASSERT_EQ(run(line).status, 0);
  const SafetensorsReader out = SafetensorsReader::open(path("o.safetensors"));
  ASSERT_EQ(out.tensor("last_hidden_state").shape(), (Shape{2, 3, 32}));
  const std::vector<float> states = out.tensor("last_hidden_state").to_vector<float>();
  const std::vector<float> embeddings = out.tensor("embeddings").to_vector<float>();
  for (std::size_t d = 0; d < 32; ++d) {
    EXPECT_NEAR(embeddings[d], (states[d] + states[32 + d] + states[64 + d]) / 3, 1e-5);
    EXPECT_NEAR(embeddings[32 + d], states[96 + d], 1e-6);
    EXPECT_EQ(states[128 + d], 0);
    EXPECT_EQ(states[160 + d], 0);
  }
  const Outcome text = run(line + " --format npy");
  EXPECT_EQ(text.status, 1);
  EXPECT_TRUE(text.says("--ids writes a safetensors file"));
}

TEST_F(CliEmbed, TextsBeyondTheLengthAreCutWithANote) {
  std::string words;
  for (int i = 0; i < 200; ++i) words += "the cat ";
  write("texts.txt", words + "\nthe cat\n");
  const Outcome outcome = run(embed(fmt::format("--output '{}' '{}'", path("e.npy"), path("texts.txt"))));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(outcome.says("1 of 2 texts were longer than 128 tokens and cut")) << outcome.err;
}

TEST_F(CliEmbed, SearchFindsATextByItself) {
  const std::string model = write_tiny_model("model");
  write("a.txt", "red apples\ngreen pears\n");
  write("b.jsonl", "{\"text\": \"blue plums\"}\n");
  const std::string search =
      fmt::format("search --model '{}' --index '{}' --json --quiet", model, path("i.st"));
  ASSERT_EQ(run(fmt::format("{} --build '{}'", search, path("a.txt"))).status, 0);
  const Outcome added =
      run(fmt::format("{} --add '{}' --query 'blue plums' --top-k 2", search, path("b.jsonl")));
  ASSERT_EQ(added.status, 0) << added.err;
  std::istringstream in(added.out);
  std::string line;
  std::getline(in, line);
  EXPECT_NE(line.find("3 texts"), std::string::npos) << line;
  std::getline(in, line);
  const auto best = nlohmann::json::parse(line);
  EXPECT_EQ(best["id"], 2);
  EXPECT_EQ(best["text"], "blue plums");
  EXPECT_NEAR(best["score"].get<double>(), 1, 1e-4);

  const std::string other = write_tiny_model("other", R"(, "initializer_range": 0.3)");
  const Outcome refused = run(fmt::format("search --model '{}' --index '{}' --query x", other, path("i.st")));
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(refused.says("was made with another model")) << refused.err;
}

}  // namespace
}  // namespace candela

#pragma once

#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include <candela/io/safetensors.h>
#include <candela/models/model.h>

namespace candela::test {

struct Outcome {
  /// 128 + the signal where one ended the process
  int status = -1;
  /// standard output
  std::string out;
  /// standard error
  std::string err;

  bool says(const std::string& text) const {
    return err.find(text) != std::string::npos || out.find(text) != std::string::npos;
  }
};

/// Runs the binary, in a folder of its own for each test, gone afterwards.
class Cli : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("candela_cli_{}_{}", ::getpid(),
                          testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  bool exists(const std::string& name) const { return std::filesystem::exists(folder_ / name); }

  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }

  static std::string read(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  nlohmann::json read_json(const std::string& name) const {
    return nlohmann::json::parse(read(folder_ / name));
  }

  /// Runs `candela ARGUMENTS` in a shell; `before` stands in front of it, `after` behind, where it may
  /// redirect the output elsewhere.
  Outcome run(const std::string& arguments, const std::string& before = "",
              const std::string& after = "") const {
    const std::string line = fmt::format("{} '{}' {} >'{}' 2>'{}' {}", before, CANDELA_BINARY, arguments,
                                         path("out"), path("err"), after);
    const int code = std::system(line.c_str());
    return {WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code), read(folder_ / "out"),
            read(folder_ / "err")};
  }

  /// A few short rows, prompt and completion.
  void write_rows(const std::string& name, int count = 24) const {
    std::string text;
    for (int i = 0; i < count; ++i) {
      text +=
          fmt::format("{{\"prompt\": \"The cat number {} says\", \"completion\": \" meow {}\"}}\n", i, i % 5);
    }
    write(name, text);
  }

  /// The folder `name` with a model that trains in milliseconds and the bundled tokenizer. `extra` are
  /// further fields of config.json, each with a comma in front.
  std::string write_tiny_model(const std::string& name, const std::string& extra = "") const {
    const std::string config = R"({"model_type": "llama", "vocab_size": 4096, "hidden_size": 32,
      "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
      "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu", "eos_token_id": 0,
      "bos_token_id": 0, "pad_token_id": 3)" +
                               extra + "}";
    write(name + "/config.json", config);
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) {
      std::filesystem::copy_file(std::filesystem::path(kModel) / file, folder_ / name / file,
                                 std::filesystem::copy_options::overwrite_existing);
    }
    const auto model = make_model(ModelConfig::parse(config, "tiny"), {}, 3);
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const NamedTensor& parameter : model->named_parameters())
      tensors.emplace_back(parameter.name, parameter.tensor);
    write_safetensors(folder_ / name / "model.safetensors", tensors);
    return path(name);
  }

  /// `finetune` on rows.jsonl; `more` comes last and wins.
  std::string finetune(const std::string& more, const std::string& model = kModel) const {
    return fmt::format("finetune --model '{}' --data '{}' --rank 4 --batch-size 4 --max-steps 6 --quiet {}",
                       model, path("rows.jsonl"), more);
  }

  static constexpr const char* kModel = CANDELA_SOURCE_DIR "/models/stories-7m";
  std::filesystem::path folder_;
};

}  // namespace candela::test

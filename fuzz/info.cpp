#include <array>
#include <cstdio>
#include <string>
#include <unistd.h>

#include "cli/command.h"
#include "cli/output.h"
#include "fuzz/model_folder.h"
#include "fuzz/mutate.h"

namespace {

/// What is written to standard output while it lives.
class CapturedOutput {
 public:
  CapturedOutput() : kept_(::dup(STDOUT_FILENO)), file_(std::tmpfile()) {
    candela::fuzz::check(kept_ >= 0 && file_ != nullptr, "standard output can be captured");
    ::dup2(::fileno(file_), STDOUT_FILENO);
  }
  CapturedOutput(const CapturedOutput&) = delete;
  CapturedOutput& operator=(const CapturedOutput&) = delete;
  ~CapturedOutput() {
    ::dup2(kept_, STDOUT_FILENO);
    ::close(kept_);
    std::fclose(file_);
  }

  std::string text() const {
    candela::cli::flush_output();
    std::string text;
    std::array<char, 4096> block{};
    std::rewind(file_);
    for (std::size_t got = 0; (got = std::fread(block.data(), 1, block.size(), file_)) > 0;)
      text.append(block.data(), got);
    return text;
  }

 private:
  int kept_;
  std::FILE* file_;
};

/// Nothing that a terminal acts on but line breaks, and no bytes that are not UTF-8.
bool is_plain(const std::string& text) {
  return candela::cli::escaped(text) == text && text.find('\t') == std::string::npos;
}

}  // namespace

/// What `info --tensors` prints of a folder: config.json, adapter_config.json, tokenizer.json and weights,
/// with a zero byte between them. Of the first two, the one that is not empty says what kind of folder it is.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const fuzz::ModelFolder folder("tokenizer.json");
  folder.put_parts({"config.json", "adapter_config.json", "tokenizer.json", "model.safetensors"},
                   fuzz::text_of(data, size));
  folder.drop_if_empty("config.json");
  folder.drop_if_empty("adapter_config.json");
  folder.copy("model.safetensors", "adapter_model.safetensors");
  CLI::App app;
  cli::Action action;
  cli::add_info(app, action);
  app.parse("info --tensors \"" + folder.path().string() + "\"");
  const CapturedOutput output;
  fuzz::expect_result_or_error([&] { action(); });
  fuzz::check(is_plain(output.text()), "a terminal is shown text, and none of it acts");
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed,
                                     {Part::Json, Part::Json, Part::Json, Part::Safetensors});
}

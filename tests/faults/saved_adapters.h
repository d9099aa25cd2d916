#pragma once

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <memory>
#include <string>

#include <candela/core/atomic_folder.h>
#include <candela/core/parallel.h>
#include <candela/lora/lora.h>

#include "lora/adapters.h"
#include "support/golden.h"
#include "support/tiny_models.h"

namespace candela::test {

/// A folder with an adapter, and another one to save over it: their scales differ, so that the weights of one
/// with the configuration of the other compute something that neither does.
class SavedAdapters : public testing::Test {
 protected:
  enum class State { Nothing, Old, New, Mixture };

  SavedAdapters()
      : scratch_(scratch_folder("faults")),
        folder_(scratch_ / "adapter"),
        model_(make_model(tiny_config("llama"))) {
    set_thread_count(1);  // a child of a process with a team of threads has the team without its threads
    old_logits_ = make(scratch_ / "old", 16, 1);
    new_logits_ = make(scratch_ / "new", 64, 2);
    LoraConfig config = names({"q_proj", "v_proj"});
    config.alpha = 64;
    new_ = std::make_unique<Lora>(Lora::attach(*other_, config, 2));
    stir(*new_);
  }

  /// `folder` with the adapter that was there before.
  void put_old() const {
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(scratch_ / "old", folder_);
  }
  void save_files() const { new_->save(folder_, "base"); }
  void save_folder() const {
    AtomicFolder folder(folder_);
    new_->save(folder.path(), "base");
    folder.replace();
  }

  State state_of(const std::filesystem::path& folder, std::string* error = nullptr) const {
    try {
      Lora lora = Lora::load(*model_, folder);
      const std::vector<double> logits = logits_of(*model_);
      lora.detach();
      return logits == old_logits_ ? State::Old : logits == new_logits_ ? State::New : State::Mixture;
    } catch (const Error& caught) {
      if (error != nullptr) *error = caught.what();
      return State::Nothing;
    }
  }

  /// What a reader of the two files by their names alone finds, such as peft: neither looks at what lies
  /// aside.
  State state_by_names(const std::filesystem::path& folder) const {
    const std::filesystem::path bare = scratch_ / "bare";
    std::filesystem::remove_all(bare);
    std::filesystem::create_directory(bare);
    for (const char* const name : {"adapter_config.json", "adapter_model.safetensors"}) {
      if (!std::filesystem::exists(folder / name)) return State::Nothing;
      std::filesystem::copy(folder / name, bare / name);
    }
    const State state = state_of(bare);
    return state == State::Nothing ? State::Mixture : state;
  }

  /// What hinders a save after whatever happened; empty: it works, and nothing else is left in the folder.
  std::string after_effect(bool as_folder) const {
    as_folder ? save_folder() : save_files();
    if (state_of(folder_) != State::New) return "a later save does not load";
    const auto files = std::distance(std::filesystem::directory_iterator(folder_), {});
    return files == 2 ? "" : fmt::format("{} files are left", files);
  }

  std::filesystem::path scratch_, folder_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Model> other_ = make_model(tiny_config("llama"));
  std::unique_ptr<Lora> new_;
  std::vector<double> old_logits_, new_logits_;

 private:
  std::vector<double> make(const std::filesystem::path& folder, double alpha, std::uint64_t seed) {
    LoraConfig config = names({"q_proj", "v_proj"});
    config.alpha = alpha;
    Lora lora = Lora::attach(*model_, config, seed);
    stir(lora);
    lora.save(folder, "base");
    const std::vector<double> logits = logits_of(*model_);
    lora.detach();
    return logits;
  }
};

}  // namespace candela::test

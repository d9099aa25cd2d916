#pragma once

#include <filesystem>
#include <functional>

#include <candela/models/model.h>

namespace candela {

/// Writes the weights of `model`, as they are now, as a Hugging Face folder that any of its readers takes:
/// after Lora::merge(), the merged model. `source` is the folder the model was loaded from: its config.json
/// is written with the dtype and tie_word_embeddings that the weights have, and every other file beside
/// weights (tokenizer, chat template, generation_config.json) is copied. The folder appears whole or not at
/// all (AtomicFolder). InvalidArgument if `folder` is `source` or is there and not empty, Error naming a
/// weight that is not finite, IoError if it cannot be written, the disk has too little room, or a link in
/// `source` leads out of it. `add`, if given, writes further files into the folder before it appears.
void save_model(const Model& model, const std::filesystem::path& folder, const std::filesystem::path& source,
                const std::function<void(const std::filesystem::path&)>& add = {});

/// What of that can be known before any work, such as a merge: throws as save_model().
void check_save_model(const Model& model, const std::filesystem::path& folder,
                      const std::filesystem::path& source);

}  // namespace candela

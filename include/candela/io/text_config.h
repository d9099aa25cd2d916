#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace candela {

/// What the files beside a model's weights say of its texts: special tokens, sampling, the frame of a text.
struct TextConfig {
  std::int64_t vocab_size = 0;
  /// tokens that a text may have
  std::int64_t max_position_embeddings = 0;
  /// Each below vocab_size. From generation_config.json where it has them, else from config.json. Padding is
  /// never seen by a real token, so that a model without it (or with -1) is fine.
  std::optional<std::int64_t> bos_token_id;
  std::optional<std::int64_t> pad_token_id;
  /// Any of these ends a text that is generated; see text_frame() for the one that ends a training row.
  std::vector<std::int64_t> eos_token_ids;
  /// the generation_config.json, for errors; empty: there is none
  std::string generation_source;
  /// From generation_config.json, where given and as written there: see default_sampling() and
  /// check_sampling().
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<std::int64_t> top_k;
  std::optional<bool> do_sample;
  /// From tokenizer_config.json, where given: the texts of the tokens, and whether BOS goes in front whatever
  /// the post-processor of tokenizer.json says.
  std::optional<std::string> bos_token, eos_token, pad_token;
  std::optional<bool> add_bos_token;

  /// Adds what generation_config.json and tokenizer_config.json in `folder` say, where they exist. IoError
  /// with file and field if one is of the wrong type or a token is not below vocab_size.
  void read_beside(const std::filesystem::path& folder);
};

}  // namespace candela

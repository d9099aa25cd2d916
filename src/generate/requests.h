#pragma once

#include <span>

#include <candela/generate/generate.h>

namespace candela {

/// Throws InvalidArgument naming an option that is out of range.
void check_generate_options(const GenerateOptions& options, bool has_tokenizer);

/// Throws InvalidArgument for a prompt that is empty, leaves no room for a token, or holds an id that the
/// model does not have.
void check_prompt(const ModelConfig& config, std::span<const TokenId> prompt);

}  // namespace candela

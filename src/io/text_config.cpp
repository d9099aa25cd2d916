#include "io/text_config.h"

#include <fmt/format.h>
#include <system_error>

#include "io/missing.h"

namespace candela {
namespace {

using io::JsonObject;

/// The ids under `key`, each a token of the vocabulary.
std::vector<std::int64_t> token_ids(const JsonObject& top, const char* key, std::int64_t vocab_size) {
  std::vector<std::int64_t> ids = top.integers_or_one(key);
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= vocab_size) {
      top.fail(key,
               fmt::format("made of token ids, in [0, {}) as config.json's vocab_size says", vocab_size));
    }
  }
  return ids;
}

std::optional<std::int64_t> token_id(const JsonObject& top, const char* key, std::int64_t vocab_size) {
  const std::vector<std::int64_t> ids = token_ids(top, key, vocab_size);
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

std::optional<double> number_of(const JsonObject& top, const char* key) {
  return top.has(key) ? std::optional(top.number(key)) : std::nullopt;
}

/// Most commands sample nothing: whether the values can be used is left to those that do.
void read_generation(const JsonObject& top, TextConfig& config) {
  config.generation_source = top.source();
  io::read_special_ids(top, config);
  config.temperature = number_of(top, "temperature");
  config.top_p = number_of(top, "top_p");
  config.min_p = number_of(top, "min_p");
  config.repetition_penalty = number_of(top, "repetition_penalty");
  if (top.has("top_k")) config.top_k = top.integer("top_k");
  if (top.has("do_sample")) config.do_sample = top.boolean("do_sample");
}

/// A token in tokenizer_config.json: its text, or an object with the text as `content`.
std::optional<std::string> token_text(const JsonObject& top, const char* key) {
  const io::Json* value = top.find(key);
  if (!value) return std::nullopt;
  return value->is_object() ? top.object(key).string("content") : top.string(key);
}

void read_tokenizer_config(const JsonObject& top, TextConfig& config) {
  config.bos_token = token_text(top, "bos_token");
  config.eos_token = token_text(top, "eos_token");
  config.pad_token = token_text(top, "pad_token");
  if (top.has("add_bos_token")) config.add_bos_token = top.boolean("add_bos_token");
}

}  // namespace

namespace io {

void read_special_ids(const JsonObject& top, TextConfig& config) {
  if (top.has("bos_token_id")) config.bos_token_id = token_id(top, "bos_token_id", config.vocab_size);
  // -1 is how some say that there is none.
  if (const Json* pad = top.find("pad_token_id"); pad != nullptr && *pad != -1) {
    config.pad_token_id = token_id(top, "pad_token_id", config.vocab_size);
  }
  if (top.has("eos_token_id")) config.eos_token_ids = token_ids(top, "eos_token_id", config.vocab_size);
}

}  // namespace io

void TextConfig::read_beside(const std::filesystem::path& folder) {
  const auto read = [&](const char* name, void (*apply)(const JsonObject&, TextConfig&)) {
    const std::filesystem::path path = folder / name;
    std::string why;
    const bool there = io::is_there(path, why);
    require<IoError>(why.empty(), "{}: {}", path.string(), why);
    if (!there) return;
    const auto document = io::load_json(path, {.max_bytes = io::kMaxConfigBytes});
    apply(JsonObject(document, path.string()), *this);
  };
  read("generation_config.json", read_generation);
  read("tokenizer_config.json", read_tokenizer_config);
}

}  // namespace candela

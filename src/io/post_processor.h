#pragma once

#include <cstdint>
#include <vector>

#include "io/json.h"

namespace candela::io {

/// Puts special tokens around the ids of a text. What it does depends on one text only, so it is a list of
/// parts.
class PostProcessor {
 public:
  /// Adds nothing.
  PostProcessor() = default;
  /// The field `post_processor`; Unsupported with file and type for one that is not known.
  explicit PostProcessor(const JsonObject& description);

  std::vector<std::int32_t> apply(std::vector<std::int32_t> ids) const;
  /// What apply() puts in front of the text.
  std::vector<std::int32_t> prefix() const;

 private:
  struct Part {
    bool is_text = false;
    std::vector<std::int32_t> ids;  // of a special token
  };

  void add(const JsonObject& description);
  void add_template(const JsonObject& description);
  void add_pair(const JsonObject& description);
  void add_parts(std::vector<Part> parts, const JsonObject& description);

  std::vector<std::vector<Part>> templates_;  // applied in order, each around what the one before gave
};

}  // namespace candela::io

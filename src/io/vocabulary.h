#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io/seeded_hash.h"

namespace candela::io {

/// A vocabulary: tokens and their ids, which need not be dense.
class Vocabulary {
 public:
  /// IoError (with `source`) if an id is out of [0, kMaxId] or taken twice, or a token occurs twice or has
  /// more than kMostTokenBytes.
  Vocabulary(std::vector<std::pair<std::string, std::int64_t>> entries, const std::string& source);
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  std::optional<std::int32_t> find(std::string_view token) const;
  /// The token of `id`; null if no token has it.
  const std::string* token(std::int64_t id) const;
  std::size_t size() const { return ids_.size(); }
  std::int32_t max_id() const { return max_id_; }
  /// Bytes of the longest token.
  std::size_t longest() const { return longest_; }

  static constexpr std::int64_t kMaxId = 1 << 26;
  static constexpr std::size_t kMostTokenBytes = 4096;  // decoding gives so many for each id

 private:
  std::vector<std::pair<std::string, std::int64_t>> entries_;
  std::unordered_map<std::string_view, std::int32_t, StringHash> ids_;  // views into entries_
  std::vector<std::int32_t> entry_of_id_;                               // id -> index in entries_, or -1
  std::unordered_map<std::int32_t, std::int32_t> entry_of_large_id_;    // the same for ids beyond its end
  std::int32_t max_id_ = -1;
  std::size_t longest_ = 0;
};

}  // namespace candela::io

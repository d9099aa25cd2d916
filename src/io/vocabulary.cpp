#include "io/vocabulary.h"

#include <algorithm>
#include <fmt/format.h>

#include <candela/core/error.h>

namespace candela::io {

Vocabulary::Vocabulary(std::vector<std::pair<std::string, std::int64_t>> entries, const std::string& source)
    : entries_(std::move(entries)) {
  for (const auto& [token, id] : entries_) {
    require<IoError>(id >= 0 && id <= kMaxId, "{}: model.vocab: the id of {:?} must be in [0, {}]; got {}",
                     source, token, kMaxId, id);
    require<IoError>(token.size() <= kMostTokenBytes,
                     "{}: model.vocab must hold tokens of at most {} bytes; got one of {}", source,
                     kMostTokenBytes, token.size());
    max_id_ = std::max(max_id_, static_cast<std::int32_t>(id));
    longest_ = std::max(longest_, token.size());
  }
  ids_.reserve(entries_.size());
  // Ids far above the number of tokens must not cost memory for all that lie between.
  constexpr std::size_t kFloor = 65536;
  constexpr std::size_t kFactor = 4;
  const std::size_t dense =
      std::min(static_cast<std::size_t>(max_id_) + 1, kFloor + kFactor * entries_.size());
  entry_of_id_.assign(dense, -1);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const auto& [token, id] = entries_[i];
    require<IoError>(ids_.emplace(token, static_cast<std::int32_t>(id)).second,
                     "{}: model.vocab: the token {:?} must occur once; it occurs twice", source, token);
    std::int32_t& owner =
        static_cast<std::size_t>(id) < dense
            ? entry_of_id_[static_cast<std::size_t>(id)]
            : entry_of_large_id_.try_emplace(static_cast<std::int32_t>(id), -1).first->second;
    require<IoError>(owner < 0, "{}: model.vocab: the id {} must belong to one token; {:?} has it as well",
                     source, id, token);
    owner = static_cast<std::int32_t>(i);
  }
}

std::optional<std::int32_t> Vocabulary::find(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Vocabulary::token(std::int64_t id) const {
  if (id < 0 || id > max_id_) return nullptr;
  std::int32_t entry = -1;
  if (static_cast<std::size_t>(id) < entry_of_id_.size()) {
    entry = entry_of_id_[static_cast<std::size_t>(id)];
  } else if (const auto large = entry_of_large_id_.find(static_cast<std::int32_t>(id));
             large != entry_of_large_id_.end()) {
    entry = large->second;
  }
  return entry < 0 ? nullptr : &entries_[static_cast<std::size_t>(entry)].first;
}

}  // namespace candela::io

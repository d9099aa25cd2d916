#pragma once

#include <algorithm>
#include <cstddef>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <span>
#include <string>
#include <string_view>

namespace candela::io {

/// The items joined for an error text: the first twenty, and how many more there are.
inline std::string listed(std::span<const std::string> items, std::string_view separator) {
  constexpr std::size_t kMost = 20;
  const std::size_t shown = std::min(items.size(), kMost);
  std::string text = fmt::format("{}", fmt::join(items.first(shown), separator));
  if (shown < items.size()) text += fmt::format("{}... and {} more", separator, items.size() - shown);
  return text;
}

}  // namespace candela::io

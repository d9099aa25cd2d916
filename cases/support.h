#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

/// docs/support.md: which implementation serves which op, device and dtype, found by running the case lists.
namespace candela::cases {

struct SupportRow {
  std::string family;
  std::string op;
  /// by column
  std::map<std::string, std::string> cells;
};

struct SupportTable {
  /// what stands above the table
  std::string preface;
  /// "cpu forward", "cpu backward", ...
  std::vector<std::string> columns;
  std::vector<SupportRow> rows;
};

/// Runs every case (but the large ones) on every device of this build.
SupportTable find_support();

std::string to_markdown(const SupportTable& table);
/// Reads back what to_markdown wrote; throws IoError with the line otherwise.
SupportTable parse_support(std::string_view markdown);

/// `own` with the columns of `other` that `own` does not have: what another build (a GPU, the emulator)
/// found.
SupportTable merge_support(SupportTable own, const SupportTable& other);

/// What of `own`, the preface included, is missing from or different in `committed`, one difference a line.
/// Columns that only one of them has are not looked at: the table was written on other devices then.
std::string differences(const SupportTable& own, const SupportTable& committed);

}  // namespace candela::cases

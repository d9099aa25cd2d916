#include <fmt/format.h>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include <candela/core/error.h>

#include "cases/support.h"

namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  candela::require<candela::IoError>(file.is_open(), "{}: cannot be read", path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Keeps the columns of other builds that the file already has.
int write_table(const std::string& path) {
  candela::cases::SupportTable table = candela::cases::find_support();
  if (std::ifstream(path).is_open())
    table = merge_support(std::move(table), candela::cases::parse_support(read_file(path)));
  std::ofstream file(path, std::ios::binary);
  file << to_markdown(table);
  candela::require<candela::IoError>(file.good(), "{}: cannot be written", path);
  return 0;
}

int check_table(const std::string& path) {
  const std::string wrong =
      differences(candela::cases::find_support(), candela::cases::parse_support(read_file(path)));
  if (wrong.empty()) return 0;
  std::cerr << path << " is out of date; run candela_support --write " << path << "\n" << wrong;
  return 1;
}

}  // namespace

/// candela_support --write FILE | --check FILE
int main(int argc, char** argv) {
  const std::string mode = argc == 3 ? argv[1] : "";
  try {
    if (mode == "--write") return write_table(argv[2]);
    if (mode == "--check") return check_table(argv[2]);
  } catch (const std::exception& error) {
    std::cerr << "candela_support: " << error.what() << "\n";
    return 1;
  }
  std::cerr << "usage: candela_support --write FILE | --check FILE\n";
  return 2;
}

#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "faults/interpose.h"

/// A disk after the power went: what was flushed is there, of everything else any part.
namespace candela::test {

class Disk {
 public:
  using Operation = faults::Operation;

  /// The files and folders at and below `root`, as they lie before the first operation.
  explicit Disk(const std::filesystem::path& root);

  /// What is left of the first `count` of `operations`: those that a flush covers, and of the others those
  /// that `keeps` draws.
  Disk after(const std::vector<Operation>& operations, std::size_t count, std::mt19937& draw,
             double keeps) const;

  /// Writes it out at `folder`, which is emptied before.
  void write_to(const std::filesystem::path& folder) const;

 private:
  struct Node {
    bool is_folder = false;
    std::string bytes;
    std::map<std::string, std::uint64_t> names;
  };

  void read(const std::filesystem::path& path, std::uint64_t inode);
  void apply(const Operation& operation);
  void write_node(const std::filesystem::path& path, std::uint64_t inode) const;

  std::uint64_t root_ = 0;
  std::map<std::uint64_t, Node> nodes_;
};

}  // namespace candela::test

#include "faults/disk.h"

#include <fstream>
#include <iterator>

#include "faults/inode.h"

namespace candela::test {
namespace {

namespace fs = std::filesystem;
using Operation = faults::Operation;
using Kind = Operation::Kind;

/// Whether a flush of `inode` covers `operation`: data by that of the file, names by that of their folders.
bool covers(std::uint64_t inode, const Operation& operation) {
  switch (operation.kind) {
    case Kind::Write:
    case Kind::Truncate:
      return operation.inode == inode;
    case Kind::Flush:
      return false;
    default:
      return operation.folder == inode;
  }
}

}  // namespace

Disk::Disk(const fs::path& root) : root_(faults::inode_of(root.c_str())) {
  read(root, root_);
}

void Disk::read(const fs::path& path, std::uint64_t inode) {
  Node node;
  node.is_folder = fs::is_directory(path);
  if (node.is_folder) {
    for (const auto& entry : fs::directory_iterator(path)) {
      const std::uint64_t child = faults::inode_of(entry.path().c_str());
      node.names[entry.path().filename().string()] = child;
      read(entry.path(), child);
    }
  } else {
    std::ifstream in(path, std::ios::binary);
    node.bytes = {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  nodes_[inode] = std::move(node);
}

Disk Disk::after(const std::vector<Operation>& operations, std::size_t count, std::mt19937& draw,
                 double keeps) const {
  Disk disk = *this;
  std::bernoulli_distribution kept(keeps);
  for (std::size_t i = 0; i < count; ++i) {
    bool stays = kept(draw);
    for (std::size_t later = i + 1; later < count && !stays; ++later)
      stays = operations[later].kind == Kind::Flush && covers(operations[later].inode, operations[i]);
    if (stays || operations[i].kind == Kind::Create || operations[i].kind == Kind::MakeFolder) {
      Operation operation = operations[i];
      if (!stays) operation.folder = 0;  // the file is there for those that follow, its name is not
      disk.apply(operation);
    }
  }
  return disk;
}

void Disk::apply(const Operation& operation) {
  const auto folder = nodes_.find(operation.folder);
  const auto name = [&](std::uint64_t in, const std::string& called, std::uint64_t inode) {
    const auto found = nodes_.find(in);
    if (found != nodes_.end()) found->second.names[called] = inode;
  };
  const auto unname = [&](std::uint64_t in, const std::string& called, std::uint64_t inode) {
    const auto found = nodes_.find(in);
    if (found == nodes_.end()) return;
    const auto entry = found->second.names.find(called);
    if (entry != found->second.names.end() && entry->second == inode) found->second.names.erase(entry);
  };
  switch (operation.kind) {
    case Kind::Create:
    case Kind::MakeFolder:
      nodes_[operation.inode] = {operation.kind == Kind::MakeFolder, {}, {}};
      if (folder != nodes_.end()) folder->second.names[operation.name] = operation.inode;
      break;
    case Kind::Write: {
      std::string& bytes = nodes_[operation.inode].bytes;
      const std::size_t end = operation.offset + operation.bytes.size();
      if (bytes.size() < end) bytes.resize(end, '\0');
      bytes.replace(operation.offset, operation.bytes.size(), operation.bytes);
      break;
    }
    case Kind::Truncate:
      nodes_[operation.inode].bytes.resize(operation.offset, '\0');
      break;
    case Kind::Rename:
      unname(operation.from_folder, operation.from_name, operation.inode);
      name(operation.folder, operation.name, operation.inode);
      break;
    case Kind::Exchange:
      name(operation.folder, operation.name, operation.inode);
      name(operation.from_folder, operation.from_name, operation.replaced);
      break;
    case Kind::Remove:
      unname(operation.folder, operation.name, operation.inode);
      break;
    case Kind::Flush:
      break;
  }
}

void Disk::write_to(const fs::path& folder) const {
  fs::remove_all(folder);
  write_node(folder, root_);
}

void Disk::write_node(const fs::path& path, std::uint64_t inode) const {
  const Node& node = nodes_.at(inode);
  if (!node.is_folder) {
    std::ofstream(path, std::ios::binary) << node.bytes;
    return;
  }
  fs::create_directory(path);
  for (const auto& [name, child] : node.names) write_node(path / name, child);
}

}  // namespace candela::test

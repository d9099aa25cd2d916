#include "flatten.h"

#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>

namespace translate {
namespace {

namespace fs = std::filesystem;

/// The name in a line `#include "name"`, or "".
std::string included_name(const std::string& line) {
  std::size_t i = line.find_first_not_of(" \t");
  if (i == line.npos || line[i] != '#') return "";
  i = line.find_first_not_of(" \t", i + 1);
  if (i == line.npos || line.compare(i, 7, "include") != 0) return "";
  i = line.find_first_not_of(" \t", i + 7);
  if (i == line.npos || line[i] != '"') return "";
  const std::size_t close = line.find('"', i + 1);
  return close == line.npos ? "" : line.substr(i + 1, close - i - 1);
}

fs::path find_included(const fs::path& from, const std::string& name, const std::vector<fs::path>& folders) {
  if (const fs::path beside = from.parent_path() / name; fs::exists(beside)) return fs::canonical(beside);
  for (const fs::path& folder : folders) {
    if (fs::exists(folder / name)) return fs::canonical(folder / name);
  }
  throw std::runtime_error(from.string() + ": cannot find the include \"" + name + "\"");
}

void append(const fs::path& path, const std::vector<fs::path>& folders, std::set<fs::path>& seen,
            std::string& out) {
  std::istringstream text(read_text(path));
  for (std::string line; std::getline(text, line);) {
    const std::string name = included_name(line);
    if (name.empty()) {
      if (line.find("#pragma once") == line.npos) out += line;
    } else if (const fs::path file = find_included(path, name, folders); seen.insert(file).second) {
      append(file, folders, seen, out);
    }
    out += '\n';
  }
}

}  // namespace

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw std::runtime_error(path.string() + ": cannot be read");
  return std::move(text).str();
}

std::string flatten(const fs::path& path, const std::vector<fs::path>& folders) {
  std::set<fs::path> seen = {fs::canonical(path)};
  std::string out;
  append(fs::canonical(path), folders, seen, out);
  return out;
}

}  // namespace translate

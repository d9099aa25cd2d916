// embed_shaders OUTPUT FAMILY=FILE...: writes a C++ source that holds the shaders of every family. A `.metal`
// file is embedded as text with its quoted includes put in place, once each, so that it compiles on its own
// at run time; any other file (a metallib) as it is.

#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (!file) throw std::runtime_error("embed_shaders: cannot read " + path.string());
  return content.str();
}

/// The file that a line `#include "file"` names, or "".
std::string included(const std::string& line) {
  const std::string start = "#include \"";
  if (line.compare(0, start.size(), start) != 0) return "";
  return line.substr(start.size(), line.rfind('"') - start.size());
}

void flatten(const fs::path& path, std::set<fs::path>& seen, std::string& out) {
  std::istringstream lines(read(path));
  for (std::string line; std::getline(lines, line);) {
    const std::string name = included(line);
    if (name.empty()) {
      out += line;
    } else {
      const fs::path file = fs::canonical(path.parent_path() / name);
      if (seen.insert(file).second) flatten(file, seen, out);
    }
    out += '\n';
  }
}

struct Family {
  std::string name, content;
  bool compiled = false;
};

Family load(const std::string& argument) {
  const std::size_t equals = argument.find('=');
  if (equals == std::string::npos)
    throw std::runtime_error("embed_shaders: expected FAMILY=FILE; got " + argument);
  const fs::path path = argument.substr(equals + 1);
  Family family{argument.substr(0, equals), "", path.extension() != ".metal"};
  if (family.compiled) {
    family.content = read(path);
  } else {
    std::set<fs::path> seen = {fs::canonical(path)};
    flatten(fs::canonical(path), seen, family.content);
  }
  return family;
}

void write(std::ostream& out, const std::vector<Family>& families) {
  out << "// Written by cmake/embed_shaders.cpp.\n#include <array>\n#include <string>\n\n#include "
         "<candela/core/error.h>\n\n"
         "#include \"backend/metal/shader_library.h\"\n\nnamespace candela::metal {\nnamespace {\n\n";
  for (const Family& family : families) {
    out << "alignas(16) constexpr unsigned char k_" << family.name << "[] = {";
    for (std::size_t i = 0; i < family.content.size(); ++i) {
      out << (i % 32 == 0 ? "\n" : "") << static_cast<int>(static_cast<unsigned char>(family.content[i]))
          << ',';
    }
    out << "};\n";
  }
  out << "\nconstexpr std::array<EmbeddedShaders, " << families.size() << "> kFamilies = {{\n";
  for (const Family& family : families) {
    out << "    {\"" << family.name << "\", k_" << family.name << ", sizeof(k_" << family.name << "), "
        << (family.compiled ? "true" : "false") << "},\n";
  }
  out << "}};\n\n}  // namespace\n\nconst EmbeddedShaders& embedded_shaders(std::string_view family) {\n"
         "  for (const EmbeddedShaders& shaders : kFamilies) {\n    if (shaders.family == family) return "
         "shaders;\n  }\n"
         "  throw DeviceError(\"metal: no shaders of family \" + std::string(family));\n}\n\n}  // namespace "
         "candela::metal\n";
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 3) throw std::runtime_error("usage: embed_shaders OUTPUT FAMILY=FILE...");
    std::vector<Family> families;
    for (int i = 2; i < argc; ++i) families.push_back(load(argv[i]));
    std::ofstream out(argv[1], std::ios::binary);
    write(out, families);
    out.flush();
    if (!out) throw std::runtime_error(std::string("embed_shaders: cannot write ") + argv[1]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}

// translate_metal --preprocessed FILE.ii --source FILE.metal --name NAME --output FILE.cpp [--include DIR]...
// translate_metal --flatten FILE.metal --output FILE [--include DIR]...
// translate_metal --opencl FILE.ii --output FILE.clcpp

#include <cstdio>
#include <fstream>
#include <map>

#include "flatten.h"
#include "opencl.h"
#include "translator.h"

namespace {

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error(path + ": cannot be written");
}

int run(int count, char** words) {
  std::map<std::string, std::string> given;
  std::vector<std::filesystem::path> folders;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string option = words[i];
    if (option == "--include") {
      folders.emplace_back(words[i + 1]);
    } else {
      given[option] = words[i + 1];
    }
  }
  const bool flatten = given.contains("--flatten");
  const bool opencl = given.contains("--opencl");
  if (count % 2 == 0 || !given.contains("--output") ||
      (!flatten && !opencl &&
       (!given.contains("--preprocessed") || !given.contains("--source") || !given.contains("--name")))) {
    std::fputs(
        "usage: translate_metal --preprocessed FILE --source FILE --name NAME --output FILE [--include "
        "DIR]...\n"
        "       translate_metal --flatten FILE --output FILE [--include DIR]...\n"
        "       translate_metal --opencl PREPROCESSED --output FILE\n",
        stderr);
    return 2;
  }
  if (flatten) {
    write(given["--output"], translate::flatten(given["--flatten"], folders));
    return 0;
  }
  if (opencl) {
    write(given["--output"], translate::to_opencl(translate::read_text(given["--opencl"])));
    return 0;
  }
  const std::string& source = given["--source"];
  const translate::SourceInfo info{given["--name"], fnv1a(translate::read_text(source)),
                                   fnv1a(translate::flatten(source, folders))};
  const std::string preprocessed = translate::read_text(given["--preprocessed"]);
  write(given["--output"], translate::translate(preprocessed, info));
  return 0;
}

}  // namespace

int main(int count, char** words) {
  try {
    return run(count, words);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

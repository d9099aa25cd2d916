#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

namespace candela {
namespace {

/// candela.h promises everything at once.
TEST(PublicHeaders, CandelaIncludesEveryOne) {
  const std::filesystem::path include = std::filesystem::path(CANDELA_SOURCE_DIR) / "include";
  std::ifstream in(include / "candela/candela.h");
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  std::size_t headers = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(include)) {
    if (entry.path().extension() != ".h" || entry.path().filename() == "candela.h") continue;
    ++headers;
    const std::string line = "#include <" + std::filesystem::relative(entry.path(), include).string() + ">\n";
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
  EXPECT_GT(headers, 30U);
}

}  // namespace
}  // namespace candela

#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <string>
#include <string_view>

/// Where the tests find their files, and folders of their own.
namespace candela::test {

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(CANDELA_SOURCE_DIR) / "tests/io/fixtures" / name;
}

/// The first that exists of `relative` in the repository and in the shared folder beside it; empty if none
/// does.
inline std::filesystem::path find_shared(const std::string& relative) {
  const std::filesystem::path root = CANDELA_SOURCE_DIR;
  for (const auto& folder : {root, root / "../shared", root / "../../shared"}) {
    if (std::filesystem::exists(folder / relative)) return folder / relative;
  }
  return {};
}

inline std::filesystem::path bundled_model() {
  return find_shared("models/stories-7m");
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << text;
  ASSERT_TRUE(file.good()) << path;
}

/// A folder that is there for one test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "candela_test_XXXXXX").string();
    if (mkdtemp(pattern.data())) path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Runs `action`, which must throw an E, and returns the text of the error.
template <class E, class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another type of error: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

inline void expect_contains(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << "text: " << text << "\nlacks: " << part;
}

}  // namespace candela::test

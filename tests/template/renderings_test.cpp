#include <cstdio>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "io/chat.h"

/// The chat templates of real models against what transformers renders for them. The data is not part of the
/// project: it lies beside the checkout where it is at hand.
namespace candela {
namespace {

std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string unpacked(const std::filesystem::path& path) {
  const std::string command = "xz -dc '" + path.string() + "'";
  FILE* pipe = popen(command.c_str(), "r");
  std::string text;
  char buffer[1 << 16];
  while (pipe) {
    const std::size_t size = std::fread(buffer, 1, sizeof buffer, pipe);
    if (size == 0) break;
    text.append(buffer, size);
  }
  if (pipe) pclose(pipe);
  return text;
}

TEST(Renderings, OfRealTemplatesEqualTransformers) {
  const std::filesystem::path folder =
      std::filesystem::path(CANDELA_SOURCE_DIR).parent_path() / "shared/data/chat-templates";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not here";
  std::istringstream rows(unpacked(folder / "renderings.jsonl.xz"));
  std::map<std::string, jinja::Template> templates;
  std::size_t texts = 0, errors = 0;
  for (std::string line; std::getline(rows, line);) {
    const auto row = nlohmann::json::parse(line);
    const std::string name = row.at("template");
    const std::string where = name + " " + row.at("case").get<std::string>();
    if (!templates.count(name))
      templates.emplace(name,
                        jinja::Template::parse(file_text(folder / "templates" / (name + ".jinja")), name));
    std::optional<std::string> text;
    std::string error;
    try {
      const io::ChatInput input = io::parse_chat_row(line, where);
      text = templates.at(name).render(io::variables_of(input, {}), input.now).text;
    } catch (const TemplateError& refusal) {
      error = refusal.what();
    }
    if (row.contains("text")) {
      ++texts;
      EXPECT_TRUE(text.has_value()) << where << ": " << error;
      if (text) {
        EXPECT_EQ(*text, row.at("text").get<std::string>()) << where;
      }
      continue;
    }
    ++errors;
    // Python's own type errors where a content is a list or a dict: an error or a text.
    const std::string wanted = row.at("error");
    if (!text) continue;
    EXPECT_TRUE(wanted.starts_with("TypeError"))
        << where << " must fail with " << wanted << "; got " << *text;
  }
  EXPECT_EQ(texts, 344u);
  EXPECT_EQ(errors, 74u);
}

}  // namespace
}  // namespace candela

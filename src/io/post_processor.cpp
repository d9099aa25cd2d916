#include "io/post_processor.h"

#include <algorithm>
#include <map>

#include "io/vocabulary.h"

namespace candela::io {
namespace {

/// Bounds on what is put around a text; models put one id or two.
constexpr std::size_t kMostAdded = 4096;
constexpr std::size_t kMostTemplates = 16;

std::int32_t checked_id(const Json& value, const JsonObject& owner, const char* key) {
  if (!value.is_number_integer() || value.get<double>() < 0 ||
      value.get<double>() > double(Vocabulary::kMaxId)) {
    owner.fail(key, "made of token ids");
  }
  return value.get<std::int32_t>();
}

}  // namespace

PostProcessor::PostProcessor(const JsonObject& description) {
  add(description);
}

void PostProcessor::add(const JsonObject& description) {
  const std::string type = description.string("type");
  if (type == "Sequence") {
    for (const JsonObject& part : description.objects("processors")) add(part);
  } else if (type == "TemplateProcessing") {
    add_template(description);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    add_pair(description);
  } else if (type != "ByteLevel") {  // ByteLevel only moves character offsets, which nothing here keeps
    throw Unsupported(fmt::format(
        "{}: {} \"{}\" is not supported; known are TemplateProcessing, ByteLevel, BertProcessing, "
        "RobertaProcessing and Sequence",
        description.source(), description.path_of("type"), type));
  }
}

void PostProcessor::add_template(const JsonObject& description) {
  std::map<std::string, std::vector<std::int32_t>> special;
  const JsonObject tokens = description.object("special_tokens");
  for (const auto& [name, value] : tokens.json().items()) {
    const JsonObject token(value, description.source(), tokens.path_of(name));
    const Json& ids = token.at("ids");
    if (!ids.is_array()) token.fail("ids", "an array of token ids");
    for (const Json& id : ids) special[name].push_back(checked_id(id, token, "ids"));
  }
  std::vector<Part> parts;
  std::size_t added = 0;  // a small file can name one long list again and again
  for (const JsonObject& entry : description.objects("single")) {
    if (entry.has("Sequence")) {
      if (entry.object("Sequence").string("id") != "A")
        entry.fail("Sequence", "the sequence A (a single text has no other)");
      parts.push_back({true, {}});
    } else if (entry.has("SpecialToken")) {
      const std::string name = entry.object("SpecialToken").string("id");
      const auto found = special.find(name);
      if (found == special.end()) entry.fail("SpecialToken", "one that special_tokens lists");
      added += found->second.size();
      if (added > kMostAdded)
        description.fail("single", fmt::format("a template of at most {} ids", kMostAdded));
      parts.push_back({false, found->second});
    } else {
      throw IoError(fmt::format("{}: {} must be a Sequence or a SpecialToken; got {}", entry.source(),
                                entry.path_of("Sequence"), shown(entry.json())));
    }
  }
  const auto texts = std::count_if(parts.begin(), parts.end(), [](const Part& part) { return part.is_text; });
  if (texts != 1) description.fail("single", "a template with the sequence A in one place");
  add_parts(std::move(parts), description);
}

void PostProcessor::add_parts(std::vector<Part> parts, const JsonObject& description) {
  if (parts.size() == 1) return;  // the text alone
  require<IoError>(templates_.size() < kMostTemplates,
                   "{}: post_processor must have at most {} templates; got more", description.source(),
                   kMostTemplates);
  templates_.push_back(std::move(parts));
}

void PostProcessor::add_pair(const JsonObject& description) {
  const auto id = [&](const char* key) {
    const Json& pair = description.at(key);
    if (!pair.is_array() || pair.size() != 2) description.fail(key, "a pair of token and id");
    return std::vector<std::int32_t>{checked_id(pair[1], description, key)};
  };
  add_parts({{false, id("cls")}, {true, {}}, {false, id("sep")}}, description);
}

std::vector<std::int32_t> PostProcessor::prefix() const {
  std::vector<std::int32_t> result;
  for (const auto& parts : templates_) {
    std::vector<std::int32_t> front;
    for (const Part& part : parts) {
      if (part.is_text) break;
      front.insert(front.end(), part.ids.begin(), part.ids.end());
    }
    result.insert(result.begin(), front.begin(), front.end());
  }
  return result;
}

std::vector<std::int32_t> PostProcessor::apply(std::vector<std::int32_t> ids) const {
  for (const auto& parts : templates_) {
    std::vector<std::int32_t> result;
    for (const Part& part : parts) {
      const auto& source = part.is_text ? ids : part.ids;
      result.insert(result.end(), source.begin(), source.end());
    }
    ids = std::move(result);
  }
  return ids;
}

}  // namespace candela::io

#include "cli/chat_record.h"

#include <algorithm>
#include <fmt/ranges.h>

#include <candela/core/atomic_file.h>
#include <candela/io/hub_cache.h>

#include "cli/output.h"
#include "io/chat_turns.h"
#include "io/json.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemplateFile = "chat_template.jinja";
constexpr const char* kRecordFile = "candela_chat.json";

std::vector<TokenId> ids_of(const io::JsonObject& object, const char* key) {
  std::vector<TokenId> ids;
  for (const std::int64_t id : object.integers_or_one(key)) {
    if (id < 0 || id > 0x7FFFFFFF) object.fail(key, "token ids");
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

}  // namespace

ChatRecord chat_record_of(const DatasetOptions& rows, const Tokenizer& tokenizer) {
  ChatRecord record;
  record.stop_ids = rows.end_ids;
  record.prefix = rows.frame.prefix;
  if (rows.chat_template && !rows.raw) {
    record.chat_template = rows.chat_template->source();
    if (const auto end = io::end_of_turn(*rows.chat_template, tokenizer, rows.end_ids))
      record.stop_ids.push_back(*end);
  } else if (const auto end = tokenizer.token_to_id(kChatMlEnd)) {
    record.stop_ids.push_back(*end);
  }
  std::sort(record.stop_ids.begin(), record.stop_ids.end());
  record.stop_ids.erase(std::unique(record.stop_ids.begin(), record.stop_ids.end()), record.stop_ids.end());
  return record;
}

void save_chat_record(const fs::path& folder, const ChatRecord& record) {
  AtomicFile json(folder / kRecordFile);
  // Written out: a JSON tree allocates where it is destroyed, which ends the process where memory has run
  // out.
  json.write(fmt::format("{{\n  \"prefix\": [{}],\n  \"stop_ids\": [{}]\n}}\n",
                         fmt::join(record.prefix, ", "), fmt::join(record.stop_ids, ", ")));
  json.flush();
  if (record.chat_template) {
    AtomicFile file(folder / kTemplateFile);
    file.write(*record.chat_template);
    file.commit();
  } else {
    std::error_code ignored;
    fs::remove(folder / kTemplateFile, ignored);
  }
  json.commit();
}

std::optional<ChatRecord> load_chat_record(const fs::path& name) {
  const fs::path folder = local_path(name);
  std::error_code error;
  if (!fs::exists(folder / kRecordFile, error)) return std::nullopt;
  const auto document = io::load_json(folder / kRecordFile, {.max_bytes = 1 << 20});
  const io::JsonObject object(document, (folder / kRecordFile).string());
  ChatRecord record{std::nullopt, ids_of(object, "stop_ids"), ids_of(object, "prefix")};
  if (fs::exists(folder / kTemplateFile, error))
    record.chat_template = io::read_file(folder / kTemplateFile, 1 << 20);
  return record;
}

void warn_of_differences(const ChatRecord& adapter, const ChatRecord& model, const std::string& folder) {
  if (adapter.chat_template != model.chat_template) {
    warn(fmt::format(
        "{}: was trained with {} chat template than the model's; chats are written by the adapter's", folder,
        adapter.chat_template ? "another" : "no other"));
  }
  if (adapter.stop_ids != model.stop_ids) {
    warn(fmt::format("{}: was trained with turns that end in [{}]; the model ends them in [{}]", folder,
                     fmt::join(adapter.stop_ids, ", "), fmt::join(model.stop_ids, ", ")));
  }
  if (adapter.prefix != model.prefix) {
    warn(fmt::format("{}: was trained with [{}] in front of a text (BOS); the model puts [{}] there", folder,
                     fmt::join(adapter.prefix, ", "), fmt::join(model.prefix, ", ")));
  }
}

}  // namespace candela::cli

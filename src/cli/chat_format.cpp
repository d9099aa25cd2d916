#include "cli/chat_format.h"

#include <fmt/format.h>

#include <candela/io/text_frame.h>

#include "cli/row_options.h"
#include "cli/usage.h"

namespace candela::cli {

ChatFormat::ChatFormat(const ModelOptions& model, const std::string& file, Tokenizer tokenizer,
                       const ModelConfig& config)
    : model_(model.model), tokenizer_(std::move(tokenizer)), template_(chat_template_of(file, model.model)) {
  DatasetOptions rows = DatasetOptions::for_model(tokenizer_, config);
  rows.chat_template = template_;
  prefix_ = rows.frame.prefix;
  const ChatRecord own = chat_record_of(rows, tokenizer_);
  stop_ids_ = own.stop_ids;
  if (model.adapter.empty()) return;
  const std::optional<ChatRecord> trained = load_chat_record(model.adapter);
  if (!trained) return;
  warn_of_differences(*trained, own, model.adapter);
  stop_ids_.insert(stop_ids_.end(), trained->stop_ids.begin(), trained->stop_ids.end());
  if (file.empty() && trained->chat_template && trained->chat_template != own.chat_template)
    template_ =
        ChatTemplate::parse(*trained->chat_template, model.adapter + "/chat_template.jinja", model.model);
}

std::vector<TokenId> ChatFormat::encode(const ChatMessages& messages,
                                        const nlohmann::ordered_json& options) const {
  if (template_) {
    const nlohmann::ordered_json row = {
        {"messages", messages}, {"add_generation_prompt", true}, {"kwargs", options}};
    const std::string text = row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    return tokenizer_.encode(template_->render(text, "chat"), false);
  }
  require_chatml(tokenizer_, model_);
  std::vector<ChatMessage> plain;
  for (const nlohmann::ordered_json& message : messages)
    plain.push_back({message.at("role").get<std::string>(), message.at("content").get<std::string>()});
  return TextFrame{prefix_, std::nullopt}.framed(tokenizer_.encode(render_chatml(plain, true), false));
}

nlohmann::ordered_json parse_chat_options(const std::string& text) {
  if (text.empty()) return nlohmann::ordered_json::object();
  const nlohmann::ordered_json options = nlohmann::ordered_json::parse(text, nullptr, false);
  require<UsageError>(options.is_object(), "--chat-options: must be a JSON object; got {}",
                      text.substr(0, 60));
  return options;
}

}  // namespace candela::cli

#include "cli/cli.h"

namespace candela {
namespace {

using test::Cli;
using test::Outcome;

constexpr const char* kTemplate =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if short %}!{% endif %}{% endif %}";

/// Commands that write chats by the model's template.
class ChatCli : public Cli {
 protected:
  std::string model_with(const std::string& chat_template) {
    const std::string model = write_tiny_model("model");
    write("model/chat_template.jinja", chat_template);
    return model;
  }
  Outcome talk(const std::string& options, const std::string& lines) {
    write("lines", lines);
    return run(fmt::format("chat --max-tokens 3 {} < '{}'", options, path("lines")));
  }
};

TEST_F(ChatCli, TheTemplateStopTokensAndBosAreSavedWithTheAdapterAndCompared) {
  const std::string model = model_with(kTemplate);
  write_rows("rows.jsonl");
  const Outcome trained = run(finetune(fmt::format("--output '{}'", path("adapter")), model));
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(read(path("adapter/chat_template.jinja")), kTemplate);
  EXPECT_EQ(read_json("adapter/candela_chat.json").at("stop_ids").size(), 2u) << "EOS and <|im_end|>";
  const std::string generate = fmt::format(
      "generate --model '{}' --adapter '{}' --chat --prompt hi --max-tokens 2", model, path("adapter"));
  const Outcome same = run(generate);
  EXPECT_EQ(same.status, 0) << same.err;
  EXPECT_FALSE(same.says("warning")) << same.err;
  write("model/chat_template.jinja", std::string("{{ bos_token }}") + kTemplate);
  EXPECT_TRUE(run(generate).says("was trained with another chat template than the model's"));
  const Outcome doctor = run(fmt::format("doctor --model '{}' --adapter '{}' --data '{}'", model,
                                         path("adapter"), path("rows.jsonl")));
  EXPECT_EQ(doctor.status, 1);
  EXPECT_TRUE(doctor.says("PROBLEM  adapter")) << doctor.out;
  EXPECT_TRUE(doctor.says("ok       merge")) << doctor.out;
}

TEST_F(ChatCli, AMalformedTemplateIsNamed) {
  const std::string model = model_with("{% if %}");
  const Outcome chat = run(fmt::format("generate --model '{}' --chat --prompt hi", model));
  EXPECT_EQ(chat.status, 1);
  EXPECT_TRUE(chat.says("chat_template.jinja: line 1: ")) << chat.err;
  EXPECT_EQ(run(fmt::format("generate --model '{}' --prompt hi --max-tokens 1", model)).status, 0);
  EXPECT_EQ(
      run(fmt::format("generate --model '{}' --prompt hi --chat --chat-options '[1]'", model_with(kTemplate)))
          .status,
      2);
}

TEST_F(ChatCli, ASessionTakesMessagesAndCommandsLineByLine) {
  const std::string model = model_with(kTemplate);
  const Outcome session = talk(fmt::format("--model '{}' --system 'Be brief.'", model),
                               fmt::format("Hello\n\n/save {0}\n/reset\n/system\nAgain\n/save "
                                           "{1}\n/nothing\n/adapter /nowhere\n/adapter off\n/quit\nnever\n",
                                           path("first.jsonl"), path("second.jsonl")));
  EXPECT_EQ(session.status, 0) << session.err;
  const auto first = read_json("first.jsonl").at("messages"),
             second = read_json("second.jsonl").at("messages");
  ASSERT_EQ(first.size(), 3u);
  EXPECT_EQ(first[0].at("content"), "Be brief.");
  EXPECT_EQ(first[1].at("content"), "Hello");
  EXPECT_EQ(first[2].at("role"), "assistant");
  ASSERT_EQ(second.size(), 2u);
  EXPECT_EQ(second[0].at("content"), "Again");
  EXPECT_TRUE(session.says("tok/s")) << session.err;
  EXPECT_TRUE(session.says("unknown command /nothing")) << session.err;
  EXPECT_TRUE(session.says("/nowhere")) << session.err;
}

/// The second turn begins with the first, which is not computed again; with another adapter it is.
TEST_F(ChatCli, ATurnKeepsWhatWasComputed) {
  const std::string model = model_with(kTemplate);
  const Outcome session = talk(fmt::format("--model '{}'", model), "Hello\nAgain\n/adapter off\nOnce more\n");
  ASSERT_EQ(session.status, 0) << session.err;
  std::vector<int> kept;
  const std::string mark = "in front, of which ";
  for (std::size_t at = session.err.find(mark); at != std::string::npos; at = session.err.find(mark, at + 1))
    kept.push_back(std::stoi(session.err.substr(at + mark.size())));
  ASSERT_EQ(kept.size(), 3u) << session.err;
  EXPECT_EQ(kept[0], 0);
  EXPECT_GT(kept[1], 5);
  EXPECT_EQ(kept[2], 0);
}

TEST_F(ChatCli, DataCheckTellsOfRowsAndFailsOnBadOnes) {
  const std::string model = model_with(kTemplate);
  write("rows.jsonl",
        "{\"prompt\": \"q\", \"completion\": \"a\"}\n\n{\"prompt\": \"q\", \"completion\": \"b\"}\n");
  const std::string check = fmt::format("data check --model '{}' --data '{}'", model, path("rows.jsonl"));
  const Outcome good = run(check);
  EXPECT_EQ(good.status, 0) << good.err;
  for (const char* part :
       {"2 rows as prompt/completion", "chat_template.jinja", "lengths", "padding", "⟦a<|im_end|>⟧"})
    EXPECT_TRUE(good.says(part)) << part << "\n" << good.out;
  EXPECT_TRUE(run(check + " --raw").says("⟦a<|endoftext|>⟧"));
  EXPECT_TRUE(good.says(
      "epoch       1 of 8 rows, 0.0 % padding in batches of like length\n            1 of 1 pack of 128 "
      "tokens, "))
      << good.out;
  const Outcome measured = run(check + " --measure 0.01");
  EXPECT_TRUE(measured.says("tok/s in rows, ")) << measured.out << measured.err;
  write("questions.jsonl", "{\"question\": \"q\", \"answer\": \"a\"}\n");
  const Outcome mapped =
      run(fmt::format("data check --model '{}' --data '{}' --map prompt=question --map completion=answer",
                      model, path("questions.jsonl")));
  EXPECT_TRUE(mapped.says("⟦a<|im_end|>⟧")) << mapped.err;
  write("rows.jsonl", "{\"prompt\": \"q\", \"completion\": \"a\"}\n{\"prompt\": \"q\"}\nx\n");
  const Outcome bad = run(check);
  EXPECT_EQ(bad.status, 1);
  EXPECT_TRUE(bad.says("rows.jsonl:2: completion must be")) << bad.err;
  EXPECT_TRUE(bad.says("rows.jsonl:3: must be valid JSON")) << bad.err;
  write(
      "rows.jsonl",
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]})");
  EXPECT_EQ(run(check).status, 1) << "a row that trains on nothing";
}

TEST_F(ChatCli, TheDoctorFindsAModelInOrderOrSaysWhatIsNot) {
  const std::string model = model_with(kTemplate);
  const Outcome unstopped = run(fmt::format("doctor --model '{}'", model));
  EXPECT_EQ(unstopped.status, 1) << "<|im_end|> ends answers, and EOS alone ends generation";
  EXPECT_TRUE(unstopped.says("PROBLEM  stop")) << unstopped.out;
  auto config = read_json("model/config.json");
  const auto tokens = read_json("model/tokenizer.json").at("added_tokens");
  for (const auto& token : tokens)
    if (token.at("content") == "<|im_end|>") config["eos_token_id"] = {0, token.at("id")};
  write("model/config.json", config.dump());
  const Outcome good = run(fmt::format("doctor --model '{}'", model));
  EXPECT_EQ(good.status, 0) << good.out << good.err;
  EXPECT_TRUE(good.says("ok       stop")) << good.out;
}

/// A template and a file's name come from outside, and a terminal acts on some characters.
TEST_F(ChatCli, WhatATemplateOrAFileNameSaysIsEscaped) {
  const std::string model = model_with("{{ raise_exception('a\033[31mb') }}");
  const Outcome doctor = run(fmt::format("doctor --model '{}'", model));
  EXPECT_EQ(doctor.out.find('\033'), std::string::npos) << doctor.out;
  EXPECT_TRUE(doctor.says("a\\x1b[31mb")) << doctor.out << doctor.err;
  write_rows("rows\033[31m.jsonl", 4);
  const Outcome check = run(fmt::format("data check --model '{}' --data '{}'", write_tiny_model("plain"),
                                        path("rows\033[31m.jsonl")));
  EXPECT_EQ(check.status, 0) << check.err;
  EXPECT_EQ(check.out.find('\033'), std::string::npos) << check.out;
  EXPECT_TRUE(check.says("rows\\x1b[31m.jsonl: 4 rows")) << check.out;
}

}  // namespace
}  // namespace candela

#include <fstream>

#include "cli/cli.h"

namespace candela {
namespace {

using test::Cli;
using test::Outcome;

/// What `candela render` writes for rows on standard input.
class Render : public Cli {
 protected:
  Outcome render(const std::string& options, const std::string& rows) {
    std::ofstream(path("rows")) << rows;
    return run(fmt::format("render {} < '{}'", options, path("rows")));
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(path(name)) << text; }
};

TEST_F(Render, WritesOneJsonStringARowAndGoesOnAfterARefusal) {
  write("t.jinja",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ bos_token }}{{ x }}"
        "{% if not messages %}{{ raise_exception('no \"messages\"') }}{% endif %}");
  const Outcome made =
      render(fmt::format("--template '{}'", path("t.jinja")),
             R"({"messages": [{"role": "user", "content": "é"}], "bos_token": "<s>", "kwargs": {"x": 1}})"
             "\n\n{\"messages\": []}\n{\n{\"messages\": [{\"role\": \"a\"}]}\n");
  EXPECT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(made.out.substr(0, made.out.find('\n')), R"("user: é\n<s>1")");
  EXPECT_NE(made.out.find(R"({"error":"row 3: )"), std::string::npos) << made.out;
  EXPECT_NE(made.out.find("TemplateError: no \\\"messages\\\""), std::string::npos) << made.out;
  EXPECT_NE(made.out.find("row 4: must be valid JSON"), std::string::npos) << made.out;
  EXPECT_NE(made.out.find("\"a: \\n\""), std::string::npos) << made.out;
}

TEST_F(Render, ReadsTheTemplateOfAModelFolder) {
  write(
      "tokenizer_config.json",
      R"({"bos_token": {"content": "<b>"}, "chat_template": [{"name": "default", "template": "{{ bos_token }}d"},
        {"name": "tool_use", "template": "t{{ tools|length }}"}]})");
  const std::string rows = "{\"messages\": []}\n{\"messages\": [], \"tools\": [1, 2]}\n";
  EXPECT_EQ(render(fmt::format("--model '{}'", path("")), rows).out, "\"<b>d\"\n\"t2\"\n");
  write("chat_template.jinja", "file");
  EXPECT_EQ(render(fmt::format("--model '{}'", path("")), rows).out, "\"file\"\n\"file\"\n");
}

TEST_F(Render, SaysWhatIsWrongWithTemplateOrCall) {
  write("bad.jinja", "a\n{% if x %}");
  const Outcome bad = render(fmt::format("--template '{}'", path("bad.jinja")), "");
  EXPECT_EQ(bad.status, 1);
  EXPECT_NE(bad.err.find("bad.jinja: line 2: unexpected end of template"), std::string::npos) << bad.err;
  EXPECT_EQ(render("", "").status, 2);
  const Outcome none = render(fmt::format("--model '{}'", path("")), "");
  EXPECT_EQ(none.status, 1);
  EXPECT_NE(none.err.find("has no chat template"), std::string::npos) << none.err;
}

}  // namespace
}  // namespace candela

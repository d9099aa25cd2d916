#include "fuzz/fuzz.h"
#include "io/chat.h"

/// A chat template, rendered for a chat of each kind of content.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  static const io::ChatInput input = io::parse_chat_row(
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "é"}]},
          {"role": "assistant", "content": "a\n", "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, null]}}}]}],
          "tools": [{"type": "function"}], "now": "2026-01-02T03:04:05"})",
      "row");
  jinja::Limits limits;
  limits.max_steps = 200'000;
  limits.max_bytes = 8 << 20;
  limits.max_output = 1 << 20;
  fuzz::expect_result_or_error([&] {
    const jinja::Template chat = jinja::Template::parse(fuzz::text_of(data, size), "fuzz");
    const jinja::Rendering made = chat.render(io::variables_of(input, {}), input.now, limits);
    fuzz::check(made.text.size() <= limits.max_output, "the output is bounded");
    for (const jinja::Span& span : made.generated)
      fuzz::check(span.begin <= span.end && span.end <= made.text.size(), "spans are inside the text");
  });
  return 0;
}

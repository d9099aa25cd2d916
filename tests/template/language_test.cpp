#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "io/chat.h"
#include "template/engine.h"

namespace candela {
namespace {

/// The text of `source`, or "error: " and what it says.
std::string rendered(const std::string& source, const jinja::Limits& limits = {}) {
  try {
    const auto now = io::parse_time("2026-01-02T03:04:05");
    return jinja::Template::parse(source, "t")
        .render({{"messages", jinja::Value::list({})}}, now, limits)
        .text;
  } catch (const TemplateError& error) {
    return std::string("error: ") + error.what();
  }
}

// Each row was evaluated by Jinja itself: fixtures/README.md.
TEST(Language, EqualsJinja) {
  std::ifstream file(CANDELA_SOURCE_DIR "/tests/template/fixtures/language.jsonl");
  std::size_t rows = 0;
  for (std::string line; std::getline(file, line); ++rows) {
    const auto row = nlohmann::json::parse(line);
    const std::string source = row.at("template"), got = rendered(source);
    if (row.contains("text")) {
      EXPECT_EQ(got, row.at("text").get<std::string>()) << source;
    } else {
      EXPECT_TRUE(got.starts_with("error: "))
          << source << " must fail with " << row.at("error") << "; got " << got;
    }
  }
  EXPECT_GT(rows, 350u);
}

TEST(Language, NumbersAreWrittenAsPythonWritesThem) {
  EXPECT_EQ(rendered("{{ 1e400 }} {{ -1e400 }} {{ 1e16 }} {{ 1e15 }} {{ 9999999999999998.0 }}"),
            "inf -inf 1e+16 1000000000000000.0 9999999999999998.0");
  EXPECT_EQ(rendered("{{ 0.0001 }} {{ 0.00001 }} {{ 5e-324 }} {{ 1e-400 }} {{ 1.5e300 }} {{ 123456789.0 }}"),
            "0.0001 1e-05 5e-324 0.0 1.5e+300 123456789.0");
}

TEST(Language, ErrorsNameTemplateLineAndKind) {
  EXPECT_EQ(rendered("a\n{{ x.y }}"), "error: t: line 2: UndefinedError: 'x' is undefined");
  EXPECT_EQ(rendered("\n\n{% if %}"),
            "error: t: line 3: Expected an expression, got 'end of statement block'");
  EXPECT_EQ(rendered("{% macro m() %}\n{{ 1 / 0 }}{% endmacro %}\n{{ m() }}"),
            "error: t: line 2: ZeroDivisionError: division by zero");
  EXPECT_EQ(rendered("{{ [].append(1) }}"),
            "error: t: line 1: SecurityError: access to attribute 'append' of 'list' object is unsafe.");
}

TEST(Language, GenerationBlocksGiveSpans) {
  const auto made = jinja::Template::parse(
                        "{% for i in [1, 2] %}<{% generation %}a{{ i }}{% endgeneration %}>{% endfor %}", "t")
                        .render({});
  EXPECT_EQ(made.text, "<a1><a2>");
  ASSERT_EQ(made.generated.size(), 2u);
  EXPECT_EQ(made.text.substr(made.generated[1].begin, made.generated[1].end - made.generated[1].begin), "a2");
  EXPECT_FALSE(made.generated_elsewhere);
}

/// The text of each span, with bars between them; "?" where one went elsewhere.
std::string spans_of(const std::string& source) {
  const auto made = jinja::Template::parse(source, "t").render({});
  std::string text;
  for (const jinja::Span& span : made.generated)
    text += (text.empty() ? "" : "|") + made.text.substr(span.begin, span.end - span.begin);
  return made.generated_elsewhere ? text + "?" : text;
}

TEST(Language, GenerationBlocksAreFollowedOutOfMacrosAndSetBlocks) {
  const std::string macro = "{% macro m(x) %}<{% generation %}{{ x }}{% endgeneration %}>{% endmacro %}";
  EXPECT_EQ(spans_of(macro + "a{{ m('b') }}c{{ m('dé') }}"), "b|dé");
  EXPECT_EQ(spans_of(macro + "{% macro outer(x) %}({{ m(x) }}){% endmacro %}a{{ outer('b') }}"), "b");
  EXPECT_EQ(spans_of(macro + "{% set t = m('b') %}{{ t }}{{ t }}"), "b|b");
  EXPECT_EQ(spans_of("{% set t %}a{% generation %}b{% endgeneration %}{% endset %}c{{ t }}"), "b");
  EXPECT_EQ(spans_of("{% macro m() %}a{{ caller() }}{% endmacro %}"
                     "{% call m() %}{% generation %}b{% endgeneration %}{% endcall %}"),
            "b");
  // What is changed on the way, or never printed, is not to be found.
  EXPECT_EQ(spans_of(macro + "{{ m('b') | upper }}"), "?");
  EXPECT_EQ(spans_of(macro + "{{ 'a' ~ m('b') }}"), "?");
  EXPECT_EQ(spans_of(macro + "{% set t = m('b') %}"), "?");
  EXPECT_EQ(spans_of("{% filter upper %}{% generation %}b{% endgeneration %}{% endfilter %}"), "?");
}

// Each must end in an error soon, whatever it asks for.
TEST(Language, HostileTemplatesEndInAnError) {
  const std::string deep(5000, '('), negations(100'000, '-');
  std::string sums = "{{ 1";
  for (int i = 0; i < 20'000; ++i) sums += "+1";
  std::string blocks;
  for (int i = 0; i < 5000; ++i) blocks += "{% if 1 %}";
  const std::string twice =
      "{% set x = [1] %}{% set ns = namespace(x=x) %}{% for i in range(100) %}{% set ns.x = [ns.x, ns.x] "
      "%}{% endfor %}";
  for (const std::string& source : std::vector<std::string>{
           "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
           "{{ 'a' * 1000000000 }}",
           "{{ 'a' * 100000000 * 100000000 }}",
           "{{ '%1000000000d' % 1 }}",
           "{{ '{:1000000000}'.format(1) }}",
           "{{ '%.1000000000f' % 1 }}",
           "{{ 'a'.center(1000000000) }}{{ 'a'|indent(1000000000) }}",
           "{% set ns = namespace(x='a') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
           "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x|replace('a', ns.x) "
           "%}{% endfor %}",
           "{% for i in range(100000) %}{% for j in range(1000) %}xxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% "
           "endfor %}",
           "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
           "{% macro m(n) %}{{ m(n + 1) ~ m(n + 1) }}{% endmacro %}{{ m(0) }}",
           "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
           twice + "{{ ns.x == ns.x[0] }}",
           twice + "{{ ns.x }}",
           twice + "{{ ns.x|tojson }}",
           "{{ " + deep + " }}",
           "{{ " + negations + "1 }}",
           sums + " }}",
           blocks,
           "{{ strftime_now('%999999999d') }}",
           "{{ range(10000000000) }}",
           "{{ range(-9223372036854775807, 9223372036854775807)|length }}",
           "{{ 9223372036854775807 + 1 }}{{ (-9223372036854775807 - 1) // -1 }}",
           "{{ [1]|batch(10000000000, 1)|list }}",
           "{{ [1]|slice(10000000000)|list }}",
       }) {
    const std::string got = rendered(source);
    EXPECT_TRUE(got.starts_with("error: ")) << source.substr(0, 120) << " gave " << got.substr(0, 100);
  }
}

TEST(Language, ANamespaceThatHoldsItselfIsFreed) {
  EXPECT_EQ(rendered("{% set n = namespace() %}{% set n.n = n %}{% set n.l = [n] %}{{ n.n.n.l|length }}"),
            "1");
  EXPECT_EQ(rendered("{% set n = namespace() %}{% macro m() %}{{ n is defined }}{% endmacro %}{% set n.m = m "
                     "%}{{ n.m() }}"),
            "True");
  EXPECT_TRUE(rendered("{% set n = namespace() %}{% set n.n = n %}{{ n }}").starts_with("error: "));
}

TEST(Language, LimitsAreAsked) {
  jinja::Limits limits;
  limits.max_steps = 100;
  EXPECT_TRUE(rendered("{% for i in range(1000) %}{% endfor %}", limits).find("100 steps") !=
              std::string::npos);
  limits = {};
  limits.max_output = 10;
  EXPECT_TRUE(rendered("12345678901", limits).find("10 bytes") != std::string::npos);
  EXPECT_EQ(rendered("1234567890", limits), "1234567890");
}

TEST(Language, RefusesWhatIsNoText) {
  EXPECT_TRUE(rendered("\xff").starts_with("error: t: a template must be valid UTF-8"));
  EXPECT_TRUE(rendered(std::string(jinja::Template::kMaxSource + 1, 'a'))
                  .starts_with("error: t: a template must have at most"));
}

}  // namespace
}  // namespace candela

// Makes a text-to-SQL data set: a table's schema and a question in, one line of SQL out. See data/README.md.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "generator/query.h"
#include "generator/question.h"
#include "generator/random.h"
#include "generator/world.h"

namespace text_to_sql {
namespace {

constexpr std::string_view kHelp =
    R"(make_text_to_sql: makes questions about small tables, with the SQL that answers each.

A row shows one table's schema and a question; the answer is one select:

    Table toy: master, material, name, cost
    Which toys belong to Lily and cost under 9?
    select name from toy where master = 'Lily' and cost < 9

Tables, and some columns, go by different names from row to row, and the question has words of its own, so the
schema has to be read. Queries: columns, *, count, max/min/avg/sum, order by, limit, group by, distinct, and
conditions with =, >, <, between, and, or. SQL is in lower case, whose words small tokenizers know best.

Usage: make_text_to_sql --out DIR [options]
Writes DIR/train.jsonl, DIR/valid.jsonl and DIR/test.jsonl.

  --out DIR       folder to write to; made if it is not there
  --seed N        the same seed and options make the same bytes on every machine   (default 1)
  --train N       rows in train.jsonl                                              (default 4800)
  --valid N       rows in valid.jsonl                                              (default 200)
  --test N        rows in test.jsonl                                               (default 300)
  --tables A,B    use only these tables, e.g. dogs,books                           (default all)
  --format F      prompt: {"prompt": ..., "completion": ...}                       (default)
                  chat: {"messages": [user, assistant]}
                  text: {"text": ...}, prompt and SQL with a newline between
  --help          this text

No two rows of valid and test ask the same thing, and no row of train asks what any of them asks: neither in the
same words, nor for the same answer from the same table under the same conditions and values in other words.

Examples:
  make_text_to_sql --out my-data
  make_text_to_sql --out more --seed 7 --train 20000 --format chat
  make_text_to_sql --out pets --tables dogs,birds --train 1500 --valid 100 --test 100
)";

/// Wrong use of the command line; the exit status is 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Format { Chat, Prompt, Text };

struct Options {
  std::filesystem::path out;
  std::uint64_t seed = 1;
  std::uint64_t train = 4800, valid = 200, test = 300;
  std::vector<const Table*> tables;
  Format format = Format::Prompt;
  bool help = false;
};

struct Row {
  std::string prompt, answer;
};

std::uint64_t parse_number(std::string_view option, std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw UsageError(fmt::format("{}: expected a whole number from 0 to 2^64 - 1; got '{}'", option, text));
  }
  return value;
}

std::vector<const Table*> parse_tables(std::string_view text) {
  std::vector<const Table*> result;
  while (!text.empty()) {
    const std::string_view name = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), name.size() + 1));
    const Table* found = nullptr;
    std::string known;
    for (const Table& table : tables()) {
      if (table.plural == name || table.singular == name) found = &table;
      known += (known.empty() ? "" : ", ") + table.plural;
    }
    if (found == nullptr)
      throw UsageError(fmt::format("--tables: expected names among {}; got '{}'", known, name));
    result.push_back(found);
  }
  if (result.empty()) throw UsageError("--tables: expected at least one name, as in dogs,books; got none");
  return result;
}

Format parse_format(std::string_view text) {
  if (text == "chat") return Format::Chat;
  if (text == "prompt") return Format::Prompt;
  if (text == "text") return Format::Text;
  throw UsageError(fmt::format("--format: expected chat, prompt or text; got '{}'", text));
}

Options parse_options(const std::vector<std::string_view>& arguments) {
  Options options;
  for (const Table& table : tables()) options.tables.push_back(&table);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view option = arguments[i];
    if (option == "--help" || option == "-h") {
      options.help = true;
      return options;
    }
    static const std::set<std::string_view> kOptions = {"--out",  "--seed",   "--train", "--valid",
                                                        "--test", "--tables", "--format"};
    if (!kOptions.contains(option)) throw UsageError(fmt::format("unknown option '{}'; see --help", option));
    if (i + 1 == arguments.size())
      throw UsageError(fmt::format("{}: expected a value after it; got none", option));
    const std::string_view value = arguments[++i];
    if (option == "--out") options.out = value;
    if (option == "--seed") options.seed = parse_number(option, value);
    if (option == "--train") options.train = parse_number(option, value);
    if (option == "--valid") options.valid = parse_number(option, value);
    if (option == "--test") options.test = parse_number(option, value);
    if (option == "--tables") options.tables = parse_tables(value);
    if (option == "--format") options.format = parse_format(value);
  }
  if (options.out.empty()) throw UsageError("--out: expected a folder to write to; got none; see --help");
  return options;
}

/// Draws rows and keeps what was asked apart: see `kHelp` for what is disjoint.
class Generator {
 public:
  Generator(std::uint64_t seed, std::vector<const Table*> tables)
      : random_(seed), tables_(std::move(tables)) {}

  /// `count` rows whose meaning and question no held-out row has. With `hold_out`, they are held out from now
  /// on.
  std::vector<Row> rows(std::uint64_t count, bool hold_out) {
    constexpr int kPatience = 2000;  // draws in a row that bring nothing new: the space is used up
    std::vector<Row> result;
    for (int misses = 0; result.size() < count;) {
      const Query query = sample_query(random_, *random_.pick(tables_));
      const Schema schema = sample_schema(random_, query);
      const std::string asked = question(random_, query);
      const std::string key = meaning(query);
      Row row{schema_text(schema) + "\n" + asked, sql(query, schema)};
      if (held_out_meanings_.contains(key) || held_out_questions_.contains(asked) ||
          !prompts_.insert(row.prompt).second) {
        if (++misses == kPatience) {
          throw std::runtime_error(
              fmt::format("no new question after {} rows of {}; ask for fewer rows (--train, --valid, "
                          "--test) or more --tables",
                          result.size(), count));
        }
        continue;
      }
      misses = 0;
      if (hold_out) {
        held_out_meanings_.insert(key);
        held_out_questions_.insert(asked);
      }
      result.push_back(std::move(row));
    }
    return result;
  }

 private:
  Random random_;
  std::vector<const Table*> tables_;
  std::set<std::string> held_out_meanings_, held_out_questions_, prompts_;
};

/// `text` as a JSON string with its quotes. The generator's words are ASCII.
std::string json(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (c == '\n')
      result += "\\n";
    else
      result += c;
  }
  return result + "\"";
}

std::string line(const Row& row, Format format) {
  switch (format) {
    case Format::Chat:
      return fmt::format(
          R"({{"messages": [{{"role": "user", "content": {}}}, {{"role": "assistant", "content": {}}}]}})",
          json(row.prompt), json(row.answer));
    case Format::Prompt:
      return fmt::format(R"({{"prompt": {}, "completion": {}}})", json(row.prompt + "\n"), json(row.answer));
    case Format::Text:
      break;
  }
  return fmt::format(R"({{"text": {}}})", json(row.prompt + "\n" + row.answer));
}

void write_rows(const std::filesystem::path& path, const std::vector<Row>& rows, Format format) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  for (const Row& row : rows) file << line(row, format) << '\n';
  file.close();
  if (!file)
    throw std::runtime_error(
        fmt::format("{}: could not be written; is there space and permission?", path.string()));
}

void run(const Options& options) {
  Generator generator(options.seed, options.tables);
  const std::vector<Row> test = generator.rows(options.test, true);
  const std::vector<Row> valid = generator.rows(options.valid, true);
  const std::vector<Row> train = generator.rows(options.train, false);
  std::filesystem::create_directories(options.out);
  write_rows(options.out / "train.jsonl", train, options.format);
  write_rows(options.out / "valid.jsonl", valid, options.format);
  write_rows(options.out / "test.jsonl", test, options.format);
  fmt::print("{}: {} train, {} valid, {} test rows\n", options.out.string(), train.size(), valid.size(),
             test.size());
}

}  // namespace
}  // namespace text_to_sql

int main(int argc, char** argv) {
  try {
    const text_to_sql::Options options = text_to_sql::parse_options({argv + 1, argv + argc});
    if (options.help) {
      fmt::print("{}", text_to_sql::kHelp);
    } else {
      text_to_sql::run(options);
    }
    return 0;
  } catch (const text_to_sql::UsageError& error) {
    fmt::print(stderr, "make_text_to_sql: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "make_text_to_sql: {}\n", error.what());
    return 1;
  }
}

#include "io/row_reader.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "io/rows.h"

namespace candela::io {
namespace {

bool blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

class JsonlReader final : public RowReader {
 public:
  JsonlReader(ByteCursor& cursor, const DatasetOptions& options) : cursor_(cursor), options_(options) {}

  std::optional<RawRow> next() override {
    for (;;) {
      const std::size_t number = cursor_.line_number();
      const std::optional<std::string_view> line = cursor_.line();
      if (!line) return std::nullopt;
      if (!blank(*line)) return RawRow{number, parse_row(*line, cursor_.where(number), options_)};
    }
  }

 private:
  ByteCursor& cursor_;
  const DatasetOptions& options_;
};

/// `[{...}, {...}]`, one element in memory at a time.
class ArrayReader final : public RowReader {
 public:
  ArrayReader(ByteCursor& cursor, const DatasetOptions& options) : cursor_(cursor), options_(options) {}

  std::optional<RawRow> next() override {
    if (ended_) return std::nullopt;
    if (!std::exchange(opened_, true)) expect("[", "must hold a JSON array");
    if (at("]") && !std::exchange(any_, true)) return finish();
    if (std::exchange(behind_row_, true)) {
      if (at("]")) return finish();
      expect(",", "must have , or ] behind a row");
      if (at("]")) broken("must have a row behind the last comma");
    }
    any_ = true;
    const std::size_t line = cursor_.line_number();
    take_value(line);
    return RawRow{line, parse_row(value_, cursor_.where(line), options_)};
  }

 private:
  bool at(std::string_view byte) {
    cursor_.skip_blanks();
    return cursor_.peek() == static_cast<unsigned char>(byte[0]);
  }
  void expect(std::string_view byte, std::string_view otherwise) {
    if (!at(byte)) broken(otherwise);
    cursor_.get();
  }
  [[noreturn]] void broken(std::string_view expected) {
    const int byte = cursor_.peek();
    const std::string got = byte < 0                     ? "the end of the file: is it cut short?"
                            : byte > 0x20 && byte < 0x7F ? fmt::format("\"{}\"", static_cast<char>(byte))
                                                         : fmt::format("the byte 0x{:02X}", byte);
    throw BrokenFile(fmt::format("{}: {}; got {}", cursor_.where(cursor_.line_number()), expected, got));
  }
  std::optional<RawRow> finish() {
    cursor_.get();
    cursor_.skip_blanks();
    ended_ = true;
    if (cursor_.peek() >= 0) broken("must end behind its array");
    return std::nullopt;
  }
  /// The text of the value at the cursor, by its brackets and quotes; whether it is JSON is for its parser.
  void take_value(std::size_t line) {
    value_.clear();
    std::size_t depth = 0;
    bool quoted = false;
    for (;;) {
      const int byte = cursor_.peek();
      if (byte < 0) broken("must close its array");
      const bool closes = byte == '}' || byte == ']';
      if (!quoted && depth == 0 && (closes || byte == ',')) return;
      value_ += static_cast<char>(cursor_.get());
      if (value_.size() > kMaxRowBytes) cursor_.too_long(line);
      if (quoted && byte == '\\' && cursor_.peek() >= 0) value_ += static_cast<char>(cursor_.get());
      if (byte == '"') quoted = !quoted;
      if (quoted) continue;
      if (byte == '{' || byte == '[') ++depth;
      if (closes && --depth == 0) return;
    }
  }

  ByteCursor& cursor_;
  const DatasetOptions& options_;
  bool opened_ = false, any_ = false, behind_row_ = false, ended_ = false;
  std::string value_;
};

std::string lower_ending(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  const std::size_t slash = name.rfind('/');
  if (dot == std::string_view::npos || (slash != std::string_view::npos && dot < slash)) return {};
  std::string ending(name.substr(dot));
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return ending;
}

}  // namespace

FileForm form_of(ByteCursor& cursor) {
  const std::string ending = lower_ending(plain_name(cursor.name()));
  if (ending == ".jsonl" || ending == ".ndjson") return FileForm::Jsonl;
  if (ending == ".csv") return FileForm::Csv;
  if (ending == ".tsv") return FileForm::Tsv;
  if (ending == ".txt" || ending == ".text" || ending == ".md") return FileForm::Text;
  require<Unsupported>(ending != ".parquet" && ending != ".arrow",
                       "{}: {} files are not read; write the rows out as JSONL or CSV", cursor.name(),
                       ending);
  cursor.skip_blanks();
  return cursor.peek() == '[' ? FileForm::JsonArray : FileForm::Jsonl;
}

std::unique_ptr<RowReader> make_row_reader(FileForm form, ByteCursor& cursor, const DatasetOptions& options) {
  if (form == FileForm::Csv) return make_csv_reader(cursor, ',', options);
  if (form == FileForm::Tsv) return make_csv_reader(cursor, '\t', options);
  if (form == FileForm::JsonArray) return std::make_unique<ArrayReader>(cursor, options);
  return std::make_unique<JsonlReader>(cursor, options);
}

}  // namespace candela::io

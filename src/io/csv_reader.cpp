#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <set>
#include <vector>

#include "io/row_reader.h"
#include "io/rows.h"
#include "io/utf8.h"

namespace candela::io {
namespace {

using jinja::Dict;
using jinja::Value;

class CsvReader final : public RowReader {
 public:
  CsvReader(ByteCursor& cursor, char delimiter, const DatasetOptions& options)
      : cursor_(cursor), delimiter_(delimiter), options_(options) {}

  std::optional<RawRow> next() override {
    if (columns_.empty() && !read_header()) return std::nullopt;
    std::vector<std::string> cells;
    for (;;) {
      const std::size_t line = cursor_.line_number();
      if (!read_cells(cells)) return std::nullopt;
      if (cells.size() == 1 && cells[0].find_first_not_of(" \t") == std::string::npos) continue;
      const std::string where = cursor_.where(line);
      require<IoError>(cells.size() == columns_.size(),
                       "{}: must have {} cells, as the columns of the first row ({}); got {}: is a quote "
                       "missing?",
                       where, columns_.size(), named_columns(), cells.size());
      return RawRow{line, row_of(cells, where)};
    }
  }

 private:
  bool read_header() {
    const std::size_t line = cursor_.line_number();
    try {
      if (!read_cells(columns_)) return false;
      std::set<std::string_view> seen;
      for (const std::string& name : columns_) {
        require<IoError>(is_valid_utf8(name), "{}: must be UTF-8; a column's name is not",
                         cursor_.where(line));
        require<IoError>(name.empty() || seen.insert(name).second,
                         "{}: column \"{}\" must occur once; it occurs again", cursor_.where(line), name);
      }
    } catch (const IoError& error) {
      throw BrokenFile(error.what());  // no row means anything without the names
    }
    return true;
  }

  std::string named_columns() const {
    constexpr std::size_t kMost = 8;
    std::string text;
    for (std::size_t i = 0; i < std::min(columns_.size(), kMost); ++i)
      text += (i == 0 ? "" : ", ") + columns_[i].substr(0, 40);
    return columns_.size() > kMost ? text + ", ..." : text;
  }

  Value row_of(std::vector<std::string>& cells, const std::string& where) const {
    auto dict = std::make_shared<Dict>();
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (columns_[i].empty()) continue;  // the numbers of rows, as pandas writes them
      require<IoError>(is_valid_utf8(cells[i]), "{}: {} must be UTF-8; save the file as UTF-8", where,
                       columns_[i]);
      dict->set(Value::string(columns_[i]), cells[i].empty() ? Value() : Value::string(std::move(cells[i])));
    }
    const Value row = renamed_row(Value::dict(std::move(dict)), where, options_);
    constexpr std::array<std::string_view, 5> kJson = {"messages", "conversations", "tools", "input_ids",
                                                       "labels"};
    auto result = std::make_shared<Dict>();
    for (const auto& [key, value] : row.as_dict().entries) {
      const bool json =
          value.is_string() && std::find(kJson.begin(), kJson.end(), key.bytes()) != kJson.end();
      result->set(key, json ? parse_value(value.bytes(), where + ": " + key.bytes()) : value);
    }
    return Value::dict(std::move(result));
  }

  /// The cells of the next row; false: there is none. What is wrong with a row is told once it is passed.
  bool read_cells(std::vector<std::string>& cells) {
    cells.clear();
    if (cursor_.peek() < 0) return false;
    const std::size_t line = cursor_.line_number();
    std::size_t room = kMaxRowBytes;
    for (;;) {
      std::string cell;
      if (cursor_.peek() == '"') {
        read_quoted(cell, line, room);
      } else if (!read_plain(cell, line, room)) {
        static_cast<void>(cursor_.line());
        throw IoError(
            fmt::format("{}: cell {} must be in quotes as a whole, and quotes in it doubled; a "
                        "quote stands inside it",
                        cursor_.where(line), cells.size() + 1));
      }
      cells.push_back(std::move(cell));
      const int end = cursor_.peek();
      if (end < 0) return true;
      if (end != delimiter_ && end != '\n' && end != '\r') {
        static_cast<void>(cursor_.line());
        throw IoError(
            fmt::format("{}: cell {} must end behind its closing quote; quotes inside of it must be "
                        "doubled",
                        cursor_.where(line), cells.size()));
      }
      cursor_.get();
      if (end == '\r' && cursor_.peek() == '\n') cursor_.get();
      if (end != delimiter_) return true;
    }
  }

  void add(std::string& cell, int byte, std::size_t line, std::size_t& room) const {
    if (room-- == 0) cursor_.too_long(line);
    cell += static_cast<char>(byte);
  }

  void read_quoted(std::string& cell, std::size_t line, std::size_t& room) {
    cursor_.get();
    for (;;) {
      const int byte = cursor_.get();
      if (byte < 0)
        throw BrokenFile(fmt::format(
            "{}: a quote that opens in this row must be closed; the file ends before", cursor_.where(line)));
      if (byte == '"' && cursor_.peek() != '"') return;
      if (byte == '"') cursor_.get();
      add(cell, byte, line, room);
    }
  }

  /// False: at a quote.
  bool read_plain(std::string& cell, std::size_t line, std::size_t& room) {
    for (;;) {
      const int byte = cursor_.peek();
      if (byte == '"') return false;
      if (byte < 0 || byte == delimiter_ || byte == '\n' || byte == '\r') return true;
      add(cell, cursor_.get(), line, room);
    }
  }

  ByteCursor& cursor_;
  int delimiter_;
  const DatasetOptions& options_;
  std::vector<std::string> columns_;
};

}  // namespace

std::unique_ptr<RowReader> make_csv_reader(ByteCursor& cursor, char delimiter,
                                           const DatasetOptions& options) {
  return std::make_unique<CsvReader>(cursor, delimiter, options);
}

}  // namespace candela::io

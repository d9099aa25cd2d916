#include <cmath>
#include <fmt/ranges.h>
#include <memory>
#include <optional>

#include <candela/embed/text_rows.h>

#include "io/byte_cursor.h"
#include "io/json.h"
#include "io/utf8.h"

namespace candela {
namespace {

namespace fs = std::filesystem;

std::optional<double> number_in(const std::string& text) {
  const io::Json value = io::Json::parse(text, nullptr, false);
  if (!value.is_number() || !std::isfinite(value.get<double>())) return std::nullopt;
  return value.get<double>();
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::size_t from = 0;
  for (;;) {
    const std::size_t tab = line.find('\t', from);
    cells.push_back(line.substr(from, tab == std::string::npos ? tab : tab - from));
    if (tab == std::string::npos) return cells;
    from = tab + 1;
  }
}

/// One row, whatever file it comes from.
struct Row {
  std::vector<std::string> texts;
  std::optional<double> score;
};

class Reader {
 public:
  Reader(const fs::path& file, const TextTableOptions& options)
      : file_(file), options_(options), bytes_(io::open_bytes(file)), cursor_(*bytes_, file.string()) {}

  TextTable read() {
    require(std::isfinite(options_.max_score) && options_.max_score > 0,
            "texts: max_score must be a finite number above 0; got {}", options_.max_score);
    TextTable table;
    table.file = file_.string();
    const bool tabs = io::plain_name(file_.string()).ends_with(".tsv");
    while (const auto read = cursor_.line()) {
      ++number_;
      std::string line(*read);
      require<IoError>(io::is_valid_utf8(line), "{}: must be UTF-8; save the file as UTF-8", where());
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      if (tabs && !read_ && take_header(line)) continue;
      const Row row = tabs ? from_cells(cells_of(line)) : from_json(line);
      add(row, table);
      if (options_.limit > 0 && table.rows() >= options_.limit) break;
    }
    require<IoError>(read_, "{}: holds no rows", file_.string());
    return table;
  }

 private:
  std::string where() const { return fmt::format("{}:{}", file_.string(), number_); }

  /// The names of the columns, unless the line opens with a score as in the STS benchmark.
  bool take_header(const std::string& line) {
    if (!header_.empty()) return false;
    header_ = cells_of(line);
    if (!number_in(header_[0])) return true;
    require<IoError>(options_.fields.empty() && options_.score_field.empty(),
                     "{}: must name its columns in the first line where fields are asked for", where());
    header_ = {"score", "sentence1", "sentence2"};
    return false;
  }

  Row from_cells(const std::vector<std::string>& cells) {
    io::Json object = io::Json::object();
    require<IoError>(cells.size() >= header_.size(), "{}: must have {} columns ({}); got {}", where(),
                     header_.size(), fmt::join(header_, ", "), cells.size());
    for (std::size_t i = 0; i < header_.size(); ++i) object[header_[i]] = cells[i];
    return from_object(object);
  }

  Row from_json(const std::string& line) {
    const auto document = io::parse_json(line, where());
    return from_object(document);
  }

  Row from_object(const io::Json& document) {
    const io::JsonObject object(document, where());
    if (!read_) choose_fields(object);
    read_ = true;
    Row row;
    for (const std::string& field : fields_) add_texts(object, field, row);
    if (!score_field_.empty()) row.score = score_of(object);
    return row;
  }

  void choose_fields(const io::JsonObject& object) {
    fields_ = options_.fields;
    score_field_ = options_.score_field;
    if (score_field_.empty() && object.has("score")) score_field_ = "score";
    if (!fields_.empty()) return;
    if (object.has("anchor") && object.has("positive")) {
      fields_ = {"anchor", "positive"};
      if (object.has("negative")) fields_.emplace_back("negative");
      for (int i = 1; object.has(fmt::format("negative_{}", i).c_str()); ++i)
        fields_.push_back(fmt::format("negative_{}", i));
    } else if (object.has("sentence1") && object.has("sentence2")) {
      fields_ = {"sentence1", "sentence2"};
    } else {
      std::vector<std::string> names;
      for (const auto& [key, value] : object.json().items()) names.push_back(key);
      throw IoError(fmt::format(
          "{}: must have the fields anchor and positive, or sentence1 and sentence2; got {:.200}: name them "
          "with --fields",
          where(), fmt::format("{}", fmt::join(names, ", "))));
    }
  }

  void add_texts(const io::JsonObject& object, const std::string& field, Row& row) const {
    const io::Json& value = object.at(field.c_str());
    const auto take = [&](const io::Json& text) {
      if (!text.is_string() || text.get_ref<const std::string&>().empty())
        object.fail(field.c_str(), "a text or a list of texts, none of them empty");
      row.texts.push_back(text.get<std::string>());
    };
    if (!value.is_array()) return take(value);
    for (const io::Json& text : value) take(text);
  }

  double score_of(const io::JsonObject& object) const {
    const io::Json& value = object.at(score_field_.c_str());
    std::optional<double> score;
    if (value.is_number()) score = value.get<double>();
    if (value.is_string()) score = number_in(value.get<std::string>());
    if (!score || !std::isfinite(*score)) object.fail(score_field_.c_str(), "a finite number");
    return *score / options_.max_score;
  }

  void add(const Row& row, TextTable& table) const {
    const auto count = static_cast<std::int64_t>(row.texts.size());
    if (table.texts.empty()) {
      require<IoError>(count >= 2, "{}: must have at least 2 texts; got {}", where(), count);
      table.columns = count;
    }
    require<IoError>(count == table.columns, "{}: must have {} texts as the first row; got {}", where(),
                     table.columns, count);
    table.texts.insert(table.texts.end(), row.texts.begin(), row.texts.end());
    if (row.score) table.scores.push_back(static_cast<float>(*row.score));
  }

  fs::path file_;
  const TextTableOptions& options_;
  std::unique_ptr<io::ByteSource> bytes_;
  io::ByteCursor cursor_;
  std::size_t number_ = 0;
  bool read_ = false;
  std::vector<std::string> header_;
  std::vector<std::string> fields_;
  std::string score_field_;
};

}  // namespace

std::vector<std::string> TextTable::column(std::int64_t index) const {
  require(index >= 0 && index < columns, "texts: column must be in [0, {}); got {}", columns, index);
  std::vector<std::string> result;
  for (std::int64_t row = 0; row < rows(); ++row)
    result.push_back(texts[static_cast<std::size_t>(row * columns + index)]);
  return result;
}

TextTable TextTable::read(const fs::path& file, const TextTableOptions& options) {
  return Reader(file, options).read();
}

}  // namespace candela

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <candela/io/dataset.h>

#include "io/byte_cursor.h"
#include "template/value.h"

namespace candela::io {

/// How the rows of a file are written down.
enum class FileForm : std::uint8_t {
  Jsonl,
  /// one JSON array of objects
  JsonArray,
  Csv,
  Tsv,
  /// a text of no rows
  Text,
};

/// By the name, a compressed file's without its ending; a name that says nothing, and .json: an array if the
/// first byte that is not blank opens one, else JSONL. Unsupported for forms that are not read (Parquet).
FileForm form_of(ByteCursor& cursor);

/// A row as it stands in its file, with its fields renamed as DatasetOptions::map says.
struct RawRow {
  /// where it begins, from 1
  std::size_t line = 0;
  /// a dict
  jinja::Value value;
};

class RowReader {
 public:
  RowReader() = default;
  RowReader(const RowReader&) = delete;
  RowReader& operator=(const RowReader&) = delete;
  virtual ~RowReader() = default;

  /// The next row; nothing at the end. An Error is about one row, and the next call goes on behind it;
  /// BrokenFile is about all that follows.
  virtual std::optional<RawRow> next() = 0;
};

/// The reader of any form but Text; both arguments must outlive it.
std::unique_ptr<RowReader> make_row_reader(FileForm form, ByteCursor& cursor, const DatasetOptions& options);

/// Rows of RFC 4180: cells that `delimiter` parts, in quotes where they hold it, a quote (doubled) or a line
/// break; lines may end in LF alone. The first row names the columns. Each row is a dict of texts, an empty
/// cell being null; cells of messages, conversations, tools, input_ids and labels are JSON.
std::unique_ptr<RowReader> make_csv_reader(ByteCursor& cursor, char delimiter, const DatasetOptions& options);

}  // namespace candela::io

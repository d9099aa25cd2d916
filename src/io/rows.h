#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <candela/io/dataset.h>

#include "io/chat_turns.h"

namespace candela::io {

/// One row of data as a JSON object with the keys in their order, its fields renamed as DatasetOptions::map
/// says. IoError, opening with `where`, if the text is no JSON object or has a key twice.
jinja::Value parse_row(std::string_view json, const std::string& where, const DatasetOptions& options);

/// The row with its fields renamed; IoError, opening with `where`, if one to rename is missing.
jinja::Value renamed_row(const jinja::Value& row, const std::string& where, const DatasetOptions& options);
/// Any JSON value of a row, with the checks of parse_row.
jinja::Value parse_value(std::string_view json, const std::string& where);

/// The format of a row, by the fields that it has; IoError naming what it has instead.
RowFormat detect_format(const jinja::Value& row, const std::string& where);
/// IoError unless the row has the fields of `format`.
void check_format(const jinja::Value& row, RowFormat format, const std::string& where);

/// The tokens of a row, answers marked, without prefix; `ends_with_eos`: EOS is to follow unless they end in
/// it.
struct RowTokens {
  MarkedTokens marked;
  bool ends_with_eos = false;
  /// A chat template or the row's own ids decide what stands in front.
  bool complete = false;
};

/// IoError or TemplateError, opening with `where`, for a row without what its format needs.
RowTokens encode_row(const jinja::Value& row, RowFormat format, const std::string& where,
                     const Tokenizer& tokenizer, const DatasetOptions& options);

}  // namespace candela::io

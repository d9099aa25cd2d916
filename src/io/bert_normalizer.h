#pragma once

#include <string>

#include "io/json.h"

namespace candela::io {

/// The fields of a BertNormalizer.
struct BertNormalizerOptions {
  /// drops control characters, writes white space as spaces
  bool clean_text = true;
  /// puts spaces around ideographs
  bool handle_chinese_chars = true;
  /// decomposes, then drops the non-spacing marks; where absent: as lowercase
  bool strip_accents = true;
  bool lowercase = true;
};
BertNormalizerOptions read_bert_normalizer_options(const JsonObject& description);

/// `text` without control characters (tab, newline and carriage return are white space), U+0000 and U+FFFD;
/// white space as U+0020.
std::string clean_text(const std::string& text);

/// `text` with a space on either side of each CJK ideograph, in the ranges of Hugging Face's tokenizers.
std::string space_ideographs(const std::string& text);

/// `text` without its non-spacing marks (general category Mn).
std::string strip_nonspacing_marks(const std::string& text);

}  // namespace candela::io

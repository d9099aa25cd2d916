#include "io/pre_tokenizer.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "io/byte_level.h"
#include "io/utf8.h"

namespace candela::io {
namespace {

enum class Behavior { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };

Behavior read_behavior(const JsonObject& description, std::optional<Behavior> otherwise = {}) {
  if (otherwise && !description.has("behavior")) return *otherwise;
  const std::string name = description.string("behavior");
  if (name == "Removed") return Behavior::Removed;
  if (name == "Isolated") return Behavior::Isolated;
  if (name == "MergedWithPrevious") return Behavior::MergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::MergedWithNext;
  if (name == "Contiguous") return Behavior::Contiguous;
  description.fail("behavior", "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

/// A stretch of text that the delimiter matched, or one between two matches.
struct Stretch {
  Span span;
  bool match = false;
};

/// `matches` (ordered, without overlap) and the gaps between them, covering [0, size). `invert` swaps the two
/// roles.
std::vector<Stretch> stretches(const std::vector<Span>& matches, std::size_t size, bool invert) {
  std::vector<Stretch> result;
  result.reserve(matches.size() * 2 + 1);
  std::size_t position = 0;
  for (const Span& match : matches) {
    if (position != match.begin) result.push_back({{position, match.begin}, invert});
    result.push_back({match, !invert});
    position = match.end;
  }
  if (position != size) result.push_back({{position, size}, invert});
  return result;
}

/// Joins each match to the stretch before it (or starts one) unless that one is a match as well.
std::vector<Span> merge_with_previous(const std::vector<Stretch>& parts) {
  std::vector<Span> result;
  bool after_match = false;
  for (const Stretch& part : parts) {
    if (part.match && !after_match && !result.empty()) {
      result.back().end = part.span.end;
    } else {
      result.push_back(part.span);
    }
    after_match = part.match;
  }
  return result;
}

std::vector<Span> merge_with_next(const std::vector<Stretch>& parts) {
  std::vector<Span> result;
  bool before_match = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->match && !before_match && !result.empty()) {
      result.back().begin = part->span.begin;
    } else {
      result.push_back(part->span);
    }
    before_match = part->match;
  }
  std::reverse(result.begin(), result.end());
  return result;
}

std::vector<Span> arrange(const std::vector<Stretch>& parts, Behavior behavior) {
  std::vector<Span> result;
  switch (behavior) {
    case Behavior::MergedWithPrevious:
      return merge_with_previous(parts);
    case Behavior::MergedWithNext:
      return merge_with_next(parts);
    case Behavior::Isolated:
    case Behavior::Removed:
      result.reserve(parts.size());
      for (const Stretch& part : parts) {
        if (behavior == Behavior::Isolated || !part.match) result.push_back(part.span);
      }
      return result;
    case Behavior::Contiguous:
      break;
  }
  bool previous = false;
  for (const Stretch& part : parts) {
    if (part.match == previous && !result.empty()) {
      result.back().end = part.span.end;
    } else {
      result.push_back(part.span);
    }
    previous = part.match;
  }
  return result;
}

/// Finds what a step splits at.
using Finder = std::function<std::vector<Span>(std::string_view)>;

class Split final : public PreTokenizerStep {
 public:
  Split(Finder find, Behavior behavior, bool invert = false)
      : find_(std::move(find)), behavior_(behavior), invert_(invert) {}

  void apply(Pieces& pieces, Growth&) const override {
    std::vector<Piece> result;
    result.reserve(pieces.pieces.size());
    for (const Piece& piece : pieces.pieces) {
      const auto parts = stretches(find_(piece.text), piece.text.size(), invert_);
      for (const Span& span : arrange(parts, behavior_)) {
        if (span.size() == 0) continue;
        result.push_back({piece.text.substr(span.begin, span.size()), piece.at_start && span.begin == 0});
      }
    }
    pieces.pieces = std::move(result);
  }

 private:
  Finder find_;
  Behavior behavior_;
  bool invert_;
};

Finder find_characters(bool (*matches)(std::int32_t)) {
  return [matches](std::string_view text) {
    std::vector<Span> result;
    for (std::size_t i = 0; i < text.size();) {
      const CodePoint c = code_point_at(text, i);
      if (matches(c.value)) result.push_back({i, i + c.bytes});
      i += c.bytes;
    }
    return result;
  };
}

Finder find_pattern(Pattern pattern) {
  return [pattern = std::move(pattern)](std::string_view text) { return pattern.find_all(text); };
}

/// Rewrites each piece: `write` appends to a string what becomes of it. All results lie in one string, which
/// takes the place of the one before.
template <class Write>
void rewrite(Pieces& pieces, Growth& growth, Write&& write) {
  std::string text;
  std::vector<std::size_t> ends;
  ends.reserve(pieces.pieces.size());
  for (const Piece& piece : pieces.pieces) {
    write(piece, text);
    growth.check(text.size());
    ends.push_back(text.size());
  }
  pieces.storage = std::move(text);
  std::size_t begin = 0;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    pieces.pieces[i].text = std::string_view(pieces.storage).substr(begin, ends[i] - begin);
    begin = ends[i];
  }
}

/// Puts a space before each piece that does not start with one.
class PrefixSpace final : public PreTokenizerStep {
 public:
  void apply(Pieces& pieces, Growth& growth) const override {
    rewrite(pieces, growth, [](const Piece& piece, std::string& out) {
      if (!piece.text.starts_with(' ')) out += ' ';
      out += piece.text;
    });
  }
};

class ToByteLevel final : public PreTokenizerStep {
 public:
  void apply(Pieces& pieces, Growth& growth) const override {
    rewrite(pieces, growth, [](const Piece& piece, std::string& out) { append_byte_level(out, piece.text); });
  }
};

/// Writes each space as `mark` and puts one before the text as the scheme says.
class MarkSpaces final : public PreTokenizerStep {
 public:
  MarkSpaces(std::string mark, PrependScheme scheme) : mark_(std::move(mark)), scheme_(scheme) {}

  void apply(Pieces& pieces, Growth& growth) const override {
    rewrite(pieces, growth, [this](const Piece& piece, std::string& out) {
      const bool wanted =
          scheme_ == PrependScheme::Always || (scheme_ == PrependScheme::First && piece.at_start);
      if (wanted && !piece.text.starts_with(' ') && !piece.text.starts_with(mark_)) out += mark_;
      std::size_t begin = 0;
      for (std::size_t space = piece.text.find(' '); space != std::string_view::npos;
           space = piece.text.find(' ', begin)) {
        out.append(piece.text, begin, space - begin);
        out += mark_;
        begin = space + 1;
      }
      out.append(piece.text, begin);
    });
  }

 private:
  std::string mark_;
  PrependScheme scheme_;
};

}  // namespace

PrependScheme read_prepend_scheme(const JsonObject& description) {
  if (!description.has("prepend_scheme")) {
    return description.boolean("add_prefix_space", true) ? PrependScheme::Always : PrependScheme::Never;
  }
  const std::string name = description.string("prepend_scheme");
  if (name == "always") return PrependScheme::Always;
  if (name == "first") return PrependScheme::First;
  if (name == "never") return PrependScheme::Never;
  description.fail("prepend_scheme", "always, first or never");
}

PreTokenizer::PreTokenizer(const JsonObject& file) {
  const auto parts = components(file, "pre_tokenizer", "pretokenizers");
  for (std::size_t i = 0; i < parts.size(); ++i) add(parts[i], i + 1 == parts.size());
}

void PreTokenizer::add(const JsonObject& description, bool last) {
  const auto split = [&](Finder find, Behavior behavior, bool invert = false) {
    steps_.push_back(std::make_unique<Split>(std::move(find), behavior, invert));
  };
  const std::string type = description.string("type");
  if (type == "ByteLevel") {
    if (description.boolean("add_prefix_space", true)) steps_.push_back(std::make_unique<PrefixSpace>());
    if (description.boolean("use_regex", true)) {
      split(find_pattern(Pattern::regex(kGpt2Pattern, description.source())), Behavior::Isolated);
    }
    if (last) {
      byte_level_ = true;
    } else {
      steps_.push_back(std::make_unique<ToByteLevel>());
    }
  } else if (type == "Split") {
    split(find_pattern(make_pattern(description, "pattern")), read_behavior(description),
          description.boolean("invert", false));
  } else if (type == "Digits") {
    split(find_characters(is_numeric),
          description.boolean("individual_digits", false) ? Behavior::Isolated : Behavior::Contiguous);
  } else if (type == "Punctuation") {
    split(find_characters(is_punctuation), read_behavior(description, Behavior::Isolated));
  } else if (type == "Whitespace") {
    split(find_pattern(Pattern::regex(R"(\w+|[^\w\s]+)", description.source(), PatternSyntax::Rust)),
          Behavior::Removed, true);
  } else if (type == "WhitespaceSplit") {
    split(find_characters(is_whitespace), Behavior::Removed);
  } else if (type == "BertPreTokenizer") {
    split(find_characters(is_whitespace), Behavior::Removed);
    split(find_characters(is_punctuation), Behavior::Isolated);
  } else if (type == "CharDelimiterSplit") {
    split(find_pattern(Pattern::literal(one_character(description, "delimiter"))), Behavior::Removed);
  } else if (type == "Metaspace") {
    const std::string mark = one_character(description, "replacement", "\xE2\x96\x81");
    steps_.push_back(std::make_unique<MarkSpaces>(mark, read_prepend_scheme(description)));
    if (description.boolean("split", true))
      split(find_pattern(Pattern::literal(mark)), Behavior::MergedWithNext);
  } else {
    throw Unsupported(fmt::format(
        "{}: {} \"{}\" is not supported; known are ByteLevel, Split, Digits, Punctuation, "
        "Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit, Metaspace and Sequence",
        description.source(), description.path_of("type"), type));
  }
}

void PreTokenizer::apply(Pieces& pieces, Growth& growth) const {
  for (const auto& step : steps_) step->apply(pieces, growth);
}

}  // namespace candela::io

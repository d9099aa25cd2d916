#pragma once

#include <span>
#include <string>
#include <vector>

#include <candela/io/dataset.h>
#include <candela/io/tokenizer.h>

namespace candela {

/// A held-out row as a question: the tokens before its last answer (Sample::answer, whatever is trained), and
/// the text of that answer.
struct Question {
  std::vector<TokenId> prompt;
  /// without the tokens that end the answer, and without surrounding white space
  std::string reference;
  std::size_t line = 0;
};

/// Cuts the last answer off each row. Rows that are an answer from their beginning (`text`) have no question
/// in front: they are left out. Throws InvalidArgument for a sample
/// without an answer mark for each token.
std::vector<Question> questions_of(std::span<const Sample> samples, const Tokenizer& tokenizer);

/// `text` without white space at both ends: what exact match compares.
std::string trim(const std::string& text);

}  // namespace candela

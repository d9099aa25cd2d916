#include <algorithm>

#include <candela/core/error.h>
#include <candela/generate/evaluate.h>

namespace candela {

std::string trim(const std::string& text) {
  constexpr const char* kWhite = " \t\r\n\v\f";
  const auto first = text.find_first_not_of(kWhite);
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(kWhite) - first + 1);
}

std::vector<Question> questions_of(std::span<const Sample> samples, const Tokenizer& tokenizer) {
  std::vector<Question> questions;
  for (const Sample& sample : samples) {
    require(sample.answer.size() == sample.ids.size(),
            "questions_of: a sample needs an answer mark for each of its {} tokens; got {}",
            sample.ids.size(), sample.answer.size());
    const auto last = std::find(sample.answer.rbegin(), sample.answer.rend(), 1);
    const auto first = std::find(last, sample.answer.rend(), 0);
    const auto end = static_cast<std::size_t>(sample.answer.rend() - last);
    const auto begin = static_cast<std::size_t>(sample.answer.rend() - first);
    // Token 0 is never of an answer, so a text row's "question" would be that token alone.
    if (end == 0 || begin < 2) continue;
    Question question;
    question.prompt.assign(sample.ids.begin(), sample.ids.begin() + static_cast<std::ptrdiff_t>(begin));
    question.reference = trim(tokenizer.decode(std::span(sample.ids).subspan(begin, end - begin), true));
    question.line = sample.line;
    questions.push_back(std::move(question));
  }
  return questions;
}

}  // namespace candela

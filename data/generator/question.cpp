#include "question.h"

#include <string_view>
#include <vector>

namespace text_to_sql {
namespace {

using Words = std::vector<std::string>;

/// `pattern` with its successive {} replaced by `parts`.
std::string fill(std::string_view pattern, const Words& parts) {
  std::string result;
  std::size_t next = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern.substr(i, 2) == "{}") {
      result += parts.at(next++);
      ++i;
    } else {
      result += pattern[i];
    }
  }
  return result;
}

/// One of `patterns`, filled.
std::string say(Random& random, const Words& patterns, const Words& parts) {
  return fill(random.pick(patterns), parts);
}

/// A number up to ten as a word in `percent` of 100 cases, else as digits.
std::string number(Random& random, const std::string& digits, int percent) {
  static const Words kNames = {"zero", "one",   "two",   "three", "four", "five",
                               "six",  "seven", "eight", "nine",  "ten"};
  const auto value = static_cast<std::size_t>(std::stoi(digits));
  return value < kNames.size() && random.chance(percent) ? kNames[value] : digits;
}

/// What the rows must be, as predicates of a plural subject.
Words predicates(Random& random, const Query& query) {
  Words result;
  for (const Condition& condition : query.conditions) {
    const Attribute& about = attribute(condition.attribute);
    result.push_back(say(random, about.predicates.at(condition.comparison), condition.literals));
  }
  return result;
}

/// "are red and older than 5"
std::string joined(const Query& query, const Words& all) {
  std::string result = all.front();
  if (all.size() == 2) {
    const bool repeats_verb =
        all[0].starts_with("are ") && !all[0].starts_with("are not ") && all[1].starts_with("are ");
    result += (query.any ? " or " : " and ") + (repeats_verb ? all[1].substr(4) : all[1]);
  }
  return result;
}

/// A predicate as words after a noun: "older than 5", "with 3 rooms", "that belong to Tom".
std::string modifier(Random& random, const std::string& predicate, bool adjective) {
  if (!adjective && random.chance(60)) {
    if (predicate.starts_with("are ")) return predicate.substr(4);
    if (predicate.starts_with("have ")) return "with " + predicate.substr(5);
  }
  return "that " + predicate;
}

/// The rows asked about, as a plural noun and what restricts it, without article: "red dogs older than 5".
std::string rows(Random& random, const Query& query) {
  std::string noun = query.table->plural;
  if (query.conditions.empty()) return noun;
  const Words all = predicates(random, query);
  const Condition& first = query.conditions.front();
  const bool adjective = attribute(first.attribute).adjective;
  if (all.size() == 2) return noun + " that " + joined(query, all);
  if (adjective && first.comparison == Comparison::Equal && random.chance(70))
    return first.literals.front() + " " + noun;
  return noun + " " + modifier(random, all.front(), adjective);
}

/// `rows` with an article: "the red dogs", "all dogs".
std::string the_rows(Random& random, const Query& query) {
  static const Words kArticles = {"the ", "the ", "all ", "all the "};
  // One draw a statement: + evaluates its operands in an order that compilers choose.
  const std::string noun = rows(random, query);
  return random.pick(kArticles) + noun;
}

/// "name and age"
std::string nouns(Random& random, const Words& ids, bool plural) {
  std::string result;
  for (const std::string& id : ids) {
    const Attribute& about = attribute(id);
    result += (result.empty() ? "" : " and ") + random.pick(plural ? about.plurals : about.nouns);
  }
  return result;
}

std::string ask_columns(Random& random, const Query& query) {
  const std::string& first = query.columns.front();
  if (query.columns.size() == 1) {
    const bool names = first == query.table->attributes.front();
    if (names && !query.conditions.empty() && random.chance(45)) {
      return say(random, {"Which {} {}?", "Find the {} that {}.", "What {} {}?"},
                 {query.table->plural, joined(query, predicates(random, query))});
    }
    const Words& asks = attribute(first).asks;
    if (!asks.empty() && random.chance(40)) return say(random, asks, {the_rows(random, query)});
  }
  const bool plural = random.chance(60);
  if (plural && random.chance(30)) {
    return fill("What are the {} of {}?", {nouns(random, query.columns, true), the_rows(random, query)});
  }
  if (random.chance(12)) {
    return say(random, {"For {}, show the {}.", "For {}, give me the {}."},
               {the_rows(random, query), nouns(random, query.columns, plural)});
  }
  return say(random,
             {"Show the {} of {}.", "List the {} of {}.", "Give me the {} of {}.", "Find the {} of {}.",
              "Tell me the {} of {}.", "I want the {} of {}.", "Show me the {} for {}."},
             {nouns(random, query.columns, plural), the_rows(random, query)});
}

std::string ask_everything(Random& random, const Query& query) {
  return say(random,
             {"Show everything about {}.", "Tell me all about {}.", "Give me all there is on {}.",
              "List everything we know about {}.", "Show every column for {}."},
             {the_rows(random, query)});
}

std::string ask_count(Random& random, const Query& query) {
  if (!query.conditions.empty() && random.chance(45)) {
    return say(random, {"How many {} {}?", "How many of the {} {}?"},
               {query.table->plural, joined(query, predicates(random, query))});
  }
  return say(random,
             {"How many {} are there?", "Count the {}.", "What is the number of {}?",
              "Give me the number of {}.", "How many {} do we have?", "Tell me how many {} there are."},
             {rows(random, query)});
}

/// One of the words for an aggregate.
std::string aggregate_word(Random& random, Aggregate aggregate) {
  static const std::vector<Words> kWords = {{"highest", "largest", "greatest", "biggest"},
                                            {"lowest", "smallest", "least"},
                                            {"average", "mean"},
                                            {"total", "combined"}};
  return random.pick(kWords[static_cast<std::size_t>(aggregate)]);
}

/// The one row that has the most or the least: "the oldest dog", "the oldest of the dogs that ...".
std::string the_extreme_row(Random& random, const Query& query, bool most) {
  const Attribute& about = attribute(query.measured);
  const std::string& pattern = most ? about.most : about.least;
  if (query.conditions.empty()) return "the " + fill(pattern, {query.table->singular});
  const bool before_noun = pattern.ends_with(" {}");
  return "the " + fill(pattern, {before_noun ? "of" : "one"}) + (before_noun ? " the " : " of the ") +
         rows(random, query);
}

std::string ask_aggregate(Random& random, const Query& query) {
  const Attribute& about = attribute(query.measured);
  const bool averages = query.aggregate == Aggregate::Avg;
  if ((averages || query.aggregate == Aggregate::Sum) && random.chance(35)) {
    std::string question = fill(about.asks.front(), {the_rows(random, query)});
    question.pop_back();
    return question + (averages ? " on average?" : " in total?");
  }
  return say(random,
             {"What is the {} {} of {}?", "Find the {} {} of {}.", "Show the {} {} of {}.",
              "Give me the {} {} of {}."},
             {aggregate_word(random, query.aggregate), random.pick(about.nouns), the_rows(random, query)});
}

std::string ask_sorted(Random& random, const Query& query) {
  const Attribute& about = attribute(query.measured);
  const std::string& pattern = query.descending ? about.most : about.least;
  Words orders = {query.descending ? "from highest to lowest {}" : "from lowest to highest {}",
                  query.descending ? "sorted by {}, highest first" : "sorted by {}, lowest first"};
  if (!query.descending) orders.push_back("sorted by {}");
  std::string order = say(random, orders, {random.pick(about.nouns)});
  if (pattern.ends_with(" {}") && random.chance(40)) order = pattern.substr(0, pattern.size() - 2) + "first";
  return say(random, {"List the {} of {}, {}.", "Show the {} of {}, {}.", "Give me the {} of {}, {}."},
             {nouns(random, query.columns, true), the_rows(random, query), order});
}

std::string ask_top(Random& random, const Query& query) {
  const Attribute& about = attribute(query.measured);
  const std::string& pattern = query.descending ? about.most : about.least;
  const bool names = query.columns.front() == query.table->attributes.front();
  if (query.limit == 1) {
    const std::string row = the_extreme_row(random, query, query.descending);
    if (names && random.chance(60)) {
      return say(random, {"Which is {}?", "Find {}.", "Show me {}.", "Name {}."}, {row});
    }
    return say(random,
               {"What is the {} of {}?", "Show the {} of {}.", "Give me the {} of {}.", "Find the {} of {}."},
               {nouns(random, query.columns, false), row});
  }
  const std::string limit = number(random, std::to_string(query.limit), 60);
  const std::string best = limit + " " + fill(pattern, {rows(random, query)});
  if (names && random.chance(60)) {
    return say(random,
               {"Which are the {}?", "Find the {}.", "Show me the {}.", "Name the {}.", "List the {}."},
               {best});
  }
  return say(random, {"What are the {} of the {}?", "Show the {} of the {}.", "List the {} of the {}."},
             {nouns(random, query.columns, true), best});
}

std::string ask_grouped(Random& random, const Query& query) {
  const std::string group = nouns(random, query.columns, false);
  if (query.kind == Kind::GroupCount) {
    return say(
        random,
        {"How many {} are there for each {}?", "Count the {} for each {}.", "Show the number of {} per {}.",
         "How many {} does each {} have?", "Give me the number of {} for every {}."},
        {rows(random, query), group});
  }
  return say(random,
             {"What is the {} {} of {} for each {}?", "Show the {} {} of {} per {}.",
              "Find the {} {} of {} for each {}.", "Give me the {} {} of {} for every {}."},
             {aggregate_word(random, query.aggregate), random.pick(attribute(query.measured).nouns),
              rows(random, query), group});
}

std::string ask_distinct(Random& random, const Query& query) {
  return say(
      random,
      {"What different {} do {} have?", "List the different {} of {}.", "Show all the different {} of {}."},
      {nouns(random, query.columns, true), the_rows(random, query)});
}

}  // namespace

std::string question(Random& random, const Query& query) {
  switch (query.kind) {
    case Kind::Columns:
      return ask_columns(random, query);
    case Kind::Everything:
      return ask_everything(random, query);
    case Kind::Count:
      return ask_count(random, query);
    case Kind::Aggregate:
      return ask_aggregate(random, query);
    case Kind::Sorted:
      return ask_sorted(random, query);
    case Kind::Top:
      return ask_top(random, query);
    case Kind::GroupCount:
    case Kind::GroupAggregate:
      return ask_grouped(random, query);
    case Kind::Distinct:
      return ask_distinct(random, query);
  }
  return {};
}

}  // namespace text_to_sql

#pragma once

#include <map>
#include <string>
#include <vector>

/// What the questions are about: tables, their attributes, and how people speak of them.
namespace text_to_sql {

enum class Comparison { Equal, Not, More, Less, Between };

/// One thing that a table may know about its rows. A schema spells it as one of `columns`; a question speaks
/// of it with words of its own, so that only the schema in the prompt tells which column name is right.
struct Attribute {
  /// the meaning, the same whatever the column is called
  std::string id;
  /// the names a schema may give it
  std::vector<std::string> columns;
  /// what a question calls it: "age"
  std::vector<std::string> nouns;
  /// the same, of many: "ages"
  std::vector<std::string> plurals;
  /// questions for it about several rows: "How old are {}?"
  std::vector<std::string> asks;
  bool numeric = false;
  /// a number of things: "the number of rooms"
  bool counted = false;
  /// its values stand before a noun: "red dogs"
  bool adjective = false;
  /// of a text attribute
  std::vector<std::string> values;
  /// range of a numeric attribute's literals
  int low = 0, high = 0;
  /// Predicates of a plural subject, with {} for each literal: "are older than {}".
  std::map<Comparison, std::vector<std::string>> predicates;
  /// superlatives of a noun: "oldest {}", "{} with the most rooms"
  std::string most, least;
};

struct Table {
  /// either may be the table's name in a schema
  std::string singular, plural;
  /// ids; the first one tells the rows apart and answers "Which ...?"
  std::vector<std::string> attributes;
};

/// All tables, in a fixed order.
const std::vector<Table>& tables();

/// The attribute with this id.
const Attribute& attribute(const std::string& id);

}  // namespace text_to_sql

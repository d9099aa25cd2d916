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
  std::string id;                    ///< the meaning, the same whatever the column is called
  std::vector<std::string> columns;  ///< the names a schema may give it
  std::vector<std::string> nouns;    ///< what a question calls it: "age"
  std::vector<std::string> plurals;  ///< the same, of many: "ages"
  std::vector<std::string> asks;     ///< questions for it about several rows: "How old are {}?"
  bool numeric = false;
  bool counted = false;             ///< a number of things: "the number of rooms"
  bool adjective = false;           ///< its values stand before a noun: "red dogs"
  std::vector<std::string> values;  ///< of a text attribute
  int low = 0, high = 0;            ///< range of a numeric attribute's literals
  /// Predicates of a plural subject, with {} for each literal: "are older than {}".
  std::map<Comparison, std::vector<std::string>> predicates;
  std::string most, least;  ///< superlatives of a noun: "oldest {}", "{} with the most rooms"
};

struct Table {
  std::string singular, plural;         ///< either may be the table's name in a schema
  std::vector<std::string> attributes;  ///< ids; the first one tells the rows apart and answers "Which ...?"
};

/// All tables, in a fixed order.
const std::vector<Table>& tables();

/// The attribute with this id.
const Attribute& attribute(const std::string& id);

}  // namespace text_to_sql

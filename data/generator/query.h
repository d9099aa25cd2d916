#pragma once

#include <map>
#include <string>
#include <vector>

#include "random.h"
#include "world.h"

namespace text_to_sql {

/// What a query answers with.
enum class Kind { Columns, Everything, Count, Aggregate, Sorted, Top, GroupCount, GroupAggregate, Distinct };

enum class Aggregate { Max, Min, Avg, Sum };

/// column comparison literal(s); a text value stands with quotes in SQL.
struct Condition {
  std::string attribute;
  Comparison comparison = Comparison::Equal;
  std::vector<std::string> literals;
};

/// A query in terms of meanings, before any schema has named its columns.
struct Query {
  const Table* table = nullptr;
  Kind kind = Kind::Columns;
  /// attribute ids to answer with
  std::vector<std::string> columns;
  Aggregate aggregate = Aggregate::Max;
  /// what is aggregated or sorted by
  std::string measured;
  /// of Sorted and Top
  bool descending = false;
  /// of Top
  int limit = 0;
  /// at most two
  std::vector<Condition> conditions;
  /// the two conditions are joined by OR, not AND
  bool any = false;
};

/// One table as a prompt shows it.
struct Schema {
  std::string table;
  /// attributes in the order shown
  std::vector<std::string> ids;
  /// attribute id to column name
  std::map<std::string, std::string> columns;
};

/// Draws a query about `table`.
Query sample_query(Random& random, const Table& table);

/// Draws a schema that holds what `query` needs and up to three columns that it does not need.
Schema sample_schema(Random& random, const Query& query);

/// "Table dogs: name, age, color"
std::string schema_text(const Schema& schema);

/// The query as SQL over this schema.
std::string sql(const Query& query, const Schema& schema);

/// A key for what is asked, values included: the same for every phrasing, table name and column name.
std::string meaning(const Query& query);

}  // namespace text_to_sql

#include "query.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>
#include <tuple>

namespace text_to_sql {
namespace {

/// The ids of `table`'s numeric (or text) attributes, less those in `without`.
std::vector<std::string> choices(const Table& table, bool numeric, const std::set<std::string>& without) {
  std::vector<std::string> result;
  for (const std::string& id : table.attributes) {
    if (attribute(id).numeric == numeric && !without.contains(id)) result.push_back(id);
  }
  return result;
}

Condition number_condition(Random& random, const std::string& id) {
  const Attribute& about = attribute(id);
  using enum Comparison;
  static const std::vector<Comparison> kinds = {Equal, More, Less, Between};
  Condition result{id, kinds[random.weighted({2, 5, 5, 2})], {}};
  if (result.comparison == Between) {
    const int low = random.between(about.low, about.high - 1);
    result.literals = {std::to_string(low), std::to_string(random.between(low + 1, about.high))};
  } else {
    result.literals = {std::to_string(random.between(about.low, about.high))};
  }
  return result;
}

/// A condition on an attribute outside `without`.
Condition sample_condition(Random& random, const Table& table, const std::set<std::string>& without) {
  std::set<std::string> taken = without;
  if (!random.chance(15))
    taken.insert(table.attributes.front());  // names are asked for more than asked about
  const auto numbers = choices(table, true, taken);
  const auto texts = choices(table, false, taken);
  if (texts.empty() || (!numbers.empty() && random.chance(60)))
    return number_condition(random, random.pick(numbers));
  const std::string& id = random.pick(texts);
  const Comparison comparison = random.chance(35) ? Comparison::Not : Comparison::Equal;
  return {id, comparison, {random.pick(attribute(id).values)}};
}

void add_conditions(Random& random, Query& query, int percent_one, int percent_two) {
  const int draw = random.between(0, 99);
  if (draw >= percent_one + percent_two) return;
  std::set<std::string> used(query.columns.begin(), query.columns.end());
  used.insert(query.measured);
  const Condition first = sample_condition(random, *query.table, used);
  query.conditions = {first};
  if (draw >= percent_two) return;
  query.any = random.chance(35);
  const Attribute& about = attribute(first.attribute);
  if (query.any && first.comparison == Comparison::Equal && !about.numeric) {  // red or blue
    Condition second = first;
    while (second.literals == first.literals) second.literals = {random.pick(about.values)};
    query.conditions.push_back(second);
    return;
  }
  used.insert(first.attribute);
  query.conditions.push_back(sample_condition(random, *query.table, used));
}

/// The identifying attribute in 60 of 100 cases, else any other.
std::string answer_column(Random& random, const Table& table, const std::set<std::string>& without) {
  if (!without.contains(table.attributes.front()) && random.chance(60)) return table.attributes.front();
  std::vector<std::string> rest;
  for (const std::string& id : table.attributes) {
    if (!without.contains(id)) rest.push_back(id);
  }
  return random.pick(rest);
}

std::string where(const Query& query, const Schema& schema) {
  std::string result;
  for (const Condition& condition : query.conditions) {
    result += result.empty() ? " where " : query.any ? " or " : " and ";
    result += schema.columns.at(condition.attribute);
    const std::string& literal = condition.literals.front();
    using enum Comparison;
    switch (condition.comparison) {
      case Equal:
        result += attribute(condition.attribute).numeric ? fmt::format(" = {}", literal)
                                                         : fmt::format(" = '{}'", literal);
        break;
      case Not:
        result += fmt::format(" <> '{}'", literal);
        break;
      case More:
        result += fmt::format(" > {}", literal);
        break;
      case Less:
        result += fmt::format(" < {}", literal);
        break;
      case Between:
        result += fmt::format(" between {} and {}", literal, condition.literals[1]);
        break;
    }
  }
  return result;
}

const char* aggregate_name(Aggregate aggregate) {
  static constexpr const char* kNames[] = {"max", "min", "avg", "sum"};
  return kNames[static_cast<std::size_t>(aggregate)];
}

/// What stands between select and FROM.
std::string answer(const Query& query, const Schema& schema) {
  std::string columns;
  for (const std::string& id : query.columns)
    columns += (columns.empty() ? "" : ", ") + schema.columns.at(id);
  const std::string measured = query.measured.empty() ? "" : schema.columns.at(query.measured);
  switch (query.kind) {
    case Kind::Everything:
      return "*";
    case Kind::Count:
      return "count(*)";
    case Kind::Aggregate:
      return fmt::format("{}({})", aggregate_name(query.aggregate), measured);
    case Kind::GroupCount:
      return columns + ", count(*)";
    case Kind::GroupAggregate:
      return fmt::format("{}, {}({})", columns, aggregate_name(query.aggregate), measured);
    case Kind::Distinct:
      return "distinct " + columns;
    case Kind::Columns:
    case Kind::Sorted:
    case Kind::Top:
      break;
  }
  return columns;
}

}  // namespace

Query sample_query(Random& random, const Table& table) {
  Query query;
  query.table = &table;
  static const std::vector<Kind> kinds = {Kind::Columns,    Kind::Everything,     Kind::Count,
                                          Kind::Aggregate,  Kind::Sorted,         Kind::Top,
                                          Kind::GroupCount, Kind::GroupAggregate, Kind::Distinct};
  query.kind = kinds[random.weighted({34, 6, 14, 14, 5, 13, 5, 5, 4})];
  query.aggregate = static_cast<Aggregate>(random.below(4));
  switch (query.kind) {
    case Kind::Columns:
      query.columns = {answer_column(random, table, {})};
      if (random.chance(25)) {
        query.columns.push_back(answer_column(random, table, {query.columns.front()}));
      }
      add_conditions(random, query, 80, 8);
      break;
    case Kind::Everything:
      add_conditions(random, query, 75, 0);
      break;
    case Kind::Count:
      add_conditions(random, query, 85, 8);
      break;
    case Kind::Aggregate:
      query.measured = random.pick(choices(table, true, {}));
      add_conditions(random, query, 30, 0);
      break;
    case Kind::Sorted:
    case Kind::Top:
      query.measured = random.pick(choices(table, true, {}));
      query.columns = {answer_column(random, table, {query.measured})};
      query.descending = random.chance(60);
      if (query.kind == Kind::Top) query.limit = random.chance(40) ? 1 : random.between(2, 5);
      add_conditions(random, query, 10, 0);
      break;
    case Kind::GroupCount:
    case Kind::GroupAggregate:
    case Kind::Distinct:
      query.columns = {random.pick(choices(table, false, {table.attributes.front()}))};
      if (query.kind == Kind::GroupAggregate) query.measured = random.pick(choices(table, true, {}));
      break;
  }
  return query;
}

Schema sample_schema(Random& random, const Query& query) {
  std::set<std::string> needed(query.columns.begin(), query.columns.end());
  if (!query.measured.empty()) needed.insert(query.measured);
  for (const Condition& condition : query.conditions) needed.insert(condition.attribute);
  needed.insert(query.table->attributes.front());

  Schema schema;
  std::vector<std::string> rest;
  for (const std::string& id : query.table->attributes) {
    if (needed.contains(id))
      schema.ids.push_back(id);
    else
      rest.push_back(id);
  }
  random.shuffle(rest);
  const auto size = static_cast<std::size_t>(random.between(4, 5));
  while (schema.ids.size() < size && !rest.empty()) {
    schema.ids.push_back(rest.back());
    rest.pop_back();
  }
  random.shuffle(schema.ids);
  for (const std::string& id : schema.ids) schema.columns[id] = random.pick(attribute(id).columns);
  schema.table = random.chance(50) ? query.table->plural : query.table->singular;
  return schema;
}

std::string schema_text(const Schema& schema) {
  std::string result = "Table " + schema.table + ":";
  for (const std::string& id : schema.ids) {
    result += (id == schema.ids.front() ? " " : ", ") + schema.columns.at(id);
  }
  return result;
}

std::string sql(const Query& query, const Schema& schema) {
  std::string result =
      fmt::format("select {} from {}{}", answer(query, schema), schema.table, where(query, schema));
  if (query.kind == Kind::Sorted || query.kind == Kind::Top) {
    result +=
        fmt::format(" order by {}{}", schema.columns.at(query.measured), query.descending ? " desc" : " asc");
  }
  if (query.kind == Kind::Top) result += fmt::format(" limit {}", query.limit);
  if (query.kind == Kind::GroupCount || query.kind == Kind::GroupAggregate) {
    result += " group by " + schema.columns.at(query.columns.front());
  }
  return result;
}

std::string meaning(const Query& query) {
  // Over a schema that names every column by its meaning, SQL text is a key. The order of two conditions or
  // two answer columns does not change what is asked, so both are sorted first.
  Query sorted = query;
  std::sort(sorted.columns.begin(), sorted.columns.end());
  std::sort(sorted.conditions.begin(), sorted.conditions.end(), [](const Condition& a, const Condition& b) {
    return std::tie(a.attribute, a.literals) < std::tie(b.attribute, b.literals);
  });
  Schema schema{query.table->plural, query.table->attributes, {}};
  for (const std::string& id : schema.ids) schema.columns[id] = id;
  return sql(sorted, schema);
}

}  // namespace text_to_sql

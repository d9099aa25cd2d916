#include "world.h"

namespace text_to_sql {
namespace {

using Words = std::vector<std::string>;

const Words kPeople = {"Tom",  "Lily", "Anna", "Ben", "Sam",  "Mia",
                       "Jack", "Max",  "Sue",  "Tim", "Lucy", "Bob"};
const Words kPlaces = {"town", "tower", "mountain", "forest", "farm", "river", "garden", "park"};

/// "an age", "a price".
std::string with_article(const std::string& noun) {
  const bool vowel = std::string("aeiou").find(noun.front()) != std::string::npos;
  return (vowel ? "an " : "a ") + noun;
}

/// A text attribute. `predicates` hold one {} for the value.
Attribute text(std::string id, Words columns, std::string noun, std::string plural, Words values,
               Words predicates, Words asks = {}, bool adjective = false) {
  Attribute result;
  result.id = std::move(id);
  result.columns = std::move(columns);
  result.nouns = {std::move(noun)};
  result.plurals = {std::move(plural)};
  result.values = std::move(values);
  for (const std::string& predicate : predicates) {
    const bool is = predicate.starts_with("are ");
    result.predicates[Comparison::Not].push_back(is ? "are not " + predicate.substr(4)
                                                    : "do not " + predicate);
  }
  result.predicates[Comparison::Equal] = std::move(predicates);
  result.asks = std::move(asks);
  result.adjective = adjective;
  return result;
}

/// The words for a quantity with comparatives: older, younger, oldest, youngest, old.
struct Degrees {
  std::string more, less, most, least, plain;
};

/// A measured attribute: each column name is also a word for it. `unit` closes an equality: "are 5 years
/// old".
Attribute measure(std::string id, Words columns, const std::string& noun, const std::string& plural,
                  const Degrees& degrees, const std::string& unit, int low, int high) {
  Attribute result;
  result.id = std::move(id);
  result.columns = std::move(columns);
  result.nouns = {noun};
  result.plurals = {plural};
  result.numeric = true;
  result.low = low;
  result.high = high;
  const std::string one = with_article(noun);
  using enum Comparison;
  result.predicates[Equal] = {"are exactly {} " + unit, "have " + one + " of {}"};
  result.predicates[More] = {"are " + degrees.more + " than {}", "are over {} " + unit,
                             "have " + one + " over {}"};
  result.predicates[Less] = {"are " + degrees.less + " than {}", "are under {} " + unit,
                             "have " + one + " under {}"};
  result.predicates[Between] = {"are between {} and {} " + unit, "have " + one + " between {} and {}"};
  result.asks = {"How " + degrees.plain + " are {}?"};
  result.most = degrees.most + " {}";
  result.least = degrees.least + " {}";
  return result;
}

/// A number of things that each row has: rooms, legs, pages.
Attribute count_of(std::string id, Words columns, const std::string& things, int low, int high) {
  Attribute result;
  result.id = std::move(id);
  result.columns = std::move(columns);
  result.nouns = {"number of " + things};
  result.plurals = {"numbers of " + things};
  result.numeric = true;
  result.counted = true;
  result.low = low;
  result.high = high;
  using enum Comparison;
  result.predicates[Equal] = {"have exactly {} " + things};
  result.predicates[More] = {"have more than {} " + things, "have over {} " + things};
  result.predicates[Less] = {"have less than {} " + things, "have under {} " + things};
  result.predicates[Between] = {"have between {} and {} " + things};
  result.asks = {"How many " + things + " do {} have?"};
  result.most = "{} with the most " + things;
  result.least = "{} with the fewest " + things;
  return result;
}

Attribute price() {
  Attribute result = measure("price", {"price", "cost"}, "price", "prices",
                             {"dearer", "cheaper", "dearest", "cheapest", "dear"}, "coins", 1, 19);
  using enum Comparison;
  result.predicates[Equal] = {"cost exactly {}", "have a price of {}"};
  result.predicates[More] = {"cost more than {}", "cost over {}", "have a price over {}"};
  result.predicates[Less] = {"cost less than {}", "cost under {}", "have a price under {}"};
  result.predicates[Between] = {"cost between {} and {}", "have a price between {} and {}"};
  result.asks = {"How much do {} cost?"};
  result.most = "{} with the highest price";
  return result;
}

std::vector<Attribute> text_attributes() {
  return {
      text("name", {"name"}, "name", "names", kPeople, {"are named {}", "are called {}"}),
      text("title", {"title", "name"}, "title", "titles", kPeople, {"are named {}", "are called {}"}),
      text("color", {"color"}, "color", "colors", {"red", "blue", "green", "white", "black", "brown"},
           {"are {}"}, {"What color are {}?"}, true),
      text("mood", {"mood"}, "mood", "moods", {"brave", "funny", "happy", "sad", "shy", "wild"}, {"are {}"},
           {}, true),
      text("taste", {"taste"}, "taste", "tastes", {"sweet", "sour", "bitter", "plain", "fresh"},
           {"taste {}", "have a {} taste"}, {"How do {} taste?"}),
      text("shape", {"shape"}, "shape", "shapes", {"round", "square", "flat", "long"},
           {"are {}", "have a {} shape"}, {"What shape are {}?"}),
      text("material", {"material"}, "material", "materials",
           {"wood", "stone", "iron", "gold", "silk", "paper"}, {"are made of {}", "are made from {}"},
           {"What are {} made of?"}),
      text("subject", {"subject"}, "subject", "subjects", {"love", "magic", "war", "food", "music", "kings"},
           {"are about {}", "talk about {}"}, {"What are {} about?"}),
      text("home", {"home", "place"}, "home", "homes", kPlaces, {"live in the {}", "come from the {}"},
           {"Where do {} live?"}),
      text("place", {"place"}, "place", "places", kPlaces, {"are in the {}", "stand near the {}"},
           {"Where are {}?"}),
      text("owner", {"owner", "master"}, "owner", "owners", kPeople, {"belong to {}", "are owned by {}"},
           {"Who owns {}?", "Who is the owner of {}?"}),
      text("writer", {"writer"}, "writer", "writers", kPeople, {"are written by {}", "are by {}"},
           {"Who wrote {}?"}),
      text("singer", {"singer"}, "singer", "singers", kPeople, {"are sung by {}", "are by {}"},
           {"Who sings {}?"}),
      text("maker", {"maker"}, "maker", "makers", kPeople, {"are made by {}", "come from {}"},
           {"Who made {}?"}),
      text("captain", {"captain"}, "captain", "captains", kPeople, {"are driven by {}", "are led by {}"},
           {"Who drives {}?"}),
      text("friend", {"friend", "pal"}, "friend", "friends", kPeople,
           {"are friends with {}", "have {} as a friend"}, {"Who is the friend of {}?"}),
  };
}

std::vector<Attribute> number_attributes() {
  return {
      measure("age", {"age"}, "age", "ages", {"older", "younger", "oldest", "youngest", "old"}, "years old",
              1, 19),
      measure("weight", {"weight"}, "weight", "weights",
              {"heavier", "lighter", "heaviest", "lightest", "heavy"}, "pounds in weight", 2, 19),
      measure("height", {"height"}, "height", "heights", {"taller", "shorter", "tallest", "shortest", "tall"},
              "feet tall", 2, 19),
      measure("length", {"length"}, "length", "lengths", {"longer", "shorter", "longest", "shortest", "long"},
              "feet long", 2, 19),
      measure("minutes", {"minutes"}, "length", "lengths",
              {"longer", "shorter", "longest", "shortest", "long"}, "minutes long", 1, 19),
      measure("speed", {"speed"}, "speed", "speeds", {"faster", "slower", "fastest", "slowest", "fast"},
              "miles fast", 2, 19),
      price(),
      count_of("rooms", {"rooms"}, "rooms", 1, 19),
      count_of("windows", {"windows"}, "windows", 2, 19),
      count_of("seats", {"seats"}, "seats", 2, 19),
      count_of("pages", {"pages"}, "pages", 2, 19),
      count_of("eggs", {"eggs"}, "eggs", 1, 12),
      count_of("apples", {"apples"}, "apples", 2, 19),
      count_of("stars", {"stars"}, "stars", 1, 9),
      count_of("prizes", {"prizes"}, "prizes", 1, 15),
      count_of("points", {"points"}, "points", 1, 19),
      count_of("wheels", {"wheels"}, "wheels", 2, 19),
      count_of("candles", {"candles"}, "candles", 1, 19),
  };
}

std::map<std::string, Attribute> all_attributes() {
  std::map<std::string, Attribute> result;
  for (Attribute& entry : text_attributes()) result.emplace(entry.id, entry);
  for (Attribute& entry : number_attributes()) result.emplace(entry.id, entry);
  return result;
}

}  // namespace

const std::vector<Table>& tables() {
  static const std::vector<Table> result = {
      {"dog", "dogs", {"name", "age", "color", "weight", "owner", "mood"}},
      {"horse", "horses", {"name", "age", "color", "speed", "owner", "prizes"}},
      {"bird", "birds", {"name", "color", "home", "mood", "eggs", "weight"}},
      {"book", "books", {"title", "writer", "subject", "pages", "price", "stars"}},
      {"song", "songs", {"title", "singer", "subject", "minutes", "stars", "price"}},
      {"house", "houses", {"name", "place", "color", "rooms", "windows", "price", "owner"}},
      {"boat", "boats", {"name", "color", "length", "speed", "seats", "captain"}},
      {"toy", "toys", {"name", "color", "material", "price", "weight", "owner"}},
      {"cake", "cakes", {"name", "taste", "maker", "price", "candles", "shape"}},
      {"tree", "trees", {"name", "height", "age", "place", "apples", "owner"}},
      {"child", "children", {"name", "age", "height", "home", "points", "friend"}},
      {"train", "trains", {"name", "speed", "length", "wheels", "color", "captain"}},
  };
  return result;
}

const Attribute& attribute(const std::string& id) {
  static const std::map<std::string, Attribute> all = all_attributes();
  return all.at(id);
}

}  // namespace text_to_sql

#include "io/json.h"

#include <gtest/gtest.h>

#include "io/files.h"
#include "io/json_text.h"

namespace candela::io {
namespace {

using test::error_of;
using test::expect_contains;

TEST(Json, NamesTheFileLineAndColumnOfASyntaxError) {
  const std::string error = error_of<IoError>([] { parse_json("{\"a\": 1,\n \"b\": }", "x.json"); });
  expect_contains(error, "x.json: must be valid JSON; at line 2, column 7");
  expect_contains(error_of<IoError>([] { parse_json("{\"b\": }", "x.json"); }),
                  "x.json: must be valid JSON; at column 7: ");
}

/// A document never becomes a Json, whose destructor allocates.
static_assert(!std::is_convertible_v<JsonTree, Json> && !std::is_constructible_v<Json, JsonTree>);
static_assert(!std::is_convertible_v<const JsonTree&, Json> && !std::is_convertible_v<JsonTree&, Json>);
static_assert(std::is_convertible_v<JsonTree&, const Json&>);

/// As a tree, two bytes become a hundred.
TEST(Json, ATreeOfManySmallValuesIsRefused) {
  std::string many = "[{}";
  for (int i = 0; i < 1 << 20; ++i) many += ",{}";
  many += "]";
  expect_contains(error_of<IoError>([&] { parse_json(many, "x"); }), "x: must hold at most 1048576 values");
  expect_contains(error_of<IoError>([] { parse_json("[1, 2, 3]", "x", {.max_values = 3}); }),
                  "at most 3 values");
  EXPECT_NO_THROW(parse_json("[1, 2]", "x", {.max_values = 3}));
}

TEST(Json, MembersAreReadOneByOne) {
  std::vector<std::string> seen;
  const auto take = [&](const std::string& key, const Json& value) { seen.push_back(key + value.dump()); };
  parse_json_members(R"({"a": {"x": [1, 2]}, "b": 3, "c": [{}], "a": {}})", "x", {.max_values = 6}, take);
  EXPECT_EQ(seen, (std::vector<std::string>{R"(a{"x":[1,2]})", "c[{}]", "a{}", "b3"}));
  for (const char* text : {"[{}, {}]", "[[1]]", "3", "\"x\"", "null", "{\"a\": 1, \"a\": {}}", "{\"a\": {}"})
    EXPECT_THROW(parse_json_members(text, "x", {}, take), IoError) << text;
  EXPECT_THROW(parse_json_members(R"({"a": [1, 2, 3, 4]})", "x", {.max_values = 4}, take), IoError);
}

/// Whatever hinders a look at a file is not its absence.
TEST(Json, AFileThatCannotBeLookedAtIsNotMissing) {
  const test::TemporaryFolder folder;
  std::filesystem::create_symlink("b.json", folder / "a.json");
  std::filesystem::create_symlink("a.json", folder / "b.json");
  expect_contains(error_of<IoError>([&] { load_json(folder / "a.json"); }),
                  "a.json: cannot be opened: Too many levels of symbolic links");
}

TEST(Json, RefusesWhatFollowsTheDocument) {
  EXPECT_THROW(parse_json("{} {}", "x"), IoError);
  EXPECT_THROW(parse_json("", "x"), IoError);
  EXPECT_THROW(parse_json("{\"a\": \"\xFF\"}", "x"), IoError);
}

/// nlohmann's parser takes a NUL for the end of the text, and would not look at what lies behind it.
TEST(Json, RefusesNul) {
  using namespace std::string_view_literals;
  expect_contains(error_of<IoError>([] { parse_json("{}\0{\"a\": 1}"sv, "x.json"); }),
                  "x.json: must be valid JSON; at column 3: a NUL byte");
  expect_contains(error_of<IoError>([] { parse_json("{\n}\0"sv, "x.json"); }),
                  "x.json: must be valid JSON; at line 2, column 2: a NUL byte");
  EXPECT_THROW(parse_json("{\"a\0b\": 1}"sv, "x.json"), IoError);
  EXPECT_EQ(parse_json(R"({"a": "\u0000"})", "x.json")->at("a"), "\0"sv);
  EXPECT_FALSE(is_json("{}\0{\"a"sv));
  EXPECT_TRUE(is_json(R"({"a": "\u0000", "a": 1})"));
}

TEST(Json, RefusesKeysWithANul) {
  expect_contains(error_of<IoError>([] { parse_json(R"({"a\u0000b": 1})", "x.json"); }),
                  "x.json: a key must not hold a NUL; got \"a\\x00b\"");
}

TEST(Json, RefusesDuplicateKeys) {
  expect_contains(error_of<IoError>([] { parse_json(R"({"a": 1, "b": {"c": 1, "c": 2}})", "x"); }),
                  "\"c\" must occur once");
}

TEST(Json, BoundsDepthAndSize) {
  std::string deep(100000, '[');
  expect_contains(error_of<IoError>([&] { parse_json(deep, "x"); }), "at most 64 levels deep");
  EXPECT_NO_THROW(parse_json(std::string(64, '[') + std::string(64, ']'), "x"));
  expect_contains(error_of<IoError>([] { parse_json("[1, 2]", "x", {.max_bytes = 3}); }), "at most 3 bytes");
}

TEST(Json, FieldErrorsNameFileFieldAndValue) {
  const auto document = parse_json(
      R"({"a": {"n": "four", "z": null, "neg": -1, "big": 18446744073709551615, "f": 1.5}})", "c.json");
  const JsonObject object = JsonObject(document, "c.json").object("a");
  EXPECT_EQ(error_of<IoError>([&] { object.positive("n"); }),
            "c.json: a.n must be a positive integer; got \"four\"");
  EXPECT_EQ(error_of<IoError>([&] { object.positive("neg"); }),
            "c.json: a.neg must be a positive integer below 2^31; got -1");
  EXPECT_EQ(error_of<IoError>([&] { object.integer("big"); }),
            "c.json: a.big must be an integer below 2^63; got 18446744073709551615");
  EXPECT_EQ(error_of<IoError>([&] { object.string("z"); }), "c.json: a.z must be a string; got null");
  EXPECT_EQ(error_of<IoError>([&] { object.string("none"); }),
            "c.json: a.none must be a string; got nothing (the field is missing)");
  EXPECT_THROW(object.integer("f"), IoError);
  EXPECT_THROW(object.boolean("f"), IoError);
  EXPECT_THROW(object.object("f"), IoError);
  EXPECT_THROW(object.strings("f"), IoError);
  EXPECT_EQ(object.positive("z", 7), 7);
  EXPECT_FALSE(object.has("z"));
  EXPECT_DOUBLE_EQ(object.number("f"), 1.5);
}

TEST(Json, ReadsOneIntegerOrAList) {
  const auto document = parse_json(R"({"one": 3, "many": [1, 2], "bad": [1, "x"]})", "c");
  const JsonObject object(document, "c");
  EXPECT_EQ(object.integers_or_one("one"), std::vector<std::int64_t>{3});
  EXPECT_EQ(object.integers_or_one("many"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(object.integers_or_one("none").empty());
  EXPECT_THROW(object.integers_or_one("bad"), IoError);
}

TEST(Json, MissingFilesAndFoldersAreIoErrors) {
  const test::TemporaryFolder folder;
  expect_contains(error_of<IoError>([&] { load_json(folder / "absent.json"); }), "absent.json: no such file");
  expect_contains(error_of<IoError>([&] { load_json(folder.path()); }), "must be a regular file");
}

TEST(JsonText, WritesWhatIsReadBack) {
  EXPECT_EQ(json_quoted("a\"\n\xFF"), "\"a\\\"\\n\xEF\xBF\xBD\"");
  EXPECT_EQ(json_number(0.1), "0.1");
  EXPECT_EQ(json_number(1e300 * 1e300), "null");
  const std::vector<JsonField> inner = {{"c", "[1]"}};
  const std::vector<JsonField> fields = {{"a", "1"}, {"b\"", json_object(inner, 1)}};
  EXPECT_EQ(json_object(fields), "{\n  \"a\": 1,\n  \"b\\\"\": {\n    \"c\": [1]\n  }\n}");
  EXPECT_EQ(json_object({}), "{}");
}

TEST(JsonText, AMemberIsReplacedWhereItStands) {
  const auto with = [](const char* object) { return with_json_member(object, "b", "7"); };
  EXPECT_EQ(with(R"({"a": {"b": 1}, "b" :  [2, "]", {"b": 3}] , "c": 4})"),
            R"({"a": {"b": 1}, "b" :  7 , "c": 4})");
  EXPECT_EQ(with(R"({"\u0062":"x\"}"})"), R"({"\u0062":7})");
  EXPECT_EQ(with(R"({"a": "b", "c": "\\"})"), "{\"a\": \"b\", \"c\": \"\\\\\",\n  \"b\": 7\n}");
  EXPECT_EQ(with(" { } \n"), " {\n  \"b\": 7\n} \n");
}

}  // namespace
}  // namespace candela::io

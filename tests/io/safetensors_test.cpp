#include <csignal>
#include <cstring>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include <candela/io/safetensors.h>

#include "io/files.h"
#include "support/golden.h"

namespace candela {
namespace {

using nlohmann::json;
using test::error_of;
using test::expect_contains;

std::string file_of(const std::string& header, const std::string& data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i)
    bytes += static_cast<char>(static_cast<std::uint64_t>(header.size()) >> (8 * i) & 0xFF);
  return bytes + header + data;
}

json entry(const std::string& dtype, std::vector<std::int64_t> shape, std::uint64_t begin,
           std::uint64_t end) {
  return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

std::string header_error(const std::string& header, std::size_t data_bytes) {
  const std::string bytes = file_of(header, std::string(data_bytes, 'x'));
  return error_of<IoError>([&] { SafetensorsHeader::parse(bytes, bytes.size(), "m.safetensors"); });
}

class Safetensors : public testing::Test {
 protected:
  std::filesystem::path file(const std::string& name = "a.safetensors") const { return folder_ / name; }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder_.path()), {}));
  }
  test::TemporaryFolder folder_;
};

TEST_F(Safetensors, RoundTripKeepsEveryDtypeShapeAndMetadata) {
  const std::vector<std::pair<std::string, Tensor>> tensors = {
      {"f32", Tensor::from_values(std::vector<float>{1, -2, 3, 4, 5, 6}, {2, 3})},
      {"bf16",
       Tensor::from_values(std::vector<BFloat16>{BFloat16(1.5F), BFloat16(-2.F), BFloat16(3.F)}, {3})},
      {"f16", Tensor::from_values(std::vector<Float16>{Float16(0.25F)}, {1, 1})},
      {"i64", Tensor::from_values(std::vector<std::int64_t>{-1, 1LL << 40}, {2})},
      {"i32", Tensor::from_values(std::vector<std::int32_t>{7}, Shape{})},
      {"u8", Tensor::from_values(std::vector<std::uint8_t>{1, 2, 255}, {3})},
      {"f64", Tensor::from_values(std::vector<double>{0.1}, {1})},
      {"empty", Tensor::empty({0, 4})},
  };
  write_safetensors(file(), tensors, {{"format", "pt"}, {"note", "ü"}});
  const SafetensorsReader reader = SafetensorsReader::open(file());
  EXPECT_EQ(reader.names().size(), tensors.size());
  EXPECT_EQ(reader.metadata().at("note"), "ü");
  for (const auto& [name, tensor] : tensors) {
    const Tensor read = reader.tensor(name);
    EXPECT_EQ(read.dtype(), tensor.dtype()) << name;
    EXPECT_EQ(read.shape(), tensor.shape()) << name;
  }
  EXPECT_EQ(reader.tensor("f32").to_vector<float>(), (std::vector<float>{1, -2, 3, 4, 5, 6}));
  EXPECT_EQ(static_cast<float>(reader.tensor("bf16").to_vector<BFloat16>()[1]), -2.F);
  EXPECT_EQ(static_cast<float>(reader.tensor("f16").to_vector<Float16>()[0]), 0.25F);
  EXPECT_EQ(reader.tensor("i64").to_vector<std::int64_t>()[1], 1LL << 40);
  EXPECT_EQ(reader.tensor("i32").item(), 7);
  EXPECT_EQ(reader.tensor("u8").to_vector<std::uint8_t>()[2], 255);
  EXPECT_EQ(reader.tensor("f64").item(), 0.1);
  EXPECT_EQ(entries(), 1U) << "nothing is left beside the file";
}

TEST_F(Safetensors, WritesAnAlignedHeaderAndViewsAsTheyRead) {
  const Tensor matrix = Tensor::from_values(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor transposed = matrix.with_layout(matrix.layout().transpose(0, 1));
  write_safetensors(file(),
                    {{"b", Tensor::from_values(std::vector<std::uint8_t>{9}, {1})}, {"t", transposed}});
  const std::string bytes = test::read_text(file());
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  EXPECT_EQ(length % 8, 0U);
  EXPECT_EQ(json::parse(bytes.substr(8, length))["__metadata__"]["format"], "pt");
  const SafetensorsReader reader = SafetensorsReader::open(file());
  EXPECT_EQ(reader.tensor("t").shape(), (Shape{3, 2}));
  EXPECT_EQ(reader.tensor("t").to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(reader.entry("t").begin, 0U) << "wide elements come first";
}

TEST_F(Safetensors, TensorsShareTheMappingAndWritesStayPrivate) {
  write_safetensors(file(), {{"a", Tensor::from_values(std::vector<float>{1, 2}, {2})},
                             {"b", Tensor::from_values(std::vector<float>{3}, {1})}});
  Tensor first;
  {
    const SafetensorsReader reader = SafetensorsReader::open(file());
    first = reader.tensor("a");
    EXPECT_EQ(first.data<float>() + 2, reader.tensor("b").data<float>());
    first.data<float>()[0] = 50;
    EXPECT_EQ(reader.tensor("a").to_vector<float>()[0], 50) << "one mapping, no copy";
  }
  EXPECT_EQ(first.to_vector<float>(), (std::vector<float>{50, 2})) << "the mapping outlives the reader";
  EXPECT_EQ(SafetensorsReader::open(file()).tensor("a").to_vector<float>()[0], 1);
}

TEST_F(Safetensors, MisalignedDataIsCopied) {
  float value = 2.5F;
  std::string data(4, '\0');
  std::memcpy(data.data(), &value, 4);
  std::string header = json{{"x", entry("F32", {1}, 0, 4)}}.dump();
  while (header.size() % 4 != 1) header += ' ';
  test::write_text(file(), file_of(header, data));
  const Tensor tensor = SafetensorsReader::open(file()).tensor("x");
  EXPECT_EQ(tensor.item(), 2.5);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data<float>()) % alignof(float), 0U);
}

TEST_F(Safetensors, DtypesWeLackFailOnlyWhenAskedFor) {
  const json header = {{"odd", entry("F8_E4M3", {2}, 0, 2)},
                       {"new", entry("X3", {5}, 2, 3)},
                       {"ok", entry("U8", {1}, 3, 4)},
                       {"deep", entry("U8", {1, 1, 1, 1, 1, 1, 1}, 4, 5)}};
  test::write_text(file(), file_of(header.dump(), "abcde"));
  const SafetensorsReader reader = SafetensorsReader::open(file());
  EXPECT_EQ(reader.tensor("ok").item(), 'd');
  expect_contains(error_of<Unsupported>([&] { reader.tensor("odd"); }), "odd has dtype F8_E4M3");
  expect_contains(error_of<Unsupported>([&] { reader.tensor("new"); }), "new has dtype X3");
  expect_contains(error_of<Unsupported>([&] { reader.tensor("deep"); }), "7 dimensions");
  expect_contains(error_of<IoError>([&] { reader.tensor("absent"); }), "must hold the tensor absent");
}

/// Such a tensor is empty and its file in order, but no Shape can be made of it.
TEST_F(Safetensors, ShapesTooLargeForUsFailOnlyWhenAskedFor) {
  const auto huge = std::int64_t{1} << 62;
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{huge, huge, 0}, {0, huge, huge}, {huge, 0, 2}}) {
    test::write_text(file(), file_of(json{{"x", entry("F32", shape, 0, 0)}}.dump(), ""));
    const SafetensorsReader reader = SafetensorsReader::open(file());
    EXPECT_EQ(reader.entry("x").shape, shape);
    expect_contains(error_of<Unsupported>([&] { reader.tensor("x"); }),
                    file().string() + ": x has shape [" + std::to_string(shape[0]));
  }
}

TEST(SafetensorsErrors, TruncatedFiles) {
  const auto error = [](const std::string& bytes) {
    return error_of<IoError>([&] { SafetensorsHeader::parse(bytes, bytes.size(), "m.safetensors"); });
  };
  expect_contains(error(""), "m.safetensors: must begin with 8 bytes of header length; the file has 0 bytes");
  expect_contains(error("1234567"), "7 bytes");
  expect_contains(error(std::string(16, '\xFF')),
                  "header length must be at most 8; got 18446744073709551615");
  const std::string whole = file_of(json{{"x", entry("F32", {4}, 0, 16)}}.dump(), std::string(16, 'x'));
  expect_contains(error(whole.substr(0, 20)), "the file is truncated");
  expect_contains(error(whole.substr(0, whole.size() - 1)), "within the 15 bytes of data");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    EXPECT_THROW(SafetensorsHeader::parse(cut, cut.size(), "m"), IoError) << size;
  }
}

TEST(SafetensorsErrors, HeadersThatAreNotWhatTheyMustBe) {
  expect_contains(header_error("not json", 0), "m.safetensors: header: must be valid JSON");
  expect_contains(header_error("[]", 0), "must be a JSON object");
  expect_contains(header_error(R"({"x": 1})", 0), "x must be a JSON object");
  expect_contains(header_error(R"({"x": {"shape": [1], "data_offsets": [0, 4]}})", 4),
                  "x.dtype must be a string");
  expect_contains(header_error(R"({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", 4),
                  "x.shape");
  expect_contains(header_error(R"({"x": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}})", 4),
                  "x.shape");
  expect_contains(header_error(R"({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0]}})", 4),
                  "x.data_offsets");
  expect_contains(header_error(R"({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}})", 4),
                  "x.data_offsets");
  expect_contains(header_error(R"({"__metadata__": {"a": 1}})", 0), "__metadata__.a must be a string");
  const std::string twice = R"({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                                "x": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}})";
  expect_contains(header_error(twice, 2), "\"x\" must occur once");
  expect_contains(header_error(std::string(100, '['), 0), "at most 8 levels deep");
}

TEST(SafetensorsErrors, OffsetsThatLie) {
  expect_contains(header_error(json{{"x", entry("F32", {4}, 0, 20)}}.dump(), 16), "within the 16 bytes");
  expect_contains(header_error(json{{"x", entry("F32", {4}, 0, 12)}}.dump(), 12),
                  "16 bytes apart, as F32 [4] needs");
  const auto huge = std::int64_t{1} << 40;
  expect_contains(header_error(json{{"x", entry("F32", {huge, huge, huge}, 0, 4)}}.dump(), 4),
                  "less than 2^64 bits");
  expect_contains(header_error(json{{"x", entry("F4", {3}, 0, 2)}}.dump(), 2), "x.data_offsets");
  expect_contains(header_error(json{{"a", entry("U8", {2}, 0, 2)}, {"b", entry("U8", {2}, 1, 3)}}.dump(), 3),
                  "b must begin at byte 2");
  expect_contains(header_error(json{{"a", entry("U8", {1}, 0, 1)}, {"b", entry("U8", {1}, 2, 3)}}.dump(), 3),
                  "leave a hole");
  expect_contains(header_error(json{{"a", entry("U8", {1}, 0, 1)}}.dump(), 3), "must end at byte 3");
  expect_contains(header_error("{}", 3), "must end at byte 3");
}

TEST(SafetensorsErrors, SizesBeyondSixtyThreeBitsAndEmptyTensors) {
  const std::string header =
      R"({"x": {"dtype": "F32", "shape": [18446744073709551615, 0], "data_offsets": [0, 0]}})";
  expect_contains(header_error(header, 0), "x.shape");
  const std::string bytes =
      file_of(R"({"x": {"dtype": "F32", "shape": [4611686018427387904, 0], "data_offsets": [0, 0]}})", "");
  EXPECT_EQ(SafetensorsHeader::parse(bytes, bytes.size(), "m").tensors.size(), 1U);
}

TEST(SafetensorsErrors, TheHeaderBeginsWithABrace) {
  for (const std::string before : {"\xEF\xBB\xBF", " ", "\n"}) {
    expect_contains(header_error(before + "{}", 0),
                    "m.safetensors: header: must begin with {; got the byte 0x");
  }
}

TEST_F(Safetensors, MissingAndOddPaths) {
  expect_contains(error_of<IoError>([&] { SafetensorsReader::open(file()); }),
                  "no such file; check the path");
  expect_contains(error_of<IoError>([&] { SafetensorsReader::open(folder_.path()); }),
                  "must hold model.safetensors");
  test::write_text(file(), "");
  expect_contains(error_of<IoError>([&] { SafetensorsReader::open(file()); }), "0 bytes");
}

class SafetensorsIndex : public Safetensors {
 protected:
  void SetUp() override {
    write_safetensors(file("s1.safetensors"), {{"a", Tensor::from_values(std::vector<float>{1}, {1})}});
    write_safetensors(file("s2.safetensors"), {{"b", Tensor::from_values(std::vector<float>{2}, {1})},
                                               {"c", Tensor::from_values(std::vector<float>{3}, {1})}});
  }
  void write_index(const json& map) const {
    test::write_text(file("model.safetensors.index.json"),
                     json{{"metadata", {{"total_size", 12}}}, {"weight_map", map}}.dump());
  }
  std::string index_error(const json& map) const {
    write_index(map);
    return error_of<IoError>([&] { SafetensorsReader::open(folder_.path()); });
  }
};

TEST_F(SafetensorsIndex, JoinsShards) {
  write_index({{"a", "s1.safetensors"}, {"b", "s2.safetensors"}, {"c", "s2.safetensors"}});
  const SafetensorsReader reader = SafetensorsReader::open(folder_.path());
  EXPECT_EQ(reader.names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(reader.tensor("c").item(), 3);
  EXPECT_EQ(reader.files().size(), 2U);
  EXPECT_EQ(reader.total_bytes(), 12U);
}

TEST_F(SafetensorsIndex, DisagreementsAreNamed) {
  expect_contains(index_error({{"a", "s1.safetensors"}, {"b", "s3.safetensors"}}),
                  "names s3.safetensors, which is not there");
  expect_contains(index_error({{"a", "s1.safetensors"}, {"z", "s1.safetensors"}}),
                  "puts z into s1.safetensors, which does not hold it");
  expect_contains(index_error({{"b", "s2.safetensors"}}),
                  "s2.safetensors holds c, which weight_map does not name");
  expect_contains(index_error({{"a", "s1.safetensors"}, {"b", "s2.safetensors"}, {"c", "s1.safetensors"}}),
                  "puts c into s1.safetensors");
  expect_contains(index_error({{"a", "../s1.safetensors"}}), "a file beside the index");
  expect_contains(index_error({{"a", "/etc/passwd"}}), "a file beside the index");
  expect_contains(index_error({{"a", 3}}), "weight_map.a must be a string");
  expect_contains(index_error(json::object()), "at least one tensor");
  expect_contains(index_error(json::array()), "weight_map must be a JSON object");
}

TEST_F(SafetensorsIndex, ATotalSizeThatIsNoneIsRefused) {
  const json map = {{"a", "s1.safetensors"}, {"b", "s2.safetensors"}, {"c", "s2.safetensors"}};
  const auto index = file("model.safetensors.index.json");
  for (const json& size : {json(-1), json("12"), json(-0.5)}) {
    test::write_text(index, json{{"metadata", {{"total_size", size}}}, {"weight_map", map}}.dump());
    expect_contains(error_of<IoError>([&] { SafetensorsReader::open(folder_.path()); }),
                    index.string() + ": metadata.total_size must be a number");
  }
  // Some count a shared tensor twice, and some write none.
  for (const json& metadata :
       {json{{"total_size", 4000}}, json{{"total_size", 12.0}}, json::object(), json()}) {
    test::write_text(index, json{{"metadata", metadata}, {"weight_map", map}}.dump());
    EXPECT_EQ(SafetensorsReader::open(folder_.path()).total_bytes(), 12U);
  }
}

TEST_F(SafetensorsIndex, ATensorInTwoShardsIsRefused) {
  write_safetensors(file("s3.safetensors"), {{"a", Tensor::from_values(std::vector<float>{9}, {1})}});
  const std::string error = index_error(
      {{"a", "s1.safetensors"}, {"b", "s2.safetensors"}, {"c", "s2.safetensors"}, {"d", "s3.safetensors"}});
  expect_contains(error, "puts d into s3.safetensors");
}

TEST_F(Safetensors, ShardsThatTransformersWroteOpen) {
  const SafetensorsReader reader = SafetensorsReader::open(test::golden_folder() / "mistral_sharded");
  EXPECT_EQ(reader.files().size(), 4U);
  EXPECT_EQ(reader.total_bytes(), 714496U) << "total_size of the index";
  for (const std::string& name : reader.names()) EXPECT_EQ(reader.tensor(name).dtype(), DType::F32);
}

TEST_F(Safetensors, BundledModelOpens) {
  const auto model = test::bundled_model();
  if (model.empty()) GTEST_SKIP() << "models/stories-7m is not here";
  const SafetensorsReader reader = SafetensorsReader::open(model);
  EXPECT_EQ(reader.tensor("model.embed_tokens.weight").shape(), (Shape{4096, 256}));
  EXPECT_EQ(reader.tensor("model.embed_tokens.weight").dtype(), DType::BF16);
}

TEST_F(Safetensors, WriterRefusesNamesThatCannotBeRead) {
  const Tensor x = Tensor::from_values(std::vector<float>{1}, {1});
  EXPECT_THROW(write_safetensors(file(), {{"x", x}, {"x", x}}), InvalidArgument);
  EXPECT_THROW(write_safetensors(file(), {{"__metadata__", x}}), InvalidArgument);
  EXPECT_THROW(write_safetensors(file(), {{"\xFF", x}}), InvalidArgument);
  EXPECT_THROW(write_safetensors(file(), {{"x", Tensor()}}), InvalidArgument);
  EXPECT_EQ(entries(), 0U);
}

/// Lets this process write files of at most `bytes`, as a disk without more room would.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST_F(Safetensors, AFullDiskLeavesTheOldFileAlone) {
  write_safetensors(file(), {{"x", Tensor::from_values(std::vector<float>{1}, {1})}});
  const std::string before = test::read_text(file());
  {
    const FullDisk full(4096);
    const std::vector<float> many(100000, 1.F);
    const std::string error = error_of<IoError>([&] {
      write_safetensors(file(), {{"x", Tensor::from_values(many, {100000})}});
    });
    expect_contains(error, "a.safetensors: could not be written");
    expect_contains(error, "free some space");
  }
  EXPECT_EQ(test::read_text(file()), before);
  EXPECT_EQ(entries(), 1U) << "no half-written file is left";
}

}  // namespace
}  // namespace candela

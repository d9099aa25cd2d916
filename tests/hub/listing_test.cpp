#include "hub/listing.h"

#include <gtest/gtest.h>

#include <candela/core/error.h>

#include "hub/fake_hub.h"
#include "io/files.h"

namespace candela::hub {
namespace {

using test::error_of;
using test::expect_contains;
using test::HubFile;

/// FIPS 180-4's examples, and one whose padding takes a block of its own.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(test::sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(test::sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(test::sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(test::sha256(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesMakeNoDifference) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 31);
  for (const std::size_t piece : {1U, 3U, 63U, 64U, 65U, 128U, 200U}) {
    Sha256 hash;
    for (std::size_t at = 0; at < text.size(); at += piece)
      hash.add(std::string_view(text).substr(at, piece));
    EXPECT_EQ(hash.finish(), test::sha256(text)) << piece;
  }
}

std::string error(const nlohmann::json& listing) {
  return error_of<IoError>([&] { parse_listing(listing.dump(), "hub"); });
}

TEST(Listing, ErrorsNameTheField) {
  const nlohmann::json good = test::listing_of({{"a", {"x", true}}, {"b", {"y", false}}});
  EXPECT_EQ(parse_listing(good.dump(), "hub").files.size(), 2U);
  nlohmann::json bad = good;
  bad["sha"] = "../../0123456789abcdef0123456789abcdef01";
  expect_contains(error(bad), "hub: sha must be 40 hexadecimal digits");
  bad = good;
  bad["siblings"][0]["lfs"]["sha256"] = "../x";
  expect_contains(error(bad), "siblings[0].lfs.sha256 must be 64 hexadecimal digits");
  bad = good;
  bad["siblings"][1]["blobId"] = nullptr;
  expect_contains(error(bad), "siblings[1].blobId must be a string");
  for (const nlohmann::json& size :
       {nlohmann::json(-1), nlohmann::json(1.5), nlohmann::json(1LL << 50), nlohmann::json()}) {
    bad = good;
    bad["siblings"][1]["size"] = size;
    expect_contains(error(bad), "siblings[1].size must be a number of bytes up to 2^46");
  }
  bad = good;
  bad["siblings"].push_back(bad["siblings"][0]);
  expect_contains(error(bad), "hub: lists a twice");
  expect_contains(error(test::listing_of({{"a", {"x", true}}, {"a/b", {"y", true}}})),
                  "hub: lists a as a file and as a folder");
}

std::vector<std::string> chosen(const std::map<std::string, HubFile>& files, HubKind kind) {
  const Listing listing = parse_listing(test::listing_of(files).dump(), "hub");
  std::vector<std::string> result;
  for (const RemoteFile& file : choose_files(listing, *HubName::parse("o/n", kind), {}, {}))
    result.push_back(file.path);
  std::sort(result.begin(), result.end());
  return result;
}

TEST(Listing, OfAModelWhatCandelaReads) {
  std::map<std::string, HubFile> files;
  for (const char* path :
       {"config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "tokenizer.json", "tokenizer.model", "merges.txt",
        "chat_template.jinja", "additional_chat_templates/tool_use.jinja", "1_Pooling/config.json",
        "2_Dense/model.safetensors", "consolidated.safetensors", "onnx/config.json",
        "original/consolidated.00.pth", "pytorch_model.bin", ".gitattributes", "LICENSE",
        "onnx/model.safetensors"})
    files[path] = {path, false};
  EXPECT_EQ(chosen(files, HubKind::Model),
            (std::vector<std::string>{"1_Pooling/config.json", "2_Dense/model.safetensors",
                                      "additional_chat_templates/tool_use.jinja", "chat_template.jinja",
                                      "config.json", "merges.txt", "model-00001-of-00002.safetensors",
                                      "model-00002-of-00002.safetensors", "model.safetensors.index.json",
                                      "tokenizer.json", "tokenizer.model"}));
}

TEST(Listing, OfADataSetItsRows) {
  std::map<std::string, HubFile> files;
  for (const char* path : {"README.md", "data/train.jsonl", "main/test.csv.gz", "train.parquet", "a.txt.zst"})
    files[path] = {path, false};
  EXPECT_EQ(chosen(files, HubKind::Dataset),
            (std::vector<std::string>{"a.txt.zst", "data/train.jsonl", "main/test.csv.gz"}));
}

}  // namespace
}  // namespace candela::hub

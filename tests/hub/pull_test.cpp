#include <gtest/gtest.h>
#include <thread>

#include <candela/core/error.h>
#include <candela/hub/pull.h>

#include "hub/fake_hub.h"
#include "hub/http.h"
#include "io/files.h"

namespace candela {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::error_of;
using test::expect_contains;
using test::HubFile;
using test::kCommit;
using test::Received;
using test::Server;
using test::sha256;

std::string large_content() {
  std::string text;
  for (int i = 0; text.size() < 300000; ++i) text += fmt::format("{} ", i * 7919);
  return text;
}

class Pull : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("no_proxy", "127.0.0.1,localhost", 1);
    try {
      const hub::Http http;
    } catch (const Unsupported& error) {
      GTEST_SKIP() << error.what();
    }
  }

  PullOptions options_for(const Server& server) const {
    PullOptions options;
    options.endpoint = server.url();
    options.cache = folder_ / "hub";
    options.pause = std::chrono::milliseconds(1);
    return options;
  }
  static HubName name(const std::string& text = "org/model", HubKind kind = HubKind::Model) {
    return HubName::parse(text, kind).value();
  }
  fs::path repository() const { return folder_ / "hub" / "models--org--model"; }
  fs::path blob(const std::string& content) const { return repository() / "blobs" / sha256(content); }
  bool pulled() const { return fs::exists(repository() / "refs" / "main"); }

  const test::TemporaryFolder folder_;
  const std::string weights_ = large_content();
  std::map<std::string, HubFile> files_ = {{"config.json", {"{}", false}},
                                           {"model.safetensors", {weights_, true}},
                                           {"1_Pooling/config.json", {"{\"a\": 1}", false}},
                                           {"README.md", {"read", false}},
                                           {"pytorch_model.bin", {"pickle", true}}};
  Server::Handler as_the_hub() {
    return [this](const Received& request) { return test::hub_answer(request, files_, "org/model"); };
  }
};

TEST_F(Pull, LaysTheCacheOutAsHuggingfaceHubDoes) {
  const Server server(as_the_hub());
  std::uint64_t told = 0;
  PullOptions options = options_for(server);
  options.progress = [&](const PullProgress& progress) {
    EXPECT_LE(progress.done, progress.total);
    told = progress.done;
  };
  const PullResult result = pull(name(), options);
  EXPECT_EQ(result.commit, kCommit);
  EXPECT_EQ(result.files, 3U) << "README.md and the pickle are left out";
  EXPECT_EQ(result.bytes, weights_.size() + 2 + 8);
  EXPECT_EQ(told, result.bytes);
  EXPECT_EQ(result.snapshot, repository() / "snapshots" / kCommit);
  EXPECT_EQ(test::read_text(repository() / "refs" / "main"), kCommit);
  EXPECT_EQ(fs::read_symlink(result.snapshot / "model.safetensors"), "../../blobs/" + sha256(weights_));
  EXPECT_EQ(test::read_text(result.snapshot / "model.safetensors"), weights_);
  EXPECT_EQ(fs::read_symlink(result.snapshot / "1_Pooling" / "config.json").string().substr(0, 15),
            "../../../blobs/");
  EXPECT_EQ(test::read_text(result.snapshot / "1_Pooling" / "config.json"), "{\"a\": 1}");
  ::setenv("HF_HUB_CACHE", (folder_ / "hub").c_str(), 1);
  EXPECT_EQ(local_path("org/model"), result.snapshot);
  ::unsetenv("HF_HUB_CACHE");
}

TEST_F(Pull, FetchesOnceWhatIsThere) {
  const Server server(as_the_hub());
  pull(name(), options_for(server));
  const std::size_t before = server.received().size();
  EXPECT_EQ(pull(name(), options_for(server)).bytes, 0U);
  EXPECT_EQ(server.received().size(), before + 1) << "the listing alone";
}

TEST_F(Pull, GoesOnWhereAConnectionWasCut) {
  int requests = 0;
  const Server server([&](const Received& request) {
    Answer answer = test::hub_answer(request, files_, "org/model");
    if (request.target.ends_with("model.safetensors") && ++requests <= 8) answer.cut = 30000;
    return answer;
  });
  std::vector<std::string> notes;
  PullOptions options = options_for(server);
  options.note = [&](const std::string& text) { notes.push_back(text); };
  pull(name(), options);
  EXPECT_EQ(test::read_text(blob(weights_)), weights_);
  EXPECT_EQ(notes.size(), 8U);
  std::vector<std::size_t> asked;
  for (const Received& request : server.received())
    if (request.target.ends_with("model.safetensors")) asked.push_back(request.from());
  ASSERT_EQ(asked.size(), 9U);
  for (std::size_t i = 0; i < asked.size(); ++i) EXPECT_EQ(asked[i], 30000 * i);
}

TEST_F(Pull, GivesUpAConnectionThatBringsNothing) {
  const Server server([&](const Received& request) {
    Answer answer = test::hub_answer(request, files_, "org/model");
    if (request.target.ends_with("model.safetensors")) answer.cut = 0;
    return answer;
  });
  PullOptions options = options_for(server);
  options.attempts = 3;
  expect_contains(error_of<IoError>([&] { pull(name(), options); }), "3 requests in a row brought nothing");
  EXPECT_EQ(server.count("model.safetensors"), 3U);
  EXPECT_FALSE(pulled());
}

TEST_F(Pull, ContinuesWhatAKilledRunLeft) {
  const Server server(as_the_hub());
  test::write_text(blob(weights_).string() + ".incomplete", weights_.substr(0, 100000));
  EXPECT_EQ(pull(name(), options_for(server)).bytes, weights_.size() - 100000 + 10);
  EXPECT_EQ(test::read_text(blob(weights_)), weights_);
}

TEST_F(Pull, FetchesAnewWhatLiesAsideWrongly) {
  const Server server(as_the_hub());
  test::write_text(blob(weights_).string() + ".incomplete", std::string(100000, 'x'));
  std::vector<std::string> notes;
  PullOptions options = options_for(server);
  options.note = [&](const std::string& text) { notes.push_back(text); };
  pull(name(), options);
  EXPECT_EQ(test::read_text(blob(weights_)), weights_);
  ASSERT_FALSE(notes.empty());
  expect_contains(notes[0], "what a run before left of it is not right: fetching it anew");
}

TEST_F(Pull, StartsAgainWhereTheServerDoesNotContinue) {
  const Server server([&](const Received& request) {
    Received whole = request;
    whole.headers.erase("range");
    return test::hub_answer(whole, files_, "org/model");
  });
  test::write_text(blob(weights_).string() + ".incomplete", weights_.substr(0, 100000));
  pull(name(), options_for(server));
  EXPECT_EQ(test::read_text(blob(weights_)), weights_);
}

TEST_F(Pull, WrongBytesAreNeverPutInPlace) {
  const Server server([&](const Received& request) {
    Answer answer = test::hub_answer(request, files_, "org/model");
    if (request.target.ends_with("model.safetensors")) answer.body[5] = '!';
    return answer;
  });
  expect_contains(error_of<IoError>([&] { pull(name(), options_for(server)); }),
                  "model.safetensors: must have the SHA-256 " + sha256(weights_) + "; got ");
  EXPECT_FALSE(fs::exists(blob(weights_)));
  EXPECT_FALSE(fs::exists(blob(weights_).string() + ".incomplete"));
  EXPECT_FALSE(fs::exists(repository() / "snapshots" / kCommit / "model.safetensors"));
  EXPECT_FALSE(pulled());
}

TEST_F(Pull, MoreBytesThanListedAreRefused) {
  const Server server([&](const Received& request) {
    Answer answer = test::hub_answer(request, files_, "org/model");
    if (request.target.ends_with("resolve/" + std::string(kCommit) + "/config.json")) answer.body += "more";
    return answer;
  });
  expect_contains(error_of<IoError>([&] { pull(name(), options_for(server)); }),
                  "config.json: must have 2 bytes; the server sends more");
}

TEST_F(Pull, RefusalsSayWhatToDo) {
  int status = 401;
  const Server server([&](const Received&) {
    return Answer{status, "", {"X-Error-Message: \x1b[31mno\x07"}};
  });
  const auto error = [&](const std::string& token) {
    PullOptions options = options_for(server);
    options.token = token;
    return error_of<IoError>([&] { pull(name(), options); });
  };
  const std::string refused = error("");
  expect_contains(refused, "org/model (");
  expect_contains(refused,
                  "the server answers 401: [31mno; check the name; where it is right, it needs a token");
  expect_contains(error("abc"), "the account of the token may not read it: accept its terms");
  status = 403;
  expect_contains(error("abc"), "answers 403");
  status = 404;
  expect_contains(error(""), "check name, kind (--dataset) and revision (--revision)");
  EXPECT_EQ(server.received().size(), 4U) << "none of them is tried again";
}

TEST_F(Pull, ABusyServerIsAskedAgain) {
  int requests = 0;
  const Server server([&](const Received& request) {
    if (++requests % 2 == 1) return Answer{requests == 1 ? 503 : 500, "busy"};
    return test::hub_answer(request, files_, "org/model");
  });
  EXPECT_EQ(pull(name(), options_for(server)).files, 3U);
  const Server broken([](const Received&) { return Answer{502, "broken"}; });
  PullOptions options = options_for(broken);
  options.attempts = 2;
  expect_contains(error_of<IoError>([&] { pull(name("org/other"), options); }),
                  "the server answers 502: broken; 2 tries failed");
}

TEST_F(Pull, TheTokenNeverLeavesItsHost) {
  const Server other(as_the_hub());
  const Server server([&](const Received& request) {
    if (!request.target.ends_with("model.safetensors")) return test::hub_answer(request, files_, "org/model");
    return Answer{302, "", {"Location: " + other.url() + request.target}};
  });
  PullOptions options = options_for(server);
  options.token = "secret";
  pull(name(), options);
  for (const Received& request : server.received())
    EXPECT_EQ(request.headers.at("authorization"), "Bearer secret");
  ASSERT_EQ(other.received().size(), 1U);
  EXPECT_FALSE(other.received()[0].has("authorization"));
  EXPECT_EQ(test::read_text(blob(weights_)), weights_);
}

TEST_F(Pull, RedirectsWithinTheHostKeepTheTokenAndTheRange) {
  const Server server([&](const Received& request) {
    if (request.target.starts_with("/moved")) {
      Received plain = request;
      plain.target.erase(0, 6);
      return test::hub_answer(plain, files_, "org/model");
    }
    return Answer{307, "", {"Location: /moved" + request.target}};
  });
  test::write_text(blob(weights_).string() + ".incomplete", weights_.substr(0, 1000));
  PullOptions options = options_for(server);
  options.token = "secret";
  pull(name(), options);
  for (const Received& request : server.received())
    EXPECT_TRUE(request.has("authorization")) << request.target;
  EXPECT_EQ(server.received().back().from(), 1000U);
}

TEST_F(Pull, RedirectsThatLeadNowhereEnd) {
  std::string location = "/loop";
  const Server server([&](const Received&) { return Answer{302, "", {"Location: " + location}}; });
  const auto error = [&] { return error_of<IoError>([&] { pull(name(), options_for(server)); }); };
  expect_contains(error(), "redirects more than 10 times");
  location = "file:///etc/passwd";
  expect_contains(error(), "must be an http or https URL");
}

TEST_F(Pull, HostileListingsAreRefused) {
  nlohmann::json listing = test::listing_of({{"config.json", {"{}", false}}});
  const Server server([&](const Received&) { return Answer{200, listing.dump()}; });
  const auto error = [&] { return error_of<IoError>([&] { pull(name(), options_for(server)); }); };
  for (const char* path : {"../../x", "/etc/x", "a/../x", "a//b", "./a", "a/", "", "a\\b", "a\nb"}) {
    listing["siblings"][0]["rfilename"] = path;
    expect_contains(error(), "siblings[0].rfilename must be a relative path without . and ..");
  }
  EXPECT_FALSE(fs::exists(folder_ / "hub"));
}

TEST_F(Pull, WhatTheServerCallsAJsonIsBounded) {
  std::string body = "[";
  const Server server([&](const Received&) { return Answer{200, body}; });
  const auto error = [&] { return error_of<IoError>([&] { pull(name(), options_for(server)); }); };
  expect_contains(error(), "must be valid JSON");
  body = std::string(100, '[');
  expect_contains(error(), "must nest at most 64 levels deep");
  body = "{}";
  expect_contains(error(), "sha must be a string");
}

TEST_F(Pull, PatternsChooseFiles) {
  const Server server(as_the_hub());
  PullOptions options = options_for(server);
  options.include = {"*.md", "*.bin", "*.json"};
  options.exclude = {"1_*"};
  EXPECT_EQ(pull(name(), options).files, 3U);
  options.include = {"*.gguf"};
  expect_contains(error_of<IoError>([&] { pull(name(), options); }),
                  "org/model: no file to fetch; it holds 1_Pooling/config.json, README.md, ");
}

TEST_F(Pull, DataSetsAndRevisionsHaveFoldersOfTheirOwn) {
  files_ = {{"data/train.csv", {"text\na\n", false}}, {"README.md", {"read", false}}};
  const Server server(as_the_hub());
  const PullResult result = pull(name("org/model@refs/pr/1", HubKind::Dataset), options_for(server));
  EXPECT_EQ(result.files, 1U);
  const fs::path repository = folder_ / "hub" / "datasets--org--model";
  EXPECT_EQ(test::read_text(repository / "refs" / "refs" / "pr" / "1"), kCommit);
  EXPECT_EQ(server.count("/api/datasets/org/model/revision/refs%2Fpr%2F1?blobs=true"), 1U);
  EXPECT_EQ(server.count("/datasets/org/model/resolve/"), 1U);
}

TEST_F(Pull, SeveralAtOnceFetchEachBlobOnce) {
  const Server server(as_the_hub());
  std::vector<std::thread> runs;
  for (int i = 0; i < 4; ++i)
    runs.emplace_back([&] { EXPECT_EQ(pull(name(), options_for(server)).files, 3U); });
  for (std::thread& run : runs) run.join();
  EXPECT_EQ(server.count("/resolve/"), 3U);
  EXPECT_EQ(test::read_text(blob(weights_)), weights_);
}

TEST_F(Pull, FoldersOfTheCacheThatAreLinksAreRefused) {
  const Server server(as_the_hub());
  fs::create_directories(repository());
  fs::create_directories(folder_ / "elsewhere");
  fs::create_directory_symlink(folder_ / "elsewhere", repository() / "snapshots");
  expect_contains(error_of<IoError>([&] { pull(name(), options_for(server)); }),
                  "snapshots: must be a folder of the cache, and no link");
  EXPECT_TRUE(fs::is_empty(folder_ / "elsewhere"));
}

TEST(PullOptions, TokensComeFromTheEnvironmentOrTheFile) {
  const test::TemporaryFolder home;
  ::setenv("HF_HOME", home.path().c_str(), 1);
  ::unsetenv("HF_TOKEN");
  EXPECT_EQ(PullOptions::from_environment().token, "");
  test::write_text(home / "token", "hf_file\n");
  EXPECT_EQ(PullOptions::from_environment().token, "hf_file");
  ::setenv("HF_TOKEN", " hf_environment ", 1);
  EXPECT_EQ(PullOptions::from_environment().token, "hf_environment");
  ::setenv("HF_TOKEN", "a\r\nX-Injected: b", 1);
  expect_contains(error_of<IoError>([] { PullOptions::from_environment(); }), "HF_TOKEN: must hold a token");
  ::setenv("HF_ENDPOINT", "http://127.0.0.1:9/", 1);
  ::unsetenv("HF_TOKEN");
  EXPECT_EQ(PullOptions::from_environment().endpoint, "http://127.0.0.1:9/");
  EXPECT_EQ(PullOptions::from_environment().cache, home / "hub");
  ::setenv("HF_HUB_OFFLINE", "1", 1);
  expect_contains(error_of<IoError>([] { PullOptions::from_environment(); }), "HF_HUB_OFFLINE: is 1");
  for (const char* name : {"HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE"}) ::unsetenv(name);
}

}  // namespace
}  // namespace candela

#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "hub/server.h"
#include "hub/sha256.h"

/// The part of the Hub that pull() asks, over files in memory.
namespace candela::test {

inline std::string sha256(std::string_view bytes) {
  hub::Sha256 hash;
  hash.add(bytes);
  return hash.finish();
}

struct HubFile {
  std::string content;
  /// kept as a large file, whose SHA-256 is listed
  bool large = true;
};

inline constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

/// What the listing says of `files`.
inline nlohmann::json listing_of(const std::map<std::string, HubFile>& files) {
  nlohmann::json siblings = nlohmann::json::array();
  for (const auto& [path, file] : files) {
    nlohmann::json entry = {{"rfilename", path},
                            {"size", file.content.size()},
                            {"blobId", sha256(path + file.content).substr(0, 40)}};
    if (file.large) entry["lfs"] = {{"sha256", sha256(file.content)}, {"size", file.content.size()}};
    siblings.push_back(entry);
  }
  return {{"sha", kCommit}, {"siblings", siblings}};
}

/// The answer to a request for the listing or a file of `files` under /NAME; 404 for what else is asked.
inline Answer hub_answer(const Received& request, const std::map<std::string, HubFile>& files,
                         const std::string& name) {
  if (request.target.starts_with("/api/")) {
    const bool known = request.target.find("/" + name + "/revision/") != std::string::npos;
    return known ? Answer{200, listing_of(files).dump()} : Answer{404, "Repository not found"};
  }
  const std::string mark = std::string("/resolve/") + kCommit + "/";
  const std::size_t at = request.target.find(mark);
  const auto file =
      at == std::string::npos ? files.end() : files.find(request.target.substr(at + mark.size()));
  if (file == files.end()) return {404, "Entry not found"};
  const std::string& content = file->second.content;
  const std::size_t from = request.from();
  if (from == 0) return {200, content};
  if (from >= content.size()) return {416, ""};
  return {206,
          content.substr(from),
          {fmt::format("Content-Range: bytes {}-{}/{}", from, content.size() - 1, content.size())}};
}

}  // namespace candela::test

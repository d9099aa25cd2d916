#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>

#include <candela/core/error.h>
#include <candela/io/dataset.h>
#include <candela/io/hub_cache.h>

#include "io/byte_source.h"
#include "io/listing.h"
#include "io/missing.h"

namespace candela {
namespace {

namespace fs = std::filesystem;

/// Endings of files that hold rows or text; .parquet too, so that it is told apart from nothing.
constexpr std::array<std::string_view, 9> kEndings = {".jsonl", ".ndjson", ".json", ".csv",    ".tsv",
                                                      ".txt",   ".text",   ".md",   ".parquet"};

enum class Split : std::uint8_t { None, Train, Valid, Test };

struct SplitWord {
  std::string_view word;
  Split split;
};
constexpr std::array<SplitWord, 7> kSplitWords = {{{"train", Split::Train},
                                                   {"training", Split::Train},
                                                   {"valid", Split::Valid},
                                                   {"validation", Split::Valid},
                                                   {"val", Split::Valid},
                                                   {"dev", Split::Valid},
                                                   {"test", Split::Test}}};

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

/// The name without the endings of its form and of its compression; empty: no file of data.
std::string stem_of(const fs::path& file) {
  const std::string name = lower(io::plain_name(file.filename().native()));
  // What describes a data set, and what hides.
  if (name.starts_with("dataset_info") || name.starts_with("readme") || name.starts_with("license") ||
      name.starts_with('.') || name == "state.json" || name == "dataset_dict.json")
    return {};
  for (const std::string_view ending : kEndings)
    if (name.size() > ending.size() && name.ends_with(ending))
      return name.substr(0, name.size() - ending.size());
  return {};
}

/// By the first word of the name, else by the last.
Split split_of(const std::string& stem) {
  const auto is_word = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; };
  const auto first_end = std::find_if_not(stem.begin(), stem.end(), is_word);
  const auto last_begin = std::find_if_not(stem.rbegin(), stem.rend(), is_word).base();
  for (const std::string& word : {std::string(stem.begin(), first_end), std::string(last_begin, stem.end())})
    for (const SplitWord& known : kSplitWords)
      if (word == known.word) return known.split;
  return Split::None;
}

/// The files of data in `folder` and in its folder `data`, by their names.
std::vector<fs::path> data_files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::path& at : {folder, folder / "data"}) {
    std::error_code error;
    for (fs::directory_iterator entry(at, error), end; !error && entry != end; entry.increment(error)) {
      std::error_code unseen;
      if (entry->is_regular_file(unseen) && !stem_of(entry->path()).empty()) files.push_back(entry->path());
    }
    require<IoError>(!error || at != folder, "{}: cannot be listed: {}", at.string(), error.message());
  }
  std::sort(files.begin(), files.end());
  return files;
}

DatasetFiles find_in_folder(const fs::path& folder, double weight) {
  DatasetFiles result;
  std::vector<DataFile> unnamed;
  std::map<std::pair<fs::path, std::string>, fs::path> stems;
  for (const fs::path& file : data_files_in(folder)) {
    const std::string stem = stem_of(file);
    const auto [other, is_new] = stems.emplace(std::pair(file.parent_path(), stem), file);
    require<IoError>(is_new, "{}: holds {} and {}: name the one that is meant (--data FILE)", folder.string(),
                     other->second.filename().string(), file.filename().string());
    const Split split = split_of(stem);
    std::vector<DataFile>& part = split == Split::Train   ? result.train
                                  : split == Split::Valid ? result.valid
                                  : split == Split::Test  ? result.test
                                                          : unnamed;
    part.push_back({file, weight});
  }
  if (result.train.empty()) result.train = std::move(unnamed);
  require<IoError>(!result.train.empty(),
                   "{}: must hold train.jsonl, or a training set named alike (train*.jsonl, .json, .csv, "
                   ".tsv, .txt, also in its folder data and as .gz, .xz or .zst); it is not there",
                   folder.string());
  return result;
}

/// The path and the weight of PATH:WEIGHT.
DataFile parse_source(const std::string& source) {
  std::string why;
  if (io::is_there(source, why) || !why.empty()) return {source, 1};
  const std::size_t colon = source.rfind(':');
  if (colon == std::string::npos || colon == 0) return {source, 1};
  const std::string number = source.substr(colon + 1);
  const bool starts_as_number = number.find_first_of("0123456789") <= 1;
  char* end = nullptr;
  const double weight = std::strtod(number.c_str(), &end);
  if (!starts_as_number || *end != '\0') return {source, 1};
  return {source.substr(0, colon), weight};
}

void append(std::vector<DataFile>& to, const std::vector<DataFile>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

}  // namespace

DatasetFiles DatasetFiles::find(std::span<const std::string> sources) {
  DatasetFiles result;
  for (const std::string& source : sources) {
    DataFile one = parse_source(source);
    one.path = local_path(one.path, HubKind::Dataset);
    std::error_code error;
    if (fs::is_directory(one.path, error)) {
      const DatasetFiles files = find_in_folder(one.path, one.weight);
      append(result.train, files.train);
      append(result.valid, files.valid);
      append(result.test, files.test);
      continue;
    }
    std::string why;
    const bool there = io::is_there(one.path, why);
    require<IoError>(why.empty(), "{}: {}", one.path.string(), why);
    require<IoError>(
        there,
        "{}: no such file or folder; expected a file of rows (.jsonl, .json, .csv, .tsv, .txt) or "
        "a folder with train.jsonl",
        one.path.string());
    result.train.push_back(one);
  }
  return result;
}

DatasetFiles DatasetFiles::find(const fs::path& path) {
  const std::string source = path.string();
  return find(std::span(&source, 1));
}

}  // namespace candela

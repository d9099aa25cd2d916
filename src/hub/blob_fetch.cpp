#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include <candela/core/atomic_file.h>
#include <candela/core/error.h>

#include "hub/blob_store.h"

namespace candela::hub {

namespace fs = std::filesystem;

BlobFetch::BlobFetch(Http& http, const BlobStore& store, const RemoteFile& file, const PullOptions& options,
                     std::function<void(std::int64_t)> got)
    : http_(http), store_(store), file_(file), options_(options), got_(std::move(got)) {}

void BlobFetch::open_aside() {
  const fs::path path = store_.aside(file_);
  output_ = Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  require<IoError>(output_.open(), "{}: cannot be opened: {}", path.string(),
                   std::generic_category().message(errno));
  struct stat status {};
  const bool regular = ::fstat(output_.value(), &status) == 0 && S_ISREG(status.st_mode);
  require<IoError>(regular, "{}: must be a regular file", path.string());
  // What has no hash to check it by is not continued.
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (!file_.checked || size > file_.size) return start_again();
  std::array<char, 65536> buffer;
  while (written_ < size) {
    const ssize_t got = ::read(output_.value(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    require<IoError>(got > 0, "{}: cannot be read: {}", path.string(),
                     std::generic_category().message(errno));
    hash_.add({buffer.data(), static_cast<std::size_t>(got)});
    written_ += static_cast<std::uint64_t>(got);
  }
  continued_ = written_;
}

void BlobFetch::start_again() {
  got_(-static_cast<std::int64_t>(written_ - continued_));
  written_ = continued_ = 0;
  hash_ = {};
  const bool done = ::ftruncate(output_.value(), 0) == 0 && ::lseek(output_.value(), 0, SEEK_SET) == 0;
  require<IoError>(done, "{}: cannot be emptied: {}", store_.aside(file_).string(),
                   std::generic_category().message(errno));
}

void BlobFetch::take(std::string_view piece) {
  require<IoError>(piece.size() <= file_.size - written_, "{}: must have {} bytes; the server sends more",
                   file_.path, file_.size);
  for (std::string_view left = piece; !left.empty();) {
    const ssize_t done = ::write(output_.value(), left.data(), left.size());
    if (done < 0 && errno == EINTR) continue;
    require<IoError>(done > 0, "{}: cannot be written: {}; what came stays for the next run",
                     store_.aside(file_).string(), std::generic_category().message(errno));
    left.remove_prefix(static_cast<std::size_t>(done));
  }
  hash_.add(piece);
  written_ += piece.size();
  got_(static_cast<std::int64_t>(piece.size()));
}

void BlobFetch::request(const std::string& url) {
  const Reply reply = http_.get(
      {url, options_.token, written_},
      [&](const Reply& begun) {
        if (begun.from == written_) return;
        // The server does not continue: all comes again.
        require<Transient>(begun.from == 0, "{}: the server sends bytes from {} on; asked for those from {}",
                           file_.path, begun.from, written_);
        start_again();
      },
      [&](std::string_view piece) { take(piece); });
  if (reply.status == 416 && written_ > 0) {
    start_again();
    return;
  }
  if (reply.status != 200 && reply.status != 206)
    refuse_status(reply.status, url, http_.error_text(), options_);
}

bool BlobFetch::whole_and_right() {
  if (written_ != file_.size) return false;
  if (!file_.checked) return true;
  const bool was_continued = continued_ > 0;
  const std::string digest = hash_.finish();
  if (digest == file_.blob) return true;
  start_again();
  if (was_continued) {
    // What lay aside may have been another's.
    if (options_.note)
      options_.note(
          fmt::format("{}: what a run before left of it is not right: fetching it anew", file_.path));
    return false;
  }
  std::error_code error;
  fs::remove(store_.aside(file_), error);
  throw IoError(
      fmt::format("{}: must have the SHA-256 {}; got {}: nothing of it is kept; try again, and tell "
                  "whoever runs {} if it stays so",
                  file_.path, file_.blob, digest, options_.endpoint));
}

bool BlobFetch::run(const std::string& url) {
  const Descriptor lock = store_.lock(file_);
  if (store_.has(file_)) return false;
  open_aside();
  int idle = 0;
  std::chrono::milliseconds pause = options_.pause;
  while (!whole_and_right()) {
    std::string why =
        fmt::format("{}: the connection ended after {} of {} bytes", file_.path, written_, file_.size);
    std::chrono::milliseconds asked{0};
    const std::uint64_t before = written_;
    try {
      request(url);
      if (written_ == file_.size) continue;
    } catch (const Transient& error) {
      why = error.what();
      asked = std::chrono::seconds(error.wait_s);
    }
    const bool progressed = written_ > before;
    idle = progressed ? 0 : idle + 1;
    if (progressed) pause = options_.pause;
    require<IoError>(idle < options_.attempts,
                     "{}; {} requests in a row brought nothing: try again later, what "
                     "came is kept",
                     why, idle);
    if (options_.note) options_.note(why + ": trying again");
    std::this_thread::sleep_for(std::max(pause, asked));
    pause = std::min(pause * 2, std::chrono::milliseconds(16000));
  }
  const bool flushed = ::fsync(output_.value()) == 0;
  const fs::path blob = store_.blob(file_);
  std::error_code error;
  if (flushed) fs::rename(store_.aside(file_), blob, error);
  require<IoError>(flushed && !error, "{}: cannot be put in place: {}", blob.string(),
                   flushed ? error.message() : std::generic_category().message(errno));
  flush_folder(blob.parent_path());
  return true;
}

void refuse_status(long status, const std::string& what, const std::string& said,
                   const PullOptions& options) {
  const std::string answer =
      fmt::format("{}: the server answers {}{}{}", what, status, said.empty() ? "" : ": ", said);
  if (status == 401 || status == 403) {
    throw IoError(fmt::format(
        "{}; {}", answer,
        options.token.empty()
            ? "check the name; where it is right, it needs a token (HF_TOKEN, or the file token in HF_HOME) "
              "of an "
              "account that may read it"
            : "the account of the token may not read it: accept its terms on its page, or use another token "
              "(HF_TOKEN)"));
  }
  if (status == 404)
    throw IoError(fmt::format("{}; check name, kind (--dataset) and revision (--revision)", answer));
  throw IoError(answer);
}

}  // namespace candela::hub

#include "hub/http.h"

#include <algorithm>
#include <exception>
#include <fmt/format.h>
#include <optional>

#if defined(CANDELA_LIBCURL)
#include <curl/curl.h>
#endif

namespace candela::hub {

std::string url_escaped(std::string_view text, std::string_view keep) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos ||
                       keep.find(c) != std::string_view::npos;
    plain ? result += c : result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

#if defined(CANDELA_LIBCURL)
namespace {

constexpr long kConnectSeconds = 30;
/// A connection that gives less than kSlowest bytes a second for so long is given up.
constexpr long kStallSeconds = 60;
constexpr long kSlowest = 16;
constexpr int kMostRedirects = 10;
constexpr std::size_t kMostErrorText = 4096;

struct FreeCurl {
  void operator()(CURL* value) const { curl_easy_cleanup(value); }
};
struct FreeList {
  void operator()(curl_slist* value) const { curl_slist_free_all(value); }
};
struct FreeUrl {
  void operator()(CURLU* value) const { curl_url_cleanup(value); }
};

/// Where a URL leads.
struct Origin {
  std::string scheme, host, port;
  bool operator==(const Origin&) const = default;
  bool is_local() const { return host == "127.0.0.1" || host == "localhost" || host == "[::1]"; }
};

std::string part_of(CURLU* url, CURLUPart part, unsigned flags) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK || text == nullptr) return {};
  std::string result = text;
  curl_free(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return result;
}

/// IoError for what is no http or https URL.
Origin origin_of(const std::string& text) {
  const std::unique_ptr<CURLU, FreeUrl> url(curl_url());
  const bool parsed = url && curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) == CURLUE_OK;
  Origin origin;
  if (parsed)
    origin = {part_of(url.get(), CURLUPART_SCHEME, 0), part_of(url.get(), CURLUPART_HOST, 0),
              part_of(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT)};
  require<IoError>(parsed && (origin.scheme == "https" || origin.scheme == "http") && !origin.host.empty(),
                   "{:?}: must be an http or https URL", text.substr(0, 200));
  return origin;
}

bool starts_as(std::string_view line, std::string_view name) {
  return line.size() >= name.size() && std::equal(name.begin(), name.end(), line.begin(), [](char a, char b) {
           return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b - 'A' + 'a') : b);
         });
}

/// The number at the start of `text`, blanks before it skipped; nothing if there is none.
std::optional<std::uint64_t> number_in(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  std::uint64_t value = 0;
  std::size_t digits = 0;
  for (; digits < std::min<std::size_t>(text.size(), 18) && text[digits] >= '0' && text[digits] <= '9';
       ++digits)
    value = 10 * value + static_cast<std::uint64_t>(text[digits] - '0');
  return digits > 0 ? std::optional(value) : std::nullopt;
}

/// What curl's callbacks work on.
struct Transfer {
  CURL* curl = nullptr;
  const std::function<void(const Reply&)>* begin = nullptr;
  const std::function<void(std::string_view)>* body = nullptr;
  Reply reply;
  bool begun = false;
  long wait_s = 0;
  std::string message;     // X-Error-Message
  std::string error_body;  // of a status from 400 up
  std::exception_ptr failure;
};

std::size_t take_header(char* data, std::size_t size, std::size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const std::string_view line(data, size * count);
  try {
    if (starts_as(line, "content-range: bytes "))
      transfer.reply.from = number_in(line.substr(21)).value_or(0);
    else if (starts_as(line, "retry-after:"))
      transfer.wait_s =
          static_cast<long>(std::min<std::uint64_t>(number_in(line.substr(12)).value_or(0), 60));
    else if (starts_as(line, "x-error-message:"))
      transfer.message = line.substr(16, 300);
  } catch (...) {
    transfer.failure = std::current_exception();
    return 0;
  }
  return line.size();
}

std::size_t take_body(char* data, std::size_t size, std::size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const std::string_view piece(data, size * count);
  try {
    if (!transfer.begun) {
      curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &transfer.reply.status);
      if (transfer.reply.status != 206) transfer.reply.from = 0;
    }
    const bool wanted = transfer.reply.status == 200 || transfer.reply.status == 206;
    if (wanted && !transfer.begun) (*transfer.begin)(transfer.reply);
    transfer.begun = true;
    if (wanted)
      (*transfer.body)(piece);
    else if (transfer.error_body.size() < kMostErrorText)
      transfer.error_body += piece.substr(0, kMostErrorText - transfer.error_body.size());
  } catch (...) {
    transfer.failure = std::current_exception();
    return 0;
  }
  return piece.size();
}

/// One line without control characters.
std::string plain_text(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 300))
    result += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c;
  while (!result.empty() && result.back() == ' ') result.pop_back();
  while (!result.empty() && result.front() == ' ') result.erase(0, 1);
  return result;
}

}  // namespace

class Http::Impl {
 public:
  Impl() {
    static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
    require<IoError>(started == CURLE_OK, "libcurl could not be started: {}", curl_easy_strerror(started));
    curl_.reset(curl_easy_init());
    require<IoError>(curl_ != nullptr, "libcurl could not be started: out of memory");
  }

  /// One request without following; `location`: where it redirects to, if it does.
  Reply once(const std::string& url, const std::string& token, std::uint64_t from, Transfer& transfer,
             std::string& location);

  std::string error_text;

 private:
  std::unique_ptr<CURL, FreeCurl> curl_;
};

Reply Http::Impl::once(const std::string& url, const std::string& token, std::uint64_t from,
                       Transfer& transfer, std::string& location) {
  CURL* const curl = curl_.get();
  curl_easy_reset(curl);
  transfer.curl = curl;
  std::unique_ptr<curl_slist, FreeList> headers;
  const auto add = [&](const std::string& line) {
    curl_slist* const longer = curl_slist_append(headers.get(), line.c_str());
    require<IoError>(longer != nullptr, "{}: out of memory", url);
    static_cast<void>(headers.release());
    headers.reset(longer);
  };
  if (!token.empty()) add("Authorization: Bearer " + token);
  if (from > 0) add(fmt::format("Range: bytes={}-", from));
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "candela");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, kStallSeconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, kSlowest);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &take_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  const CURLcode code = curl_easy_perform(curl);
  if (transfer.failure) std::rethrow_exception(transfer.failure);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &transfer.reply.status);
  if (code != CURLE_OK) {
    const std::string text = fmt::format("{}: {}", url, curl_easy_strerror(code));
    const bool hopeless = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
                          code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL;
    if (hopeless) throw IoError(text);
    throw Transient(text);
  }
  char* redirect = nullptr;
  curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &redirect);
  location = redirect != nullptr ? redirect : "";
  return transfer.reply;
}

Http::Http() : impl_(std::make_unique<Impl>()) {}
Http::~Http() = default;

Reply Http::get(const Request& request, const std::function<void(const Reply&)>& begin,
                const std::function<void(std::string_view)>& body) {
  const Origin home = origin_of(request.url);
  std::string url = request.url;
  Origin at = home;
  for (int redirects = 0; redirects <= kMostRedirects; ++redirects) {
    const bool trusted = at == home && (at.scheme == "https" || at.is_local());
    Transfer transfer;
    transfer.begin = &begin;
    transfer.body = &body;
    std::string location;
    const Reply reply = impl_->once(url, trusted ? request.token : "", request.from, transfer, location);
    impl_->error_text = plain_text(transfer.message.empty() ? transfer.error_body : transfer.message);
    if (reply.status == 429 || reply.status >= 500) {
      Transient error(fmt::format("{}: the server answers {}{}{}", url, reply.status,
                                  impl_->error_text.empty() ? "" : ": ", impl_->error_text));
      error.wait_s = transfer.wait_s;
      throw error;
    }
    if (reply.status < 300 || reply.status >= 400 || reply.status == 304) {
      // An empty body calls for no callback.
      if ((reply.status == 200 || reply.status == 206) && !transfer.begun) begin(reply);
      return reply;
    }
    require<IoError>(!location.empty(), "{}: the server answers {} and does not say where to", url,
                     reply.status);
    const Origin next = origin_of(location);
    require<IoError>(!(at.scheme == "https" && next.scheme == "http"),
                     "{}: redirects to {}, which is not encrypted", url, next.host);
    at = next;
    url = location;
  }
  throw IoError(fmt::format("{}: redirects more than {} times", request.url, kMostRedirects));
}

const std::string& Http::error_text() const {
  return impl_->error_text;
}

#else

class Http::Impl {
 public:
  std::string error_text;
};

Http::Http() {
  throw Unsupported(
      "this build has no libcurl to fetch with; build with libcurl, or fetch the files by hand");
}
Http::~Http() = default;
Reply Http::get(const Request&, const std::function<void(const Reply&)>&,
                const std::function<void(std::string_view)>&) {
  return {};
}
const std::string& Http::error_text() const {
  return impl_->error_text;
}

#endif

}  // namespace candela::hub

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <candela/core/error.h>

/// GET over libcurl.
namespace candela::hub {

/// The connection failed, or the server did for a while: the same request may work later.
class Transient : public IoError {
 public:
  using IoError::IoError;
  /// Seconds that the server asks to wait; 0: it does not say.
  long wait_s = 0;
};

struct Request {
  std::string url;
  /// Sent as a bearer token to the scheme, host and port of `url` alone, wherever it redirects to, and only
  /// over https or to this machine. Empty: none.
  std::string token;
  /// The first byte that is wanted.
  std::uint64_t from = 0;
};

struct Reply {
  long status = 0;
  /// the first byte that the body holds
  std::uint64_t from = 0;
};

/// One connection that is kept open between requests. Not for several threads at once.
class Http {
 public:
  /// Unsupported in a build without libcurl.
  Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;
  ~Http();

  /// Follows redirects (ten at most, never from https to http). `begin` is told of a reply with a body of
  /// status 200 or 206 before `body` is given its pieces. Statuses from 400 up are returned with what
  /// error_text() tells; Transient for 429, 5xx and a connection that fails, IoError for what no second try
  /// mends. What the callbacks throw ends the request and is thrown on.
  Reply get(const Request& request, const std::function<void(const Reply&)>& begin,
            const std::function<void(std::string_view)>& body);
  /// What the server said about the last status above 400, in at most 300 bytes.
  const std::string& error_text() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// `text` as a part of a URL, all but letters, digits and -._~ escaped; `keep` are left as they are.
std::string url_escaped(std::string_view text, std::string_view keep = "");

}  // namespace candela::hub

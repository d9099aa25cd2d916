#pragma once

#include <arpa/inet.h>
#include <atomic>
#include <csignal>
#include <cstring>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <mutex>
#include <netinet/in.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

/// An HTTP server in the test itself, on 127.0.0.1, which answers whatever it is told to.
namespace candela::test {

struct Received {
  /// path and query
  std::string target;
  /// names in lower case
  std::map<std::string, std::string> headers;

  bool has(const std::string& name) const { return headers.count(name) > 0; }
  /// The first byte that a Range header asks for; 0: all.
  std::size_t from() const {
    const auto range = headers.find("range");
    return range == headers.end() ? 0 : std::stoul(range->second.substr(std::strlen("bytes=")));
  }
};

struct Answer {
  int status = 200;
  std::string body;
  std::vector<std::string> headers{};
  /// the connection ends after so many bytes of the body
  std::size_t cut = std::string::npos;
};

class Server {
 public:
  using Handler = std::function<Answer(const Received&)>;

  explicit Server(Handler handler) : handler_(std::move(handler)) {
    std::signal(SIGPIPE, SIG_IGN);  // of clients that go away
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (listener_ < 0 || ::bind(listener_, any, size) != 0 || ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, any, &size) != 0)
      throw std::runtime_error("no socket for the test's server");
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { accept_all(); });
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    // shutdown() wakes accept() on Linux; elsewhere a last connection does.
    poke();
    accepting_.join();
    for (std::thread& one : serving_) one.join();
    ::close(listener_);
  }

  std::string url(const std::string& host = "127.0.0.1") const {
    return fmt::format("http://{}:{}", host, port_);
  }
  std::vector<Received> received() const {
    const std::lock_guard lock(mutex_);
    return received_;
  }
  /// How many requests were for a target that holds `part`.
  std::size_t count(std::string_view part) const {
    std::size_t sum = 0;
    for (const Received& one : received()) sum += one.target.find(part) != std::string::npos ? 1 : 0;
    return sum;
  }

 private:
  void poke() const {
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_);
    static_cast<void>(::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof(address)));
    ::close(client);
  }

  void accept_all() {
    while (!stopping_) {
      const int client = ::accept(listener_, nullptr, nullptr);
      if (client < 0) return;
      serving_.emplace_back([this, client] {
        serve(client);
        ::close(client);
      });
    }
  }

  void serve(int client) {
    std::string head;
    char byte = 0;
    while (head.size() < 65536 && !head.ends_with("\r\n\r\n")) {
      if (::recv(client, &byte, 1, 0) != 1) return;
      head += byte;
    }
    Received request;
    const std::size_t space = head.find(' ');
    request.target = head.substr(space + 1, head.find(' ', space + 1) - space - 1);
    for (std::size_t at = head.find("\r\n") + 2; at + 2 < head.size();) {
      const std::size_t end = head.find("\r\n", at);
      const std::size_t colon = head.find(": ", at);
      std::string name = head.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      request.headers[name] = head.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    {
      const std::lock_guard lock(mutex_);
      received_.push_back(request);
    }
    const Answer answer = handler_(request);
    std::string text = fmt::format("HTTP/1.1 {} Test\r\nConnection: close\r\nContent-Length: {}\r\n",
                                   answer.status, answer.body.size());
    for (const std::string& line : answer.headers) text += line + "\r\n";
    text += "\r\n" + answer.body.substr(0, answer.cut);
    for (std::string_view left = text; !left.empty();) {
      const ssize_t sent = ::send(client, left.data(), left.size(), 0);
      if (sent <= 0) return;
      left.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  Handler handler_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread accepting_;
  std::vector<std::thread> serving_;
  mutable std::mutex mutex_;
  std::vector<Received> received_;
};

}  // namespace candela::test

#pragma once

#include <fmt/format.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

/// Typed errors. Every message reads: where (op, file or field), what was expected, what came, what to do
/// next.
namespace candela {

/// Base of everything Candela throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument is wrong: shape, dtype, device, range or option value.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// The request is well-formed, but nothing here can do it (an op without a gradient, an unknown model_type).
class Unsupported : public Error {
 public:
  using Error::Error;
};

/// A file or stream could not be read or written, or its content is malformed.
class IoError : public Error {
 public:
  using Error::Error;
};

/// The device failed: out of memory, a lost device, a failed command.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// Throws `E` with the formatted text unless `condition` holds. The arguments are formatted only on failure.
template <class E = InvalidArgument, class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw E(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace candela

#pragma once

#include <candela/core/error.h>

namespace candela::cli {

/// Exit statuses: of a run that failed, of a wrong command line, and what a signal's number is added to.
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kSignal = 128;

/// A wrong command line or config file: exit status 2.
class UsageError : public InvalidArgument {
 public:
  using InvalidArgument::InvalidArgument;
};

/// The run was stopped by a signal, after everything it had was saved: exit status 128 + the signal.
class Interrupted : public Error {
 public:
  Interrupted(int signal, const std::string& what) : Error(what), signal_(signal) {}
  int signal() const { return signal_; }

 private:
  int signal_;
};

}  // namespace candela::cli

#pragma once

#include <memory>
#include <optional>
#include <string>

namespace candela::cli {

/// Lines that a person types, with editing and history where the build has libedit and standard input is a
/// terminal; lines of standard input otherwise, without a prompt.
class LineReader {
 public:
  LineReader();
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// The next line without its end; nothing at the end of the input.
  std::optional<std::string> read(const std::string& prompt);
  /// Whether a person sits at the other end.
  bool interactive() const { return interactive_; }
  /// Whether this build has libedit.
  static bool can_edit();

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
  bool interactive_ = false;
};

}  // namespace candela::cli

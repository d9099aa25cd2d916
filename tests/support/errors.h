#pragma once

#include <string>
#include <utility>

#include <candela/core/error.h>

namespace candela::test {

/// The text of the E that `action` throws, or "no error".
template <class E = Error, class Action>
std::string error_of(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace candela::test

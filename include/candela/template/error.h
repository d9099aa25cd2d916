#pragma once

#include <candela/core/error.h>

namespace candela {

/// A template that cannot be read or rendered: its text is wrong, it refuses its input (`raise_exception`),
/// it does what Python would not, or it takes more than a rendering may.
class TemplateError : public Error {
 public:
  using Error::Error;
};

}  // namespace candela

#pragma once

#include <functional>
#include <string>

#include "cases/op_case.h"

/// Honest timing of the bench cases: outputs are waited for, and inputs and outputs rotate over more memory
/// than the caches hold.
namespace candela::cases {

struct MeasureOptions {
  double min_seconds = 0.5;
  int min_runs = 7;
  /// Calls for each time that is taken: 1 is single (one call, one wait), more are batched (many calls, one
  /// wait), which on a GPU leaves out the way there and back. No more than there are sets of inputs.
  int calls = 1;
  /// the sets of inputs together take at least this
  std::size_t cold_bytes = std::size_t{512} << 20U;
  /// What the op is to be compared with: runs between its runs, so that what disturbs one disturbs both.
  std::function<void()> yardstick = {};
};

struct Measurement {
  /// median of one call
  double seconds = 0;
  /// median of one call of the yardstick, if there is one
  double yardstick_seconds = 0;
  /// for each time that was taken
  int calls = 1;
  /// that ran, or "composed"; "plain ops" for a gradient made of other ops
  std::string implementation;
};

/// Times the forward call, or only the backward pass (through the last output) of a bench case; both together
/// where the case says that the gradient is computed on the way forward.
Measurement measure(const OpCase& op_case, DType dtype, Device device, bool backward,
                    const MeasureOptions& options = {});

}  // namespace candela::cases

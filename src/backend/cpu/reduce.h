#pragma once

#include <cstdint>

#include "backend/args/reduce.h"
#include "backend/layout.h"

/// How a reduction walks its operand.
namespace candela {

/// x as two operands: one for the loops over outputs, one for the loops over what each output folds.
struct Split {
  /// x with the folded dimensions cut to size 1
  TensorArg kept;
  /// x with the kept dimensions cut to size 1
  TensorArg folded;

  explicit Split(const ReduceArgs& args) : kept(args.x), folded(args.x) {
    for (int d = 0; d < args.x.rank; ++d) (args.out.shape[d] == args.x.shape[d] ? folded : kept).shape[d] = 1;
  }
};

/// The contiguous loops: over the folded elements of one output, or over neighbouring outputs.
enum class Contiguous : std::uint8_t { Folded, Kept, None };

inline Contiguous contiguous_loops(const ReduceArgs& args) {
  const Split split(args);
  const Loops<2> kept({split.kept, args.out});
  const Loops<1> folded({split.folded});
  if (folded.strides[0][folded.rank - 1] == 1 && folded.inner() >= 8) return Contiguous::Folded;
  if (kept.strides[0][kept.rank - 1] == 1) return Contiguous::Kept;
  return folded.strides[0][folded.rank - 1] == 1 ? Contiguous::Folded : Contiguous::None;
}

}  // namespace candela

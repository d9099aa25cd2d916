#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <candela/embed/embedder.h>

/// From hidden states to embeddings: pooling, then the steps behind it. All of it has gradients.
namespace candela {

/// x / |x| per row of [..., D], and 0 where the row is.
Tensor unit_rows(const Tensor& x);

/// hidden [T, D] -> f32 [N, D * modes]: of each text, its tokens [first[i], end[i]) pooled in every mode, the
/// results side by side.
Tensor pool_tokens(const Tensor& hidden, std::span<const Pooling> modes, std::span<const std::int32_t> first,
                   std::span<const std::int32_t> end);

/// What `config` does to pooled vectors [N, D]; `dimensions` > 0: the first so many elements, of unit length
/// again where the last step is Normalize.
Tensor finish_embeddings(Tensor pooled, const EmbedderConfig& config, std::int64_t dimensions = 0);

}  // namespace candela

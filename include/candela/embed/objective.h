#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <candela/core/tensor.h>
#include <candela/embed/embedder.h>
#include <candela/train/objective.h>

namespace candela {

/// What embeddings are trained for, as in sentence-transformers.
enum class EmbedLoss : std::uint8_t {
  /// MultipleNegativesRanking: the anchor's positive among all other texts of the step
  Ranking,
  /// CoSENT: pairs in the order of their scores
  Cosent,
  /// the cosine is the score
  Cosine,
};
/// "ranking", "cosent", "cosine"; parse_embed_loss throws InvalidArgument for others.
EmbedLoss parse_embed_loss(std::string_view name);
std::string_view to_string(EmbedLoss loss);

struct EmbedLossOptions {
  EmbedLoss loss = EmbedLoss::Ranking;
  /// factor on cosines, the inverse of a temperature; Ranking and Cosent
  double scale = 20;
};

/// Mean over i of -log softmax_j(scale cos(anchor_i, candidate_j))[i], f32 [1] (Henderson et al., 2017):
/// anchors [B, D], candidates [M, D], M >= B, where candidate i is the positive of anchor i and all others
/// are negatives. f32 (f64 as reference). Gradients for both.
Tensor ranking_loss(const Tensor& anchors, const Tensor& candidates, double scale = 20);

/// log(1 + sum of exp(scale (cos_i - cos_j)) over all i, j with score_i < score_j), [1] (Su, 2022): a and b
/// [B, D], cos_i = cos(a_i, b_i). Only the order of the scores counts. f32 (f64 as reference). Gradients for
/// a and b.
Tensor cosent_loss(const Tensor& a, const Tensor& b, std::span<const float> scores, double scale = 20);

/// Mean of (cos(a_i, b_i) - score_i)^2, [1]: a and b [B, D]. f32 (f64 as reference). Gradients for a and b.
Tensor cosine_loss(const Tensor& a, const Tensor& b, std::span<const float> scores);

/// Trains embeddings on batches with Batch::texts. A step of several batches is one batch to the loss, by
/// gradient caching (GradCache, Gao et al., 2021): all texts are embedded without gradients, the loss gives
/// the gradient of each embedding, and batch by batch the texts are embedded again and walked back from
/// there. Memory is that of one batch; loss and gradients are those of the whole.
class EmbedObjective final : public Objective {
 public:
  /// Pooling and what follows it as `config` says. Weights of Dense are not trained.
  EmbedObjective(EmbedderConfig config, const EmbedLossOptions& options);

  Tensor loss(const Model& model, std::span<const Batch> batches) const override;
  Tensor accumulate(const Model& model, std::span<const Batch> batches, double share, Generator& dropout,
                    Checkpointing checkpointing) const override;

 private:
  Tensor embed(const Model& model, const Batch& batch, Generator* dropout, Checkpointing checkpointing) const;
  Tensor loss_of(const Tensor& embeddings, std::span<const Batch> batches) const;

  EmbedderConfig config_;
  EmbedLossOptions options_;
};

}  // namespace candela

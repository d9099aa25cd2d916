#include <algorithm>
#include <numeric>
#include <utility>

#include <candela/autograd/backward.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/embed/objective.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/loss.h>
#include <candela/ops/matmul.h>
#include <candela/ops/reduce.h>

#include "embed/pooling.h"

namespace candela {
namespace {

void check_pairs(const char* loss, const Tensor& a, const Tensor& b, std::size_t scores) {
  require(a.rank() == 2 && a.size(0) > 0 && a.shape() == b.shape(),
          "{}: a and b must be [B, D], not empty; got {} and {}", loss, a.shape(), b.shape());
  require(scores == static_cast<std::size_t>(a.size(0)), "{}: scores must be [{}]; got [{}]", loss, a.size(0),
          scores);
}

/// cos(a_i, b_i), [B].
Tensor pair_cosines(const Tensor& a, const Tensor& b) {
  return sum(mul(unit_rows(a), unit_rows(b)), {-1});
}

Tensor score_tensor(std::span<const float> scores, const Tensor& like) {
  const Tensor values = Tensor::from_values(std::vector<float>(scores.begin(), scores.end()),
                                            {static_cast<std::int64_t>(scores.size())}, like.device());
  return cast(values, like.dtype());
}

/// Column `column` of embeddings [R * columns, D] -> [R, D].
Tensor column_of(const Tensor& embeddings, std::int64_t columns, std::int64_t column) {
  const std::int64_t width = embeddings.size(1);
  const Tensor rows = reshape(embeddings, {-1, columns * width});
  return contiguous(slice(rows, 1, column * width, (column + 1) * width));
}

}  // namespace

EmbedLoss parse_embed_loss(std::string_view name) {
  for (const EmbedLoss loss : {EmbedLoss::Ranking, EmbedLoss::Cosent, EmbedLoss::Cosine}) {
    if (name == to_string(loss)) return loss;
  }
  throw InvalidArgument(fmt::format("loss must be ranking, cosent or cosine; got {:.100}", name));
}

std::string_view to_string(EmbedLoss loss) {
  switch (loss) {
    case EmbedLoss::Ranking:
      return "ranking";
    case EmbedLoss::Cosent:
      return "cosent";
    case EmbedLoss::Cosine:
      return "cosine";
  }
  return "unknown";
}

Tensor ranking_loss(const Tensor& anchors, const Tensor& candidates, double scale) {
  require(anchors.rank() == 2 && candidates.rank() == 2 && anchors.size(0) > 0 &&
              anchors.size(1) == candidates.size(1) && candidates.size(0) >= anchors.size(0),
          "ranking_loss: anchors must be [B, D] and candidates [M, D] with M >= B >= 1; got {} and {}",
          anchors.shape(), candidates.shape());
  const Tensor cosines = matmul(unit_rows(anchors), transpose(unit_rows(candidates), 0, 1));
  const Tensor own = arange(anchors.size(0), DType::I32, anchors.device());
  return mean(cross_entropy(affine(cosines, scale, 0), own), {}, true);
}

Tensor cosent_loss(const Tensor& a, const Tensor& b, std::span<const float> scores, double scale) {
  check_pairs("cosent_loss", a, b, scores.size());
  // exp(-kFar) is 0: what is out of order only.
  constexpr float kFar = 1e12F;
  const auto count = static_cast<std::int64_t>(scores.size());
  std::vector<float> mask(scores.size() * scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    for (std::size_t j = 0; j < scores.size(); ++j)
      mask[i * scores.size() + j] = scores[i] < scores[j] ? 0 : -kFar;
  }
  const Tensor outside = cast(Tensor::from_values(mask, {count, count}, a.device()), a.dtype());
  const Tensor cosines = affine(pair_cosines(a, b), scale, 0);
  const Tensor differences = sub(reshape(cosines, {count, 1}), reshape(cosines, {1, count}));
  const Tensor terms = reshape(add(differences, outside), {1, count * count});
  // log(1 + sum exp(x)) is the cross entropy of a 0 in front.
  const Tensor logits = concat({zeros({1, 1}, a.dtype(), a.device()), terms}, 1);
  return cross_entropy(logits, zeros({1}, DType::I32, a.device()));
}

Tensor cosine_loss(const Tensor& a, const Tensor& b, std::span<const float> scores) {
  check_pairs("cosine_loss", a, b, scores.size());
  return mean(square(sub(pair_cosines(a, b), score_tensor(scores, a))), {}, true);
}

EmbedObjective::EmbedObjective(EmbedderConfig config, const EmbedLossOptions& options)
    : config_(std::move(config)), options_(options) {
  require(options.scale > 0 && options.scale < 1e6, "embed: scale must be in (0, 1e6); got {}",
          options.scale);
}

/// f32 [texts, D].
Tensor EmbedObjective::embed(const Model& model, const Batch& batch, Generator* dropout,
                             Checkpointing checkpointing) const {
  require(batch.texts != nullptr, "embed: a batch must hold texts");
  ForwardOptions forward;
  forward.dropout = dropout;
  forward.positions = batch.sequence_positions;
  forward.cu_seqlens = batch.cu_seqlens;
  forward.longest = batch.longest;
  forward.checkpointing = checkpointing;
  const Tensor hidden = model.forward_hidden(batch.ids, forward);
  return finish_embeddings(pool_tokens(reshape(hidden, {-1, hidden.size(-1)}), config_.pooling,
                                       batch.texts->first, batch.texts->end),
                           config_);
}

/// The loss times the number of rows, as Objective counts it.
Tensor EmbedObjective::loss_of(const Tensor& embeddings, std::span<const Batch> batches) const {
  const std::int64_t columns = batches.front().texts->columns;
  std::vector<float> scores;
  for (const Batch& batch : batches) {
    require(batch.texts->columns == columns, "embed: the batches of a step must have as many texts per row");
    scores.insert(scores.end(), batch.texts->scores.begin(), batch.texts->scores.end());
  }
  const Tensor anchors = column_of(embeddings, columns, 0);
  Tensor loss;
  if (options_.loss == EmbedLoss::Ranking) {
    std::vector<Tensor> candidates;  // positives, then the negatives of each column
    for (std::int64_t column = 1; column < columns; ++column)
      candidates.push_back(column_of(embeddings, columns, column));
    loss =
        ranking_loss(anchors, candidates.size() == 1 ? candidates[0] : concat(candidates, 0), options_.scale);
  } else {
    const Tensor others = column_of(embeddings, columns, 1);
    loss = options_.loss == EmbedLoss::Cosent ? cosent_loss(anchors, others, scores, options_.scale)
                                              : cosine_loss(anchors, others, scores);
  }
  return reshape(affine(loss, static_cast<double>(anchors.size(0)), 0), {1});
}

Tensor EmbedObjective::loss(const Model& model, std::span<const Batch> batches) const {
  std::vector<Tensor> parts;
  for (const Batch& batch : batches) parts.push_back(embed(model, batch, nullptr, Checkpointing::None));
  return loss_of(parts.size() == 1 ? parts[0] : concat(parts, 0), batches);
}

Tensor EmbedObjective::accumulate(const Model& model, std::span<const Batch> batches, double share,
                                  Generator& dropout, Checkpointing checkpointing) const {
  const auto seed = [&](const Tensor& loss) {
    return full(loss.shape(), share, loss.dtype(), loss.device());
  };
  if (batches.size() == 1) {
    const Tensor loss = loss_of(embed(model, batches[0], &dropout, checkpointing), batches);
    backward(loss, seed(loss));
    return loss.detach();
  }
  std::vector<Tensor> parts;
  std::vector<std::uint64_t> offsets;
  {
    const NoGrad guard;
    for (const Batch& batch : batches) {
      offsets.push_back(dropout.offset());
      parts.push_back(embed(model, batch, &dropout, Checkpointing::None));
    }
  }
  const std::uint64_t behind = dropout.offset();
  Tensor whole = concat(parts, 0);
  whole.set_requires_grad(true);
  const Tensor loss = loss_of(whole, batches);
  backward(loss, seed(loss));
  std::int64_t at = 0;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    // The masks of the first pass again.
    dropout.set_offset(offsets[i]);
    const Tensor part = embed(model, batches[i], &dropout, checkpointing);
    backward(part, contiguous(slice(whole.grad(), 0, at, at + part.size(0))));
    at += part.size(0);
  }
  dropout.set_offset(behind);
  return loss.detach();
}

}  // namespace candela

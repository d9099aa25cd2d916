#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <candela/core/tensor.h>
#include <candela/embed/embedder.h>

namespace candela {

/// Texts and their embeddings, searched exactly: one product per batch of questions. An index of a file is
/// mapped, not read. Const members may be called on several threads at once, add() on none beside them.
class Index {
 public:
  struct Hit {
    /// the text's number, from 0 in the order they were added
    std::int64_t id = 0;
    /// by the model's similarity: larger is more alike
    double score = 0;
  };

  /// An empty index for embeddings of `model` (Embedder::fingerprint) of `dimensions` elements.
  Index(std::string model, std::int64_t dimensions, Similarity similarity);

  /// The index in the safetensors file that save() wrote. IoError where it does not fit.
  static Index open(const std::filesystem::path& path);

  const std::string& model() const { return model_; }
  Similarity similarity() const { return similarity_; }
  std::int64_t dimensions() const { return dimensions_; }
  std::int64_t size() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }
  /// Text `id`. InvalidArgument if there is none.
  std::string_view text(std::int64_t id) const;

  /// Throws InvalidArgument unless `embedder` is the model that made the index.
  void check_model(const Embedder& embedder, const std::string& source) const;

  /// Adds texts and their embeddings, f32 [N, dimensions] on the CPU.
  void add(std::span<const std::string> texts, const Tensor& embeddings);

  /// The k best texts, or all if there are fewer, for each question of f32 [Q, dimensions] on the CPU, the
  /// best first; among equals the lower id.
  std::vector<std::vector<Hit>> search(const Tensor& questions, std::int64_t k) const;

  /// Writes the index aside and renames it.
  void save(const std::filesystem::path& path) const;

 private:
  std::string model_;
  std::int64_t dimensions_ = 0;
  Similarity similarity_ = Similarity::Cosine;
  Tensor embeddings_;                        // f32 [N, D]; of unit length for cosine; undefined: none
  Tensor stored_texts_;                      // u8, mapped; undefined: none
  std::string added_texts_;                  // behind those
  std::vector<std::int64_t> offsets_ = {0};  // [N + 1], in bytes
};

}  // namespace candela

#pragma once

#include <deque>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <candela/models/model.h>

namespace candela {

/// Where a model under construction gets its weights from.
class WeightSource {
 public:
  WeightSource() = default;
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;
  virtual ~WeightSource() = default;

  virtual DType dtype() const = 0;
  virtual Device device() const = 0;
  /// As LoadOptions::bf16_rope_frequencies.
  virtual bool bf16_rope_frequencies() const = 0;
  /// The weight `name`, of this shape, in dtype() on device(). What cannot be had is noted, and reported by
  /// finish().
  virtual Tensor take(const std::string& name, const Shape& shape) = 0;
  /// Throws IoError listing everything that was missing, misshapen or left over.
  virtual void finish() = 0;
};

/// The weights of a model, by name, in the order they were declared. References stay valid: blocks keep them.
class Parameters {
 public:
  explicit Parameters(WeightSource& source) : source_(&source) {}
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  const Tensor& tensor(const std::string& name, const Shape& shape);
  /// `path`.weight [outputs, inputs] and, with `bias`, `path`.bias [outputs].
  const Linear& linear(const std::string& path, std::int64_t outputs, std::int64_t inputs, bool bias = false);
  /// Linear layers that share an input of this width, as linear() makes each, given path and outputs.
  const LinearGroup& group(const std::vector<std::pair<std::string, std::int64_t>>& layers,
                           std::int64_t inputs, bool bias = false);
  /// A linear layer that uses the existing tensor `weight`.
  const Linear& tied_linear(const std::string& path, const Tensor& weight);
  /// To be called once all are declared.
  void finish();

  std::vector<NamedTensor> named() const;
  std::deque<Linear>& linears() { return linears_; }
  const std::deque<Linear>& linears() const { return linears_; }

 private:
  struct Entry {
    std::string name;
    std::variant<const Tensor*, const Weight*> value;
  };

  Linear& add_linear(const std::string& path, std::int64_t outputs, std::int64_t inputs, bool bias);

  WeightSource* source_;  // null once finished
  std::deque<Tensor> tensors_;
  std::deque<Linear> linears_;
  std::deque<LinearGroup> groups_;
  std::vector<Entry> entries_;
};

}  // namespace candela

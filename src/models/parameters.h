#pragma once

#include <deque>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <candela/core/tensor.h>
#include <candela/models/linear.h>

namespace candela {

/// What random weights are drawn as.
enum class Init : std::uint8_t { Normal, Ones, Zeros };

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
  virtual Tensor take(const std::string& name, const Shape& shape, Init init) = 0;
  /// Whether take() would find `name`.
  virtual bool has(const std::string& name) const = 0;
  /// Throws IoError listing everything that was missing, misshapen or left over.
  virtual void finish() = 0;
};

/// The weights of a model, by name, in the order they were declared. References stay valid: blocks keep them.
class Parameters {
 public:
  /// `source` must live until finish().
  explicit Parameters(WeightSource& source)
      : source_(&source),
        dtype_(source.dtype()),
        device_(source.device()),
        bf16_rope_frequencies_(source.bf16_rope_frequencies()) {}
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  /// As LoadOptions::bf16_rope_frequencies.
  bool bf16_rope_frequencies() const { return bf16_rope_frequencies_; }
  /// Whether the weights have `name`, for what a checkpoint may leave out.
  bool has(const std::string& name) const { return source_->has(name); }

  const Tensor& tensor(const std::string& name, const Shape& shape, Init init = Init::Normal);
  /// `path`.weight [outputs, inputs] and, with `bias`, `path`.bias [outputs].
  const Linear& linear(const std::string& path, std::int64_t outputs, std::int64_t inputs, bool bias = false);
  /// Linear layers that share an input of this width, as linear() makes each, given path and outputs.
  const LinearGroup& group(const std::vector<std::pair<std::string, std::int64_t>>& layers,
                           std::int64_t inputs, bool bias = false);
  /// A linear layer that uses the existing tensor `weight`.
  const Linear& tied_linear(const std::string& path, const Tensor& weight);
  /// To be called once all are declared.
  void finish();

  /// Every weight by name, in the order of declaration.
  std::vector<std::pair<std::string, Tensor>> named() const;
  std::deque<Linear>& linears() { return linears_; }
  const std::deque<Linear>& linears() const { return linears_; }

 private:
  struct Entry {
    std::string name;
    std::variant<const Tensor*, const Weight*> value;
  };

  Linear& add_linear(const std::string& path, std::int64_t outputs, std::int64_t inputs, bool bias);

  WeightSource* source_;  // null once finished
  DType dtype_;
  Device device_;
  bool bf16_rope_frequencies_;
  std::deque<Tensor> tensors_;
  std::deque<Linear> linears_;
  std::deque<LinearGroup> groups_;
  std::vector<Entry> entries_;
};

}  // namespace candela

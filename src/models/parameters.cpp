#include "models/parameters.h"

namespace candela {

const Tensor& Parameters::tensor(const std::string& name, const Shape& shape) {
  tensors_.push_back(source_->take(name, shape));
  entries_.push_back({name, &tensors_.back()});
  return tensors_.back();
}

const Linear& Parameters::linear(const std::string& path, std::int64_t outputs, std::int64_t inputs,
                                 bool bias) {
  Linear& layer = linears_.emplace_back();
  layer.path = path;
  layer.weight = source_->take(path + ".weight", {outputs, inputs});
  entries_.push_back({path + ".weight", &layer.weight});
  if (bias) {
    layer.bias = source_->take(path + ".bias", {outputs});
    entries_.push_back({path + ".bias", &layer.bias});
  }
  return layer;
}

const Linear& Parameters::tied_linear(const std::string& path, const Tensor& weight) {
  Linear& layer = linears_.emplace_back();
  layer.path = path;
  layer.weight = weight;
  return layer;
}

void Parameters::finish() {
  source_->finish();
  source_ = nullptr;
}

std::vector<NamedTensor> Parameters::named() const {
  std::vector<NamedTensor> result;
  result.reserve(entries_.size());
  for (const Entry& entry : entries_) result.push_back({entry.name, *entry.tensor});
  return result;
}

}  // namespace candela

#include "models/parameters.h"

namespace candela {

const Tensor& Parameters::tensor(const std::string& name, const Shape& shape, Init init) {
  tensors_.push_back(source_->take(name, shape, init));
  entries_.push_back({name, &tensors_.back()});
  return tensors_.back();
}

Linear& Parameters::add_linear(const std::string& path, std::int64_t outputs, std::int64_t inputs,
                               bool bias) {
  Linear& layer = linears_.emplace_back();
  layer.path = path;
  layer.weight = source_->take(path + ".weight", {outputs, inputs}, Init::Normal);
  entries_.push_back({path + ".weight", &layer.weight});
  if (bias) {
    layer.bias = source_->take(path + ".bias", {outputs}, Init::Zeros);
    entries_.push_back({path + ".bias", &layer.bias});
  }
  return layer;
}

const Linear& Parameters::linear(const std::string& path, std::int64_t outputs, std::int64_t inputs,
                                 bool bias) {
  return add_linear(path, outputs, inputs, bias);
}

const LinearGroup& Parameters::group(const std::vector<std::pair<std::string, std::int64_t>>& layers,
                                     std::int64_t inputs, bool bias) {
  std::vector<Linear*> members;
  members.reserve(layers.size());
  for (const auto& [path, outputs] : layers) members.push_back(&add_linear(path, outputs, inputs, bias));
  // What stands in for a weight that did not fit cannot be stacked with others; finish() will throw.
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (members[i]->outputs() == layers[i].second && members[i]->inputs() == inputs) continue;
    const Weight none = Tensor::empty({0, 0}, source_->dtype(), source_->device());
    for (Linear* member : members) member->weight = none;
    break;
  }
  return groups_.emplace_back(std::move(members));
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

std::vector<std::pair<std::string, Tensor>> Parameters::named() const {
  std::vector<std::pair<std::string, Tensor>> result;
  result.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    const auto* const weight = std::get_if<const Weight*>(&entry.value);
    result.emplace_back(entry.name, weight ? (*weight)->dense() : *std::get<const Tensor*>(entry.value));
  }
  return result;
}

}  // namespace candela

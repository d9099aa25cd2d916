#include <algorithm>
#include <iterator>

#include <candela/models/model.h>

#include "models/architecture.h"

namespace candela {

// One line each, in alphabetical order; each is defined in the file of its name.
extern const Architecture kBert;
extern const Architecture kGemma3Text;
extern const Architecture kLlama;
extern const Architecture kMistral;
extern const Architecture kModernbert;
extern const Architecture kMpnet;
extern const Architecture kPhi3;
extern const Architecture kQwen2;
extern const Architecture kQwen3;
extern const Architecture kRoberta;
extern const Architecture kSmollm3;
extern const Architecture kXlmRoberta;

namespace {

const Architecture* const kArchitectures[] = {
    &kBert, &kGemma3Text, &kLlama, &kMistral, &kModernbert, &kMpnet,
    &kPhi3, &kQwen2,      &kQwen3, &kRoberta, &kSmollm3,    &kXlmRoberta,
};

}  // namespace

std::string architecture_names() {
  std::string names;
  for (const Architecture* architecture : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += architecture->model_type;
  }
  return names;
}

const Architecture* find_architecture(std::string_view model_type) {
  const auto* const found =
      std::find_if(std::begin(kArchitectures), std::end(kArchitectures),
                   [&](const Architecture* architecture) { return architecture->model_type == model_type; });
  return found == std::end(kArchitectures) ? nullptr : *found;
}

std::vector<std::string> model_types() {
  std::vector<std::string> types;
  types.reserve(std::size(kArchitectures));
  for (const Architecture* architecture : kArchitectures) types.emplace_back(architecture->model_type);
  return types;
}

}  // namespace candela

#pragma once
// What the translator has found out about the kernels of a file.

#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "rewriter.h"
#include "translator.h"

namespace translate {

struct Constant {
  std::string name, type, index;  // index is empty where the value is derived from other constants
  std::string initializer;
  Range tokens;  // of the initializer
};

struct Function {
  std::string name;  // "" for an explicit instantiation
  Range tokens;
};

struct KernelDefinition {
  std::string name;
  Range tokens;
  bool is_template = false, has_max_threads = false;
  std::vector<std::string> conditions;
  std::array<std::set<std::string>, 2> taken;  // indices of buffers and of threadgroup arguments
  std::string grid_attribute, grid_type;       // the first attribute that tells of the grid, and its type
  std::string parameters;                      // the initializers of kParameters
  std::vector<std::string> shared_names;
  std::string host_name;
};

struct Instantiation {
  std::string kernel, host_name, arguments;
  Range tokens;
};

/// A file, once it has been gone through.
struct Translation {
  std::vector<Constant> constants;
  std::vector<Function> functions;
  std::map<std::string, KernelDefinition, std::less<>> kernels;
  std::vector<std::string> kernel_order;
  std::vector<Instantiation> instantiations;
};

/// What registers the kernels of a file: its parameters, its entries, and the function constants that each
/// can reach.
std::string entries(const Tokens& tokens, const SourceInfo& info, const Translation& translation,
                    const Rewriter& rewriter);

/// Reads the parameters in `range` into `kernel`: what the run time binds to each. Throws SourceError for
/// those that the language or the stand-in does not have, and for an index that is too large or taken twice.
void read_parameters(const Tokens& tokens, Range range, KernelDefinition& kernel);

}  // namespace translate

#include <candela/core/error.h>
#include <candela/models/backbone.h>

namespace candela {

Checkpointing parse_checkpointing(std::string_view name) {
  for (const Checkpointing level :
       {Checkpointing::Keep, Checkpointing::None, Checkpointing::Mlp, Checkpointing::Layer}) {
    if (name == to_string(level)) return level;
  }
  throw InvalidArgument(fmt::format("checkpoint: expected keep, none, mlp or layer; got \"{}\"", name));
}

std::string_view to_string(Checkpointing level) {
  switch (level) {
    case Checkpointing::Keep:
      return "keep";
    case Checkpointing::None:
      return "none";
    case Checkpointing::Mlp:
      return "mlp";
    case Checkpointing::Layer:
      return "layer";
  }
  throw InvalidArgument("checkpoint: unknown level");
}

}  // namespace candela

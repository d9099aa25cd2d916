#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include <candela/core/device.h>

#include "backend/metal/engine.h"

/// Copies between host memory and storages, in the order of the engine's work. The memory is shared: an idle
/// engine needs no command for them, a busy one copies by way of a buffer of their own.
namespace candela::metal {

/// Writes `from` at byte `offset` of `to`. Waits only where there is no room for the buffer.
void copy_in(Engine& engine, const Storage& to, std::size_t offset, std::span<const std::byte> from);
/// Reads from byte `offset` of `from`: `to` is filled once the event is done.
std::unique_ptr<candela::Event> copy_out(const std::shared_ptr<Engine>& engine, const Storage& from,
                                         std::size_t offset, std::span<std::byte> to);

}  // namespace candela::metal

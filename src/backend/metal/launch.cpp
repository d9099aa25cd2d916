#include "backend/metal/launch.h"

#include <bit>

#include <candela/core/error.h>

namespace candela::metal {
namespace {

constexpr std::size_t kRowThreads = 256;

}  // namespace

Launch& Launch::tensor(const TensorArg& arg) {
  encoder_.set_buffer(arg.storage->native(), static_cast<std::size_t>(arg.offset) * size_of(arg.dtype),
                      index_++);
  return *this;
}

Launch& Launch::optional(const TensorArg& arg, const TensorArg& other) {
  if (arg.present()) return tensor(arg);
  encoder_.set_buffer(other.storage->native(), 0, index_++);  // at the start, which suits every element type
  return *this;
}

Launch& Launch::fault() {
  encoder_.set_buffer(encoding_.fault_buffer().get(), encoding_.fault_offset(), index_++);
  return *this;
}

void Launch::over(std::size_t x, std::size_t y) {
  const std::size_t width = std::min<std::size_t>(pipeline_.max_threads(), kRowThreads);
  const std::size_t across = std::min(x, width);
  encoder_.dispatch_threads({x, y, 1}, {across, std::min(y, std::max<std::size_t>(1, width / across)), 1});
}

void Launch::rows(std::size_t groups, std::size_t length) {
  const std::size_t most = std::bit_floor(std::min(pipeline_.max_threads(), kRowThreads));
  const std::size_t threads = std::clamp(std::bit_ceil(length), pipeline_.simd_width(), most);
  encoder_.dispatch_groups({groups, 1, 1}, {threads, 1, 1});
}

void Launch::groups(objc::Size groups, std::size_t threads) {
  require<DeviceError>(threads <= pipeline_.max_threads(),
                       "metal: shader {} needs {} threads per group, the device offers {}", function_,
                       threads, pipeline_.max_threads());
  encoder_.dispatch_groups(groups, {threads, 1, 1});
}

}  // namespace candela::metal

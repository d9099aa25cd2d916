#include <utility>

#include <candela/core/device.h>

namespace candela {
namespace {

class WholeStream final : public Event {
 public:
  explicit WholeStream(DeviceInterface& device) : device_(device) {}
  void wait() override { device_.synchronize(); }

 private:
  DeviceInterface& device_;
};

class RepeatedCall final : public Recording {
 public:
  explicit RepeatedCall(std::function<void()> work) : work_(std::move(work)) {}
  void replay() override { work_(); }

 private:
  std::function<void()> work_;
};

}  // namespace

std::unique_ptr<Event> DeviceInterface::record_event() {
  return std::make_unique<WholeStream>(*this);
}

std::unique_ptr<Recording> DeviceInterface::record(std::function<void()> work, const Recording*) {
  return std::make_unique<RepeatedCall>(std::move(work));
}

}  // namespace candela

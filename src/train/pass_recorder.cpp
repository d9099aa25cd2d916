#include "train/pass_recorder.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <span>
#include <utility>
#include <vector>

#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/models/model.h>
#include <candela/ops/copy.h>
#include <candela/ops/loss.h>
#include <candela/ops/tuning.h>

namespace candela {
namespace {

/// Recordings that are kept. One costs the device some MiB beside the memory that all share.
constexpr std::size_t kMaxRecordings = 64;

/// The bucket of a size: at most an eighth more, in multiples of 16.
std::int64_t rounded_up(std::int64_t size) {
  const auto below =
      static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1))));
  const std::int64_t step = std::max<std::int64_t>(below / 8, 16);
  return (size + step - 1) / step * step;
}

/// Rows of ids, each lengthened by `pad_id`; positions follow their tokens.
void lengthen(HostBatch& batch, std::int64_t length, std::int32_t pad_id) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(batch.rows * length), pad_id);
  for (std::int64_t row = 0; row < batch.rows; ++row)
    std::copy_n(batch.ids.begin() + row * batch.length, batch.length, ids.begin() + row * length);
  for (std::int32_t& position : batch.positions) {
    const std::int64_t at = position;
    position = static_cast<std::int32_t>(at / batch.length * length + at % batch.length);
  }
  batch.ids = std::move(ids);
  batch.length = length;
}

/// Further targets that are ignored, at positions that are not trained: no two gradients meet at one.
void add_ignored(HostBatch& batch, std::int64_t count) {
  std::vector<bool> trained(static_cast<std::size_t>(batch.computed()));
  for (const std::int32_t position : batch.positions) trained[static_cast<std::size_t>(position)] = true;
  for (std::size_t at = 0; std::ssize(batch.positions) < count; ++at) {
    if (trained[at]) continue;
    batch.positions.push_back(static_cast<std::int32_t>(at));
    batch.targets.push_back(static_cast<std::int32_t>(kIgnoreIndex));
  }
}

void upload(const std::vector<std::int32_t>& values, const Tensor& to) {
  device_interface(to.device())
      .copy_in(*to.storage(), static_cast<std::size_t>(to.layout().offset) * sizeof(std::int32_t),
               std::as_bytes(std::span(values)));
}

}  // namespace

HostBatch bucketed(HostBatch batch, std::int32_t pad_id) {
  if (!batch.cu_seqlens.empty() || !batch.sequence_positions.empty() || batch.texts) return batch;
  lengthen(batch, rounded_up(batch.length), pad_id);
  add_ignored(batch, std::min(rounded_up(std::ssize(batch.targets)), batch.computed()));
  return batch;
}

/// The recording of a bucket and the tensors that it reads its batch from.
struct PassRecorder::Entry {
  Shape3 shape;
  Batch slots;
  std::unique_ptr<Recording> recording;
  std::uint64_t draws = 0;
};

PassRecorder::PassRecorder(Model& model, std::function<void(const Batch&)> pass, Generator& random,
                           std::int32_t pad_id)
    : model_(model),
      pass_(std::move(pass)),
      random_(random),
      pad_id_(pad_id),
      records_(device_interface(model.device()).records()) {}

PassRecorder::~PassRecorder() = default;

bool PassRecorder::can_record(const HostBatch& batch) const {
  // The angles of dynamic rope depend on the length of the batch, padding included.
  return records_ && !batch.texts && batch.cu_seqlens.empty() && batch.sequence_positions.empty() &&
         model_.config().rope.type != "dynamic";
}

void PassRecorder::prepare(std::int64_t length) {
  if (length <= prepared_length_) return;
  const NoGrad guard;
  model_.forward_hidden(zeros({1, length}, DType::I32, model_.device()), {});
  prepared_length_ = length;
}

PassRecorder::Entry* PassRecorder::entry_for(const HostBatch& batch) {
  const Shape3 shape = {batch.rows, batch.length, std::ssize(batch.targets)};
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.shape == shape; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return &entries_.front();
  }
  // What is recorded cannot be measured: with tuning on, each bucket first runs once as it is.
  if (tuning_enabled() && measured_.insert(shape).second) return nullptr;
  prepare(batch.length);
  Entry entry{shape, batch.upload(model_.device()), nullptr, 0};
  const Recording* beside = entries_.empty() ? nullptr : entries_.front().recording.get();
  const auto work = [this, slots = entry.slots] {
    random_.set_offset(0);
    pass_(slots);
  };
  try {
    entry.recording = device_interface(model_.device()).record(work, beside);
  } catch (const DeviceError& error) {
    records_ = false;
    fmt::print(stderr, "candela: note: training steps are not recorded ({})\n", error.what());
    return nullptr;
  }
  entry.draws = random_.offset();
  ++recorded_;
  if (entries_.size() == kMaxRecordings) entries_.pop_back();
  entries_.push_front(std::move(entry));
  return &entries_.front();
}

std::uint64_t PassRecorder::run(const Batch& batch) {
  random_.set_offset(0);
  pass_(batch);
  return random_.offset();
}

std::uint64_t PassRecorder::run(const HostBatch& given) {
  if (!can_record(given)) return run(given.upload(model_.device()));
  const HostBatch batch = bucketed(given, pad_id_);
  Entry* entry = entry_for(batch);
  if (entry == nullptr) return run(batch.upload(model_.device()));
  upload(batch.ids, entry->slots.ids);
  upload(batch.targets, entry->slots.targets);
  upload(batch.positions, entry->slots.positions);
  entry->recording->replay();
  return entry->draws;
}

}  // namespace candela

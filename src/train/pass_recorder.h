#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <set>

#include <candela/core/device.h>
#include <candela/core/random.h>
#include <candela/train/batch.h>

namespace candela {

class Model;

/// `batch` with its length rounded up to a multiple of 16 (above 256 of an eighth of the power of two below)
/// and its trained positions likewise, so that few shapes stand for all: padding is not trained and not seen
/// by a real token, further positions have kIgnoreIndex as target. Packed batches stay as they are.
HostBatch bucketed(HostBatch batch, std::int32_t pad_id);

/// Runs the same pass over batch after batch. A device that records runs each bucket of unpacked batches from
/// a recording: a replay costs the host an upload and one call. All recordings share their memory.
class PassRecorder {
 public:
  /// `pass` enqueues the work of one batch; it draws from `random` from offset 0 on, and whatever else
  /// changes from call to call it reads from the device.
  PassRecorder(Model& model, std::function<void(const Batch&)> pass, Generator& random, std::int32_t pad_id);
  ~PassRecorder();
  PassRecorder(const PassRecorder&) = delete;
  PassRecorder& operator=(const PassRecorder&) = delete;

  /// Enqueues the pass and gives the count of random numbers that it draws.
  std::uint64_t run(const HostBatch& batch);
  /// The same, but never from a recording.
  std::uint64_t run(const Batch& batch);
  /// Recordings that were made.
  std::int64_t recorded() const { return recorded_; }

 private:
  /// rows, length and trained positions
  using Shape3 = std::array<std::int64_t, 3>;
  struct Entry;

  bool can_record(const HostBatch& batch) const;
  /// Makes what the model makes once per length, so that no recording does.
  void prepare(std::int64_t length);
  Entry* entry_for(const HostBatch& batch);

  Model& model_;
  std::function<void(const Batch&)> pass_;
  Generator& random_;
  std::int32_t pad_id_;
  bool records_;
  std::int64_t prepared_length_ = 0;
  std::int64_t recorded_ = 0;
  std::set<Shape3> measured_;
  std::list<Entry> entries_;  // the latest used first
};

}  // namespace candela

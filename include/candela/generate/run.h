#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <candela/generate/generate.h>

namespace candela {

/// One continuation that a GenerationRun is asked for.
struct GenerationRequest {
  /// with whatever stands in front of it
  std::vector<TokenId> prompt;
  /// batch_size is not looked at
  GenerateOptions options{};
  /// which stream of random numbers of options.seed it draws from
  std::uint64_t stream = 0;
  /// receives the text as it comes; needs a tokenizer
  StreamCallback callback{};
  /// Where this request runs alone: what the prompt begins with, and, once it has finished, what it saw.
  /// Outlives it; null: none.
  PrefixCache* prefix = nullptr;
};

/// Generation in steps, of many requests at once, which may come at any time: TextGenerator and servers stand
/// on it. A request's result does not depend on what runs beside it, but for how a backend rounds products of
/// other heights. Not safe from several threads at once; the model must outlive it.
class GenerationRun {
 public:
  explicit GenerationRun(Model& model, std::optional<Tokenizer> tokenizer = std::nullopt);
  GenerationRun(const GenerationRun&) = delete;
  GenerationRun& operator=(const GenerationRun&) = delete;
  ~GenerationRun();

  /// Takes a request into the next step; returns its number, from 0. Throws as TextGenerator::generate.
  std::size_t add(GenerationRequest request);
  /// One forward pass: over the prompts of new requests where there are any, else over the last token of each
  /// running one; each of them gets a token. False, without a pass, where nothing is running. Throws Error
  /// naming a weight that is not finite.
  bool step();
  /// Ends a request as FinishReason::Cancelled; one that is not running stays as it is.
  void cancel(std::size_t request);
  /// Requests that still run or wait for their first step.
  std::size_t running() const;
  /// The requests that have finished since the last call, with their results.
  std::vector<std::pair<std::size_t, Generation>> finished();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace candela

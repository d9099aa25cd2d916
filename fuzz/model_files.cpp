#include <algorithm>
#include <string_view>
#include <vector>

#include <candela/core/grad.h>
#include <candela/core/parallel.h>
#include <candela/io/tokenizer.h>
#include <candela/models/model.h>

#include "fuzz/model_folder.h"
#include "fuzz/mutate.h"

/// A whole model folder: config.json, tokenizer.json and model.safetensors, with a zero byte between them. A
/// model that loads must compute on what its tokenizer makes of a text.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace candela;
  constexpr std::size_t kMostIds = 8;
  set_thread_count(1);
  static const fuzz::ModelFolder folder("tokenizer.json");
  folder.put_parts({"config.json", "tokenizer.json", "model.safetensors"}, fuzz::text_of(data, size));
  fuzz::expect_result_or_error([&] {
    const auto model = load_model(folder.path());
    std::vector<std::int32_t> ids = {0};
    fuzz::expect_result_or_error([&] {
      const Tokenizer tokenizer = Tokenizer::load(folder.path());
      for (const TokenId id : tokenizer.encode("a cab is abc")) ids.push_back(static_cast<std::int32_t>(id));
    });
    std::erase_if(ids, [&](std::int32_t id) { return id >= model->config().vocab_size; });
    ids.resize(std::min(
        {ids.size(), kMostIds,
         static_cast<std::size_t>(std::max<std::int64_t>(model->config().max_position_embeddings, 0))}));
    if (ids.empty() || !model->has_head()) return;
    const NoGrad guard;
    const auto count = static_cast<std::int64_t>(ids.size());
    const Tensor logits = model->logits(model->forward_hidden(Tensor::from_values(ids, {1, count})));
    fuzz::check(logits.numel() == count * model->config().vocab_size, "there is a logit for each token");
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  using candela::fuzz::Part;
  return candela::fuzz::mutate_parts(data, size, max_size, seed, {Part::Json, Part::Json, Part::Safetensors});
}

#include <filesystem>
#include <memory>
#include <optional>

#include <candela/embed/objective.h>
#include <candela/embed/text_source.h>
#include <candela/io/hub_cache.h>
#include <candela/lora/lora.h>
#include <candela/train/memory_plan.h>

#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/embed_options.h"
#include "cli/finetune_options.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/run_files.h"
#include "cli/run_loop.h"
#include "cli/usage.h"

namespace candela::cli {
namespace {

namespace fs = std::filesystem;

struct EmbedderRunOptions {
  FinetuneOptions run;
  EmbedderFlags embedder;
  std::string data;
  std::string valid;
  TextTableOptions table;
  std::string loss = "auto";
  double scale = 20;
  std::string query_prompt_name;
  bool repeat_texts = false;
  std::int64_t batch_tokens = 16384;
};

/// PATH, or the file of this name in the folder PATH; nothing where the folder has none.
std::optional<fs::path> data_file(const fs::path& path, const std::string& name) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return path;
  for (const char* end : {".jsonl", ".tsv"}) {
    if (fs::exists(path / (name + end), error)) return path / (name + end);
  }
  return std::nullopt;
}

/// Texts of a run, and where its batches come from.
class TextRun {
 public:
  explicit TextRun(EmbedderRunOptions& options)
      : options_(options),
        plan_(load_base_embedder(options.embedder, Device::plan(parse_device(options.run.model.device)))) {
    const fs::path data = local_path(options.data, HubKind::Dataset);
    const std::optional<fs::path> train = data_file(data, "train");
    require<UsageError>(train.has_value(), "--data: {}: must hold train.jsonl or train.tsv", data.string());
    train_ = read(*train);
    std::optional<fs::path> valid;
    std::error_code error;
    if (!options.valid.empty()) valid = local_path(options.valid, HubKind::Dataset);
    if (!valid && fs::is_directory(data, error)) valid = data_file(data, "valid");
    if (valid) {
      valid_ = read(*valid);
      require<IoError>(valid_->columns == train_.columns && valid_->scored() == train_.scored(),
                       "{}: must have {} texts per row {} scores as {} has; got {} texts {} scores",
                       valid_->file, train_.columns, train_.scored() ? "with" : "without", train_.file,
                       valid_->columns, valid_->scored() ? "with" : "without");
    }
    check_validation();
    choose_loss();
    train_tokens_ = tokens_of(train_);
    if (valid_) valid_tokens_ = tokens_of(*valid_);
    TrainOptions& run = options.run.train;
    const EmbedLossOptions loss{loss_, options.scale};
    run.objective = std::make_shared<EmbedObjective>(plan_.config(), loss);
    sources_.train = std::make_unique<TextSource>(train_tokens_, positions(), run, source_options(false));
    if (valid_)
      sources_.valid = std::make_unique<TextSource>(*valid_tokens_, positions(), run, source_options(true));
  }

  TextSource& train() { return *sources_.train; }
  BatchSource* valid() { return sources_.valid.get(); }
  const TextTable& train_table() const { return train_; }
  const std::optional<TextTable>& valid_table() const { return valid_; }
  const TokenTable& train_tokens() const { return train_tokens_; }
  EmbedLoss loss() const { return loss_; }
  /// The embedder on Device::plan().
  Embedder& plan() { return plan_; }

 private:
  TextTable read(const fs::path& file) const { return TextTable::read(file, options_.table); }

  void check_validation() const {
    const auto needs = [&](const char* option, bool asked) {
      require<UsageError>(valid_.has_value() || !asked,
                          "{}: there is nothing to validate on; give --valid, or a valid.jsonl or valid.tsv "
                          "beside train's",
                          option);
    };
    needs("--validate-every", options_.run.train.validate_every > 0);
    needs("--validate-first", options_.run.train.validate_first);
    needs("--patience", options_.run.train.patience > 0);
    needs("--keep-best", options_.run.keep_best);
  }

  void choose_loss() {
    const bool scored = train_.scored();
    loss_ = options_.loss != "auto" ? parse_embed_loss(options_.loss)
                                    : (scored ? EmbedLoss::Cosent : EmbedLoss::Ranking);
    require<UsageError>(
        loss_ != EmbedLoss::Ranking || !scored,
        "--loss ranking: takes each pair as alike, and {} has scores; choose cosent or cosine, "
        "or keep the pairs of high scores only, without their scores",
        train_.file);
    if (loss_ == EmbedLoss::Ranking) return;
    require<UsageError>(scored && train_.columns == 2,
                        "--loss {}: needs 2 texts and a score per row; {} has {} texts {} scores",
                        to_string(loss_), train_.file, train_.columns, scored ? "with" : "without");
    if (loss_ == EmbedLoss::Cosent) return;
    for (std::size_t i = 0; i < train_.scores.size(); ++i) {
      require<UsageError>(
          train_.scores[i] >= -1 && train_.scores[i] <= 1,
          "--loss cosine: scores must be in [-1, 1]; {} has {} in row {}; give the largest as "
          "--max-score",
          train_.file, train_.scores[i], i + 1);
    }
  }

  TokenTable tokens_of(const TextTable& table) const {
    EmbedOptions passage = embed_options(options_.embedder);
    EmbedOptions query = passage;
    if (!options_.query_prompt_name.empty()) query.prompt_name = options_.query_prompt_name;
    TokenTable tokens = tokenize_table(plan_, table, query, passage);
    if (tokens.texts.cut > 0)
      note(fmt::format("{}: {} of {} texts are longer than {} tokens and cut", table.file, tokens.texts.cut,
                       table.texts.size(), plan_.config().max_tokens));
    return tokens;
  }

  std::function<std::vector<std::int32_t>(std::span<const std::int64_t>)> positions() const {
    return [this](std::span<const std::int64_t> ids) { return plan_.model().backbone().positions_of(ids); };
  }

  TextSourceOptions source_options(bool validation) const {
    TextSourceOptions source;
    source.batch_tokens = options_.batch_tokens;
    source.distinct = loss_ == EmbedLoss::Ranking && !options_.repeat_texts;
    source.validation = validation;
    return source;
  }

  struct Sources {
    std::unique_ptr<TextSource> train, valid;
  };

  EmbedderRunOptions& options_;
  Embedder plan_;
  EmbedLoss loss_ = EmbedLoss::Ranking;
  TextTable train_;
  std::optional<TextTable> valid_;
  TokenTable train_tokens_;
  std::optional<TokenTable> valid_tokens_;
  Sources sources_;
};

Lora attach(const FinetuneOptions& options, Model& model, const std::optional<ResumePoint>& from) {
  if (from) return Lora::load(model, from->folder, true);
  return options.model.adapter.empty() ? Lora::attach(model, options.lora, options.train.seed)
                                       : Lora::load(model, options.model.adapter, true);
}

void print_plan(const EmbedderRunOptions& options, TextRun& texts, const Lora& lora, const MemoryPlan& plan) {
  const Model& model = texts.plan().model();
  const std::int64_t total = model.parameter_count();
  const std::int64_t trainable = lora.parameter_count();
  const TrainLength length = texts.train().length();
  print_out("model       {} ({}, {} parameters, {} on {})\n", options.run.model.model,
            model.config().model_type, format_count(total), to_string(model.dtype()),
            options.run.model.device);
  print_out("adapter     LoRA, rank {}, alpha {:g}{}: {} trainable parameters ({:.2f} %){}\n",
            lora.config().rank, lora.config().alpha, lora.config().use_rslora ? ", rsLoRA" : "",
            format_count(trainable), 100.0 * static_cast<double>(trainable) / static_cast<double>(total),
            options.run.model.adapter.empty() ? "" : ", continued from " + options.run.model.adapter);
  const TextTable& table = texts.train_table();
  print_out("data        {}: {} rows of {} texts{}\n", table.file, format_count(table.rows()), table.columns,
            table.scored() ? " with scores" : "");
  if (texts.valid_table())
    print_out("validation  {}: {} rows\n", texts.valid_table()->file,
              format_count(texts.valid_table()->rows()));
  const std::size_t passes = texts.train().planned_passes();
  print_out("loss        {}{}\n", to_string(texts.loss()),
            texts.loss() == EmbedLoss::Cosine ? "" : fmt::format(", scale {:g}", options.scale));
  print_out("steps       {} of {} rows{}: {} tokens\n", length.steps, options.run.train.batch_size,
            passes > 1 ? fmt::format(", with gradient caching in up to {} passes", passes) : "",
            format_count(length.tokens));
  const auto size = [](std::size_t bytes) { return format_bytes(static_cast<double>(bytes)); };
  print_out("memory      {} at the peak: weights {}, adapters {}, activations {}, program {}\n",
            size(plan.total()), size(plan.weights), size(plan.adapters), size(plan.activations),
            size(plan.runtime));
  flush_output();
}

void finetune_embedder(EmbedderRunOptions& options, const std::string& run_config) {
  FinetuneOptions& run = options.run;
  finish_finetune_options(run);
  options.embedder.model = run.model;
  const std::optional<ResumePoint> from = begin_run(run, run_config);
  TextRun texts(options);
  const Device target = parse_device(run.model.device);
  const auto load_backbone = [&](Device device) {
    LoadOptions load = load_options(run.model, true, device);
    load.backbone_only = true;
    return load_model(texts.plan().model_folder(), load);
  };
  {
    std::unique_ptr<Model> model;
    std::optional<Lora> lora;
    const auto prepare = [&]() -> Model& {
      model = load_backbone(Device::plan(target));
      lora = attach(run, *model, from);
      for (const std::string& text : lora->notes()) note(text);
      return *model;
    };
    const MemoryPlan plan = plan_memory(prepare, run.train, texts.train(), texts.valid(), target);
    print_plan(options, texts, *lora, plan);
    check_fits(plan);
  }
  if (run.plan_only) return;
  const OutputFolder folder(run.output);
  const RunLock lock(run.output);
  const auto model = load_backbone(target);
  const Lora lora = attach(run, *model, from);
  Trainer trainer(*model, run.train);
  run_training({run, trainer, lora, texts.train(), texts.valid(), from, run_config, {}});
}

}  // namespace

void add_finetune_embedder(CLI::App& app, Action& action) {
  auto options = std::make_shared<EmbedderRunOptions>();
  CLI::App* command =
      app.add_subcommand("finetune-embedder", "Train a LoRA adapter for an embedder on your data");
  FinetuneOptions& run = options->run;
  run.train.adamw.lr = 2e-4;
  run.train.batch_size = 64;
  declare_model_options(*command, run.model);
  add_path(*command, "--data", options->data,
           "JSONL file with anchor and positive (and negative, negative_1, ...), or sentence1, sentence2 and "
           "score; a .tsv file as the STS benchmark has it; or a folder with train.* (and valid.*)")
      ->required();
  add_path(*command, "--output", run.output, "Folder for the adapter (peft format) and the metrics")
      ->required();
  add_path(*command, "--valid", options->valid, "File to validate on, instead of valid.*");
  declare_table(*command, options->table);
  add_choice(
      *command, "--loss", options->loss, {"auto", "ranking", "cosent", "cosine"},
      "ranking: the positive among all other texts of the step (MultipleNegativesRanking); cosent: pairs "
      "in the order of their scores; cosine: the cosine is the score; auto: cosent with scores, else "
      "ranking");
  add_number(*command, "--scale", options->scale, {0, 1e6, true, true},
             "Factor on cosines, the inverse of a temperature; ranking and cosent");
  command->add_flag("--repeat-texts", options->repeat_texts,
                    "ranking: let a text occur twice in a step, where it is its own double's negative");
  declare_embedding(*command, options->embedder);
  command->remove_option(find_option(*command, "--dimensions"));
  command->remove_option(find_option(*command, "--batch-tokens"));
  add_number(*command, "--batch-tokens", options->batch_tokens, {1, kMostCount},
             "Tokens of one forward pass; a step of more takes several passes, with the gradients of one "
             "(gradient caching)");
  command
      ->add_option("--query-prompt-name", options->query_prompt_name,
                   "Prompt of config_sentence_transformers.json for the first text of each row")
      ->check(not_empty());
  declare_lora_options(*command, run);
  declare_train_options(*command, run);
  command->remove_option(find_option(*command, "--accumulation"));
  find_option(*command, "--batch-size")->description("Rows of one step");
  declare_run_options(*command, run);
  command->footer(
      "Example:\n  candela finetune-embedder --model DIR --data pairs.jsonl --output out/embedder\n"
      "  candela embed --model DIR --adapter out/embedder texts.txt\n"
      "The run's options are saved in OUTPUT/finetune.yaml; --config takes that file back.\n"
      "--resume RUN goes on from the last checkpoint of a run to the same bits. candela merge writes a "
      "folder "
      "of sentence-transformers with the adapter merged in.");
  command->callback([&action, options, command] {
    action = [options, config = config_of(*command)] { finetune_embedder(*options, config); };
  });
}

}  // namespace candela::cli

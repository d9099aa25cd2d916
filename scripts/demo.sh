#!/usr/bin/env bash
# demo.sh CANDELA [OUTPUT]: fine-tunes the bundled model on the bundled text-to-SQL data, then shows held-out questions before and after.
# Fails if fewer than 75 % of the answers are exact. OUTPUT, by default out/demo, is written anew.
set -euo pipefail
cd "$(dirname "$0")/.."
candela=$1
output=${2:-out/demo}
rm -rf "$output"

echo
echo "== Fine-tuning models/stories-7m on data/text-to-sql with LoRA, on the CPU"
"$candela" finetune --config data/text-to-sql/finetune.yaml --output "$output"

echo
echo "== The same held-out questions, before and after"
evaluate=("$candela" eval --model models/stories-7m --adapter "$output" --data data/text-to-sql/test.jsonl)
"${evaluate[@]}" --compare --show 5

exact=$("${evaluate[@]}" --json | sed -n 's/.*"exact_match": *\([0-9.e-]*\).*/\1/p')
if [ -z "$exact" ]; then
  echo "demo: expected at least 75 % exact match; got no exact_match from eval --json" >&2
  exit 1
fi
if awk "BEGIN { exit !($exact < 0.75) }"; then
  awk "BEGIN { printf \"demo: expected at least 75 %% exact match; got %.1f %%\\n\", 100 * $exact }" >&2
  exit 1
fi

echo
echo "The loss curve is $output/loss.svg. Ask it something yourself:"
echo "  $candela generate --model models/stories-7m --adapter $output --prompt $'Table dogs: name, age, owner\\nHow many dogs are there?\\n'"

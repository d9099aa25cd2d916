#!/usr/bin/env bash
# demo.sh CANDELA: fine-tunes the bundled model on the bundled text-to-SQL data, then shows held-out questions before and after.
set -euo pipefail
cd "$(dirname "$0")/.."
candela=$1
output=out/demo
rm -rf "$output"

echo
echo "== Fine-tuning models/stories-7m on data/text-to-sql with LoRA, on the CPU"
"$candela" finetune --config data/text-to-sql/finetune.yaml --output "$output"

echo
echo "== The same held-out questions, before and after"
"$candela" eval --model models/stories-7m --adapter "$output" --data data/text-to-sql/test.jsonl --compare --show 5

echo
echo "The loss curve is $output/loss.svg. Ask it something yourself:"
echo "  $candela generate --model models/stories-7m --adapter $output --prompt $'Table dogs: name, age, owner\\nHow many dogs are there?\\n'"

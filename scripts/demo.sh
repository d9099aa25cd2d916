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
shown=$("$candela" eval --model models/stories-7m --adapter "$output" --data data/text-to-sql/test.jsonl --raw --compare --show 5)
printf '%s\n' "$shown"

# "base + adapter ... exact match 89.3 % (268 of 300)"
counts=$(printf '%s\n' "$shown" | sed -n 's/^base + adapter .* exact match .* (\([0-9]*\) of \([0-9]*\))$/\1 \2/p')
if [ -z "$counts" ]; then
  echo "demo: expected at least 75 % exact match; got no line \"base + adapter ... exact match ...\" from eval" >&2
  exit 1
fi
read -r exact total <<<"$counts"
if [ $((100 * exact)) -lt $((75 * total)) ]; then
  echo "demo: expected at least 75 % exact match; got $exact of $total" >&2
  exit 1
fi

echo
echo "The loss curve is $output/loss.svg. Ask it something yourself:"
echo "  $candela generate --model models/stories-7m --adapter $output --prompt $'Table dogs: name, age, owner\\nHow many dogs are there?\\n'"

"""Writes tiny random encoders and what transformers computes for them in float32 on a CPU.

python make_encoders.py OUT: folders roberta, roberta_masked_lm, modernbert, modernbert_masked_lm, each with config.json,
model.safetensors and expected.safetensors (input_ids and attention_mask [3, 21], padded on the right; last_hidden_state;
mean_pooled_normalized and cls_pooled_normalized under the mask). Made with transformers 5.17 and torch 2.15.
"""
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import (ModernBertConfig, ModernBertForMaskedLM, ModernBertModel, RobertaConfig, RobertaForMaskedLM,
                          RobertaModel)

out = Path(sys.argv[1])
PAD = 1


def inputs(vocab):
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(4, vocab, (3, 21), generator=generator)
    ids[:, 0] = 0
    mask = torch.ones_like(ids)
    for row, length in enumerate((21, 13, 6)):
        ids[row, length:] = PAD
        mask[row, length:] = 0
    return ids, mask


def write(name, model):
    torch.manual_seed(3)
    for parameter in model.parameters():  # norms and biases off their 1 and 0, so that each of them is seen
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model = model.eval().float()
    folder = out / name
    model.save_pretrained(folder)
    ids, mask = inputs(model.config.vocab_size)
    with torch.no_grad():
        backbone = getattr(model, model.base_model_prefix, model) if hasattr(model, "lm_head") or hasattr(model, "decoder") else model
        hidden = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    wide = mask.unsqueeze(-1).float()
    mean = torch.nn.functional.normalize((hidden * wide).sum(1) / wide.sum(1), dim=-1)
    cls = torch.nn.functional.normalize(hidden[:, 0], dim=-1)
    save_file({"input_ids": ids, "attention_mask": mask, "last_hidden_state": hidden.contiguous(),
               "mean_pooled_normalized": mean.contiguous(), "cls_pooled_normalized": cls.contiguous()},
              folder / "expected.safetensors")


roberta = dict(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
               max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=PAD, bos_token_id=0, eos_token_id=2)
write("roberta", RobertaModel(RobertaConfig(**roberta)))
write("roberta_masked_lm", RobertaForMaskedLM(RobertaConfig(**{**roberta, "type_vocab_size": 2, "hidden_act": "gelu"})))
modern = dict(vocab_size=99, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48,
              max_position_embeddings=64, pad_token_id=PAD, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2,
              local_attention=6, global_attn_every_n_layers=3)
write("modernbert", ModernBertModel(ModernBertConfig(**modern)))
write("modernbert_masked_lm", ModernBertForMaskedLM(ModernBertConfig(**{**modern, "num_hidden_layers": 2})))

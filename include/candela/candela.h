#pragma once

/// Everything at once. Fine-tuning and generating need little more than load_model, Tokenizer, Lora and
/// TextGenerator: see examples/.

#include <candela/autograd/backward.h>
#include <candela/core/device.h>
#include <candela/core/error.h>
#include <candela/core/grad.h>
#include <candela/core/parallel.h>
#include <candela/core/random.h>
#include <candela/core/tensor.h>
#include <candela/generate/generate.h>
#include <candela/io/config.h>
#include <candela/io/dataset.h>
#include <candela/io/safetensors.h>
#include <candela/io/tokenizer.h>
#include <candela/lora/lora.h>
#include <candela/models/model.h>
#include <candela/ops/attention.h>
#include <candela/ops/copy.h>
#include <candela/ops/elementwise.h>
#include <candela/ops/gather.h>
#include <candela/ops/lora.h>
#include <candela/ops/loss.h>
#include <candela/ops/matmul.h>
#include <candela/ops/norm.h>
#include <candela/ops/optimizer.h>
#include <candela/ops/random.h>
#include <candela/ops/reduce.h>
#include <candela/ops/rope.h>
#include <candela/ops/softmax.h>
#include <candela/ops/topk.h>
#include <candela/train/trainer.h>

#!/usr/bin/env python3
"""Makes a dense Llama folder of any size with random weights, and tokens for it: for measurements of speed, not of quality.

    tools/random_model.py DIR --hidden 2048 --ffn 5632 --blocks 8 [--heads 16] [--kv-heads 16] [--vocab 4096]
                          [--sequences 128] [--length 2048] [--seed 0]

Writes DIR/config.json, one DIR/model-0000N-of-0000M.safetensors a block and one for the ends, the index, and
DIR/tokens.npy (uint16, 2-D). Weights are normal with heavier tails (a twentieth of the rows three times as large) in bfloat16.
Needs NumPy alone.
"""
import argparse
import json
import pathlib

import numpy as np


def to_bfloat16(values):
    """float32 to the bits of bfloat16, rounded to nearest even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def matrix(rng, rows, columns):
    values = rng.standard_normal((rows, columns), dtype=np.float32)
    values *= 1 / np.sqrt(columns) * (1 + 2 * (rng.random((rows, 1), dtype=np.float32) < 0.05))
    return to_bfloat16(values)


def ones(count):
    return to_bfloat16(np.ones(count, dtype=np.float32))


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(values.tobytes())


def block_tensors(rng, options, index):
    hidden, kv = options.hidden, options.hidden // options.heads * options.kv_heads
    shapes = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
              "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (options.ffn, hidden),
              "mlp.up_proj": (options.ffn, hidden), "mlp.down_proj": (hidden, options.ffn)}
    tensors = {f"model.layers.{index}.{name}.weight": matrix(rng, *shape) for name, shape in shapes.items()}
    for norm in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"model.layers.{index}.{norm}.weight"] = ones(hidden)
    return tensors


def write_model(options):
    shards, weight_map = options.blocks + 1, {}
    for index in range(shards):
        rng = np.random.default_rng([options.seed, index])
        if index < options.blocks:
            tensors = block_tensors(rng, options, index)
        else:
            tensors = {"model.embed_tokens.weight": matrix(rng, options.vocab, options.hidden),
                       "model.norm.weight": ones(options.hidden),
                       "lm_head.weight": matrix(rng, options.vocab, options.hidden)}
        name = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        write_safetensors(options.dir / name, tensors)
        weight_map.update({tensor: name for tensor in tensors})
    (options.dir / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_config(options):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": options.hidden,
              "intermediate_size": options.ffn, "num_hidden_layers": options.blocks,
              "num_attention_heads": options.heads, "num_key_value_heads": options.kv_heads, "vocab_size": options.vocab,
              "max_position_embeddings": max(options.length, 4096), "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    (options.dir / "config.json").write_text(json.dumps(config, indent=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    for name, default in (("hidden", 2048), ("ffn", 5632), ("blocks", 8), ("heads", 16), ("kv-heads", 16), ("vocab", 4096),
                          ("sequences", 128), ("length", 2048), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    write_config(options)
    write_model(options)
    rng = np.random.default_rng(options.seed)
    np.save(options.dir / "tokens.npy", rng.integers(0, options.vocab, (options.sequences, options.length), dtype=np.uint16))


if __name__ == "__main__":
    main()

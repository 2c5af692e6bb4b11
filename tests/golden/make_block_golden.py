#!/usr/bin/env python3
"""Makes the golden values of tests/test_block.c and tests/test_perplexity.c with PyTorch.

Needs torch, transformers, numpy. Run it from anywhere: it writes into tests/data. With the folder of
larger models as argument it also makes the values of docs-llama-1m's first block and prints the
perplexity of the model on the first sequences of valid.npy.

tiny-llama3/           a random Llama: grouped-query attention, attention bias, llama3 rotary scaling
tiny-llama3.f32        its first block on 2 sequences of 12 tokens, float32, one array after another:
                       x, y, dy (all [24, 16]), then the gradients of sum(y * dy): by x, norms
                       (attention, mlp), weights (q k v o gate up down), biases (q k v o)
tiny-llama3-model.f64  mean negative log-likelihood of these 2 sequences, one float64
docs-llama-1m.f32      the output of its first block on the first 2 sequences of 24 tokens
"""
import pathlib
import sys

import numpy
import torch
import transformers

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
NORMS = ["input_layernorm", "post_attention_layernorm"]
TOKENS = torch.tensor([[(7 * i * i + 3 * i + s) % 29 for i in range(12)] for s in range(2)])


def write(name, arrays):
    flat = [a.detach().to(torch.float32).numpy().ravel() for a in arrays]
    numpy.concatenate(flat).astype("<f4").tofile(DATA / name)


def tiny_model():
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=29, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=256,
        rms_norm_eps=1e-5, rope_theta=100.0, attention_bias=True, tie_word_embeddings=False,
        rope_scaling={"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0,
                      "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
        attn_implementation="eager")
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.3))
            if "norm" in name:
                parameter.add_(1)
    return model


def run_block(model, x):
    layer = model.model.layers[0]
    length = x.shape[1]
    positions = torch.arange(length)[None]
    rope = model.model.rotary_emb(x, positions)
    mask = torch.full((length, length), float("-inf"), dtype=x.dtype).triu(1)[None, None]
    y = layer(x, attention_mask=mask, position_embeddings=rope, position_ids=positions)
    return y[0] if isinstance(y, tuple) else y


def make_tiny():
    model = tiny_model()
    model.save_pretrained(DATA / "tiny-llama3", safe_serialization=True)
    (DATA / "tiny-llama3" / "generation_config.json").unlink(missing_ok=True)
    model.double()
    x = model.model.embed_tokens(TOKENS).detach().requires_grad_()
    y = run_block(model, x)
    dy = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
    (y * dy).sum().backward()
    layer = model.model.layers[0]
    norms = [layer.get_submodule(name).weight.grad for name in NORMS]
    weights = [layer.get_submodule(name).weight.grad for name in LINEARS]
    biases = [layer.get_submodule(name).bias.grad for name in LINEARS[:4]]
    write("tiny-llama3.f32", [x, y, dy, x.grad] + norms + weights + biases)
    loss = model(TOKENS, labels=TOKENS).loss.detach().double()
    loss.numpy().astype("<f8").tofile(DATA / "tiny-llama3-model.f64")
    print("tiny-llama3: mean negative log-likelihood", loss.item())


def make_docs(shared):
    model = transformers.LlamaForCausalLM.from_pretrained(
        shared / "models" / "docs-llama-1m", dtype=torch.float32, attn_implementation="eager")
    valid = torch.tensor(numpy.load(shared / "tokens" / "valid.npy").astype("int64"))
    x = model.model.embed_tokens(valid[:48].reshape(2, 24))
    write("docs-llama-1m.f32", [run_block(model, x)])
    sequences = valid[: 16 * 512].reshape(16, 512)
    with torch.no_grad():
        loss = model(sequences, labels=sequences).loss
    print("docs-llama-1m: perplexity of the first 16 sequences of valid.npy", loss.exp().item())


if __name__ == "__main__":
    make_tiny()
    if len(sys.argv) > 1:
        make_docs(pathlib.Path(sys.argv[1]))

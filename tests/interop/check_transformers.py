"""Opens exported folders with transformers and compares them with `aqlm-mpi evaluate`.

    check_transformers.py PROGRAM RUN TOKENS.npy LENGTH [RUN TOKENS.npy LENGTH ...]

RUN/model.aqlm.h5 was exported into RUN-export. Once with the aqlm package's own layers, on a few sequences (its CPU kernel is slow, and right with
one thread only), then with its layers replaced by their decoded weights, on all tokens.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np
import torch
import transformers
from aqlm import QuantizedLinear
from aqlm.utils import _dequantize_weight, unpack_int_data

FEW = 2  # sequences for the package's own layers


def load(folder):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], f"{folder}: {kind}: {report[kind]}"
    return model.eval()


def decoded(layer, bits):
    weight = _dequantize_weight(unpack_int_data(layer.codes.data, bits), layer.codebooks.data, layer.scales.data)
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None)
    linear.weight.data = weight
    if layer.bias is not None:
        linear.bias.data = layer.bias.data
    return linear


def decoded_layers(model):
    return {
        name: decoded(layer, layer.nbits_per_codebook)
        for name, layer in model.named_modules()
        if isinstance(layer, QuantizedLinear)
    }


def replace_layers(model, layers):
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)


@torch.no_grad()
def run(model, sequences):
    return torch.cat([model(row[None]).logits for row in sequences])


def losses(logits, sequences):
    """Mean negative log-likelihood of each sequence."""
    rows = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), sequences[:, 1:], reduction="none"
    )
    return rows.double().mean(1)


def evaluate(program, model, tokens, length):
    """Perplexity, and the logits of the first sequence."""
    with tempfile.TemporaryDirectory() as scratch:
        path, logits = (pathlib.Path(scratch) / name for name in ("tokens.npy", "logits.npy"))
        np.save(path, tokens.astype(np.int32))
        command = [program, "evaluate", model, "--tokens", path, "--seqlen", str(length), "--backend", "cpu", "--json"]
        result = subprocess.run([*command, "--logits", logits], check=True, stdout=subprocess.PIPE).stdout
        return json.loads(result)["perplexity"], np.load(logits)


def check_logits(program, run, tokens, theirs):
    """Both compute in float32. The exported folder's numbers are the same for both: what differs is the order of
    sums, some 2^-24 a step. Of the file that it was exported from, what is not coded (embedding, head, some norms) is
    rounded to float16 by the export: at most 2^-11 of each number, so of a logit, a sum of products of such numbers,
    a few times 2^-11 of the largest."""
    for model, bound in ((f"{run}-export", 1e-5), (f"{run}/model.aqlm.h5", 4 * 2**-11)):
        _, ours = evaluate(program, model, tokens, len(tokens))
        assert ours.dtype == np.float32 and ours.shape == theirs.shape, f"{model}: logits {ours.dtype} {ours.shape}"
        difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
        assert difference < bound, f"{model}: logits differ from transformers' by {difference:.1e} of the largest"
        print(f"{model}: logits differ from transformers' by at most {difference:.1e} of the largest")


def check(program, run_folder, tokens_path, length):
    folder = f"{run_folder}-export"
    tokens = np.load(tokens_path).astype(np.int64)
    tokens = tokens[: len(tokens) // length * length]
    sequences = torch.from_numpy(tokens.reshape(-1, length))
    model = load(folder)
    layers = decoded_layers(model)  # before the package's first pass, which reorders its codes
    assert len(layers) == 7 * model.config.num_hidden_layers, f"{folder}: {len(layers)} AQLM layers"
    packaged = run(model, sequences[:FEW])
    replace_layers(model, layers)
    logits = run(model, sequences)

    difference = (packaged - logits[:FEW]).abs().max() / logits.abs().max()
    assert difference < 1e-3, f"{folder}: the package's logits differ by {difference:.1e}"

    check_logits(program, run_folder, tokens[:length], logits[0].numpy())
    theirs = losses(logits, sequences)
    for index in range(FEW):
        ours = np.log(evaluate(program, folder, tokens[index * length : (index + 1) * length], length)[0])
        assert abs(ours - theirs[index]) < 2e-3, f"{folder}: loss {ours:.5f}, transformers {theirs[index]:.5f}"
    ours, theirs = evaluate(program, folder, tokens, length)[0], theirs.mean().exp().item()
    assert abs(ours / theirs - 1) < 0.002, f"{folder}: perplexity {ours:.4f}, transformers {theirs:.4f}"
    print(f"transformers {transformers.__version__}: {folder}: perplexity {theirs:.4f}, aqlm-mpi {ours:.4f}")


def main(program, *models):
    transformers.utils.logging.disable_progress_bar()
    for first in range(0, len(models), 3):
        folder, tokens, length = models[first : first + 3]
        check(program, folder, tokens, int(length))


main(*sys.argv[1:])

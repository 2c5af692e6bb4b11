"""Reads a gathered file with h5py and compares it with what it was made from and exported to.

    check_h5py.py MODEL.aqlm.h5 EXPORTED_FOLDER DENSE_FOLDER

Every linear is decoded twice: from the HDF5 file by the formula in NumPy, and from the exported
folder by the aqlm package. Both must be equal, not just close.
"""

import pathlib
import sys

import h5py
import numpy as np
import torch
from aqlm.utils import _dequantize_weight, unpack_int_data
from safetensors.torch import load_file


def load_folder(folder):
    tensors = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors


def decode(group):
    """weight[r o + i, j g + l] = scales[r] * sum_m codebooks[m, codes[r, j, m], i, l]"""
    codes, codebooks = group["codes"][:], group["codebooks"][:].astype(np.float32)
    scales = group["scales"][:].astype(np.float32)
    rows, groups, count = codes.shape
    total = sum(codebooks[m][codes[:, :, m]] for m in range(count))
    total = total * scales[:, None, None, None]
    out_group, in_group = codebooks.shape[2:]
    return total.transpose(0, 2, 1, 3).reshape(rows * out_group, groups * in_group)


def decode_exported(tensors, name, bits):
    codes = unpack_int_data(tensors[name + ".codes"], bits)
    codebooks = tensors[name + ".codebooks"].float()
    return _dequantize_weight(codes, codebooks, tensors[name + ".scales"].float()).numpy()


def check_types(group, bits):
    assert group["codes"].dtype == (np.uint8 if bits <= 8 else np.uint16), group["codes"].dtype
    assert group["codebooks"].dtype == np.float16 and group["scales"].dtype == np.float16
    assert group["scales"].shape == group["codes"].shape[:1]
    assert group["codes"][:].max() < 2**bits


def check_linears(file, exported):
    bits = int(file.attrs["nbits_per_codebook"])
    linears = [name for name, item in file["tensors"].items() if isinstance(item, h5py.Group)]
    for name in linears:
        check_types(file["tensors"][name], bits)
        assert np.array_equal(decode(file["tensors"][name]), decode_exported(exported, name, bits)), name
    return len(linears)


def check_layout(file):
    def check(name, item):
        if isinstance(item, h5py.Dataset):
            assert item.chunks and item.fletcher32, f"{name} is not chunked under fletcher32"

    file.visititems(check)


def raw_bytes(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def check_untouched(file, dense):
    kinds = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
        if name not in file["tensors"]:
            assert name == "lm_head.weight" and name not in dense, name
            continue
        dataset = file["tensors"][name]
        assert dataset.attrs["dtype"] == kinds[dense[name].dtype], name
        assert dataset[:].tobytes() == raw_bytes(dense[name]), name


def check_files(file, dense_folder):
    for name, dataset in file["files"].items():
        original = pathlib.Path(dense_folder) / name
        if name != "aqlm_mpi.json":
            assert dataset[:].tobytes() == original.read_bytes(), name


def main(model, exported_folder, dense_folder):
    with h5py.File(model) as file:
        count = check_linears(file, load_folder(exported_folder))
        check_layout(file)
        check_untouched(file, load_folder(dense_folder))
        check_files(file, dense_folder)
    print(f"h5py: {count} linears of {model} equal the exported folder's")


main(*sys.argv[1:])

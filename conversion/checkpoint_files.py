# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""What the conversions share: reading a public file as tensors only, and strictness about them."""

import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from videoar_pipelines.utils.command_line import UsageError


# Keys under which public files, and training checkpoints around them, hold the tensors of a tokenizer.
VAE_WRAPPERS = ("vae", "ema", "state_dict", "trainer", "vae_local")


class ConversionError(UsageError):
    """A checkpoint that cannot be converted; its text is one line for the user."""


# 1. Reading


def read_checkpoint(path: Path, name: str = "--checkpoint_path", mmap: bool = False) -> object:
    """
    What a file of PyTorch or safetensors holds. Nothing in it is executed.

    Args:
        path (`Path`): The file.
        name (`str`, defaults to `"--checkpoint_path"`): For the error: the option that named it.
        mmap (`bool`, defaults to `False`):
            Whether to leave the tensors of a PyTorch file on the disk until they are used. Files of PyTorch 1.5 and older cannot.

    Raises:
        `ConversionError`: The file is neither, is damaged, or holds more than tensors and plain containers.
    """
    if not path.is_file():
        raise ConversionError(f"`{name}` {path} is not a file.")
    with path.open("rb") as file:
        beginning = file.read(256)
    if beginning.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ConversionError(f"{path} is a web page and not a checkpoint. Download the file itself.")
    is_safetensors = beginning[4:9] == b"\0\0\0\0{"  # the end of a 64-bit length, and the header
    if not is_safetensors and not beginning.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of old
        raise ConversionError(f"{path} is not a PyTorch checkpoint, nor one of safetensors.")
    try:
        if is_safetensors:
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and beginning.startswith(b"PK"))
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"{path} cannot be read as tensors alone and is refused: the pickled code or objects in it could run "
            "anything. Ask for a file with the state dict only."
        ) from error
    except (RuntimeError, OSError, EOFError, LookupError, ValueError, SafetensorError) as error:
        raise ConversionError(f"{path} is truncated or damaged. Download it again.") from error


def unwrap(
    checkpoint: object, path: Path, wrappers: tuple[str, ...], is_ours: Callable[[str], bool], absent: str
) -> dict[str, torch.Tensor]:
    """
    The dictionary of tensors in a checkpoint, out of whatever wraps it.

    Args:
        checkpoint (`object`): What [`read_checkpoint`] gave.
        path (`Path`): For the errors.
        wrappers (`tuple[str, ...]`): Keys that may hold the dictionary, the first one present is taken.
        is_ours (`Callable[[str], bool]`): Whether a key is one of the model, which ends the search.
        absent (`str`): For the error: what is not there when no dictionary has such a key.
    """
    while isinstance(checkpoint, dict) and not any(is_ours(str(key)) for key in checkpoint):
        wrapper = next((name for name in wrappers if isinstance(checkpoint.get(name), dict)), None)
        if wrapper is None:
            keys = ", ".join(str(key) for key in list(checkpoint)[:8])
            raise ConversionError(f"{path} holds {absent} among {keys or 'no keys'}.")
        checkpoint = checkpoint[wrapper]
    if not isinstance(checkpoint, dict):
        raise ConversionError(f"{path} holds a {type(checkpoint).__name__} and not a dictionary of tensors.")
    return checkpoint


# 2. Strictness


def check_complete(tensors: dict[str, torch.Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """Every tensor is used, every parameter filled, and every shape is right; names and shapes are the model's."""
    missing = [f"{name} {shape}" for name, shape in shapes.items() if name not in tensors]
    extra = [f"{name} {describe(tensor)}" for name, tensor in tensors.items() if name not in shapes]
    wrong = [
        f"{name} {describe(tensor)} instead of {shapes[name]}"
        for name, tensor in tensors.items()
        if name in shapes and tuple(tensor.shape) != shapes[name]
    ]
    if missing:
        raise ConversionError(f"The checkpoint lacks {first_of(missing)}.")
    if extra:
        raise ConversionError(f"The checkpoint has {first_of(extra)} that this model does not have.")
    if wrong:
        raise ConversionError(f"The checkpoint has another shape for {first_of(wrong)}.")


def describe(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else f"of type {type(value).__name__}"


def first_of(differences: list[str]) -> str:
    shown = "; ".join(differences[:5])
    return f"{len(differences)} tensor(s): {shown}{'; ...' if len(differences) > 5 else ''}"

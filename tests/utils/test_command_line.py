# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about errors on the command line: a user's mistake is one line, a defect of ours keeps its stack."""

import errno
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    Number,
    UsageError,
    is_mistake,
    loading,
    non_negative_int,
    positive_float,
    positive_int,
    probability,
    run_command_line,
)
from videoar_pipelines.utils.video_io import save_video


ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [
    path
    for folder in ("examples", "conversion", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__main__" in path.read_text()
]


def make_parser():
    parser = CommandLineParser("Does a thing.", prog="thing.py")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--steps", type=positive_int)
    parser.add_argument("--share", type=probability)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--mixed_precision", choices=["no", "bf16"])
    return parser


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--output_dri", "a"], "`--output_dri` is no flag. Did you mean `--output_dir`?"),
        (["--output_dir", "a", "--zzz"], "`--zzz` is no flag."),
        (["--output_dir", "a", "--out", "b"], "`--out` is no flag. Did you mean `--output_dir`?"),
        ([], "the following arguments are required: --output_dir"),
        (["--output_dir", "a", "--steps", "0"], "`--steps` is '0': pass a whole number of at least 1."),
        (["--output_dir", "a", "--steps", "-3"], "`--steps` is '-3': pass a whole number of at least 1."),
        (["--output_dir", "a", "--steps", "2.5"], "`--steps` is '2.5': pass a whole number of at least 1."),
        (["--output_dir", "a", "--share", "nan"], "`--share` is 'nan': pass a number of at least 0 and of at most 1."),
        (["--output_dir", "a", "--seed", "one"], "`--seed` is 'one': pass a whole number."),
        (
            ["--output_dir", "a", "--mixed_precision", "bf61"],
            "`--mixed_precision` is 'bf61': choose from no, bf16. Did you mean `bf16`?",
        ),
    ],
)
def test_a_wrong_flag_is_one_line_without_usage(arguments, line, capsys):
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args(arguments)
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and printed.count("\n") == 1
    assert printed.startswith(f"thing.py: error: {line}")


def test_numbers_keep_their_bounds():
    assert (positive_int("1"), non_negative_int("0"), positive_float("1e-12")) == (1, 0, 1e-12)
    beta = Number(float, least=0, below=1)
    assert beta("0.999") == 0.999
    for number, text in ((positive_int, "0"), (positive_float, "inf"), (beta, "1"), (probability, "1.1")):
        with pytest.raises(ValueError):
            number(text)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_says_a_wrong_flag_in_one_line(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--no_such_flag", "1"])
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and printed.count("\n") == 1 and "`--no_such_flag` is no flag." in printed


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_has_one_way_to_start(script):
    assert script.read_text().rstrip().splitlines()[-1].strip().startswith("run_command_line(main")


def fail(error):
    def main():
        raise error

    return main


def test_what_a_raise_of_ours_says_is_a_mistake_and_what_others_raise_is_a_defect(tmp_path):
    def error_of(function):
        with pytest.raises(Exception) as caught:
            function()
        return caught.value

    assert is_mistake(error_of(fail(UsageError("mend it"))))
    assert is_mistake(error_of(fail(OSError(errno.ENOSPC, "No space left on device"))))
    # In the package, by `raise`; the same types by Python or NumPy are defects.
    assert is_mistake(error_of(lambda: save_video([], tmp_path / "video.mp4", fps=0)))
    assert not is_mistake(error_of(lambda: int("x")))
    assert not is_mistake(error_of(lambda: {}["key"]))
    assert not is_mistake(error_of(lambda: positive_int("x")))
    assert not is_mistake(error_of(fail(ValueError("from a test, not from the package"))))


def test_a_mistake_ends_in_one_line_and_a_defect_in_its_stack(capsys):
    with pytest.raises(SystemExit) as ended:
        run_command_line(fail(UsageError("`--steps` is 0:\n  pass more.")))
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("error: `--steps` is 0: pass more.\n")
    with pytest.raises(ZeroDivisionError):
        run_command_line(lambda: 1 / 0)


def test_a_folder_that_cannot_be_loaded_names_its_flag_and_its_neighbour(tmp_path):
    (tmp_path / "videoar").mkdir()
    with pytest.raises(UsageError, match=r"`--vae` '.*vidoar' is no folder .*OSError: gone.*mean `.*videoar`\?"):
        with loading("--vae", tmp_path / "vidoar"):
            raise OSError("gone\nmore lines")
    with pytest.raises(UsageError, match=r"`--vae` '.*videoar' cannot be loaded .KeyError: 'width'"):
        with loading("--vae", tmp_path / "videoar"):
            raise KeyError("width")


@pytest.mark.parametrize(
    "script, arguments, line",
    [
        (
            "examples/video_tokenizer/train_video_tokenizer.py",
            "--pretrained_vae nowhere/vae --output_dir run",
            "`--pretrained_vae` 'nowhere/vae' is no folder",
        ),
        ("examples/inference/text_to_video.py", "--prompt a --checkpoint ./nowhere", "`--checkpoint` './nowhere'"),
    ],
)
def test_a_mistake_that_is_found_late_is_one_line_too(script, arguments, line, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / script), *arguments.split()]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr and line in run.stderr.splitlines()[-1]

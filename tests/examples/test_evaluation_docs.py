# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The page on evaluation and the card of the checkpoint: their commands have the flags of the scripts, and the table has every protocol."""

import re
import runpy
import shlex

import pytest

from tests.examples.training_scripts import REPOSITORY
from videoar_pipelines.evaluation.arguments import load_protocols
from videoar_pipelines.evaluation.protocols import protocol_names


PAGE = (REPOSITORY / "examples" / "evaluation" / "README.md").read_text(encoding="utf-8")
CARD = (REPOSITORY / "checkpoints" / "videoar-moving-shapes" / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    words
    for block in re.findall(r"```bash\n(.*?)```", PAGE + CARD, flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if (words := shlex.split(line, comments=True)) and words[0] == "python"
]


def test_every_script_is_shown():
    shown = {words[1].rpartition("/")[2] for words in COMMANDS}
    assert shown == {"fvd.py", "reconstruction.py", "sample.py", "write_clips.py"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_are_understood(words):
    args = runpy.run_path(str(REPOSITORY / words[1]))["parse_args"](words[2:])
    if hasattr(args, "protocols"):
        assert len(load_protocols(args)) == len(args.protocols)


def test_the_table_has_every_protocol():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    named = " ".join(re.findall(r"`([^`]*)`", " ".join(rows)))
    for name in protocol_names():
        assert name in named or (name == "ucf101-reconstruction-test" and "-test" in named), name

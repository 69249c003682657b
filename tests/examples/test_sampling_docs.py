# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The commands of the pages on sampling and VBench have the flags of the scripts. The scripts themselves run in other tests."""

import re
import runpy
import shlex

import pytest

from tests.examples.training_scripts import REPOSITORY


PAGES = ("evaluation/SAMPLING.md", "evaluation/VBENCH.md", "inference/README.md")
SCRIPTS = ("sample.py", "sample_vbench.py", "vbench_score.py", "generate_many.py")


def commands():
    for page in PAGES:
        text = (REPOSITORY / "examples" / page).read_text(encoding="utf-8")
        for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                script = next(
                    (word for word in words if word.startswith("examples/") and word.endswith(SCRIPTS)), None
                )
                if script is not None:
                    yield pytest.param(words, script, id=f"{page}: {' '.join(words)[:80]}")


COMMANDS = list(commands())


def test_every_script_is_shown():
    assert {command.values[1].rpartition("/")[2] for command in COMMANDS} == set(SCRIPTS)


@pytest.mark.parametrize("words, script", COMMANDS)
def test_commands_are_understood(words, script):
    at = words.index(script)
    assert words[:at] in (["accelerate", "launch"], ["python"])
    parse_args = runpy.run_path(str(REPOSITORY / script))["parse_args"]
    parse_args(words[at + 1 :])

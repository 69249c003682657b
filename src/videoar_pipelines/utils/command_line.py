# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What all scripts share: a parser, numbers with bounds, and the one place that decides how an error is shown.

A user's mistake is one line on stderr that names flag, value and remedy, and the exit status is 2. A defect of ours keeps its
stack, and the exit status is 1. With the environment variable `VIDEOAR_PIPELINES_STACK=1` mistakes keep their stack too.
"""

import argparse
import contextlib
import difflib
import errno
import math
import opcode
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .processors import use_free_processors


MISTAKE_STATUS = 2
FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_PACKAGE = Path(__file__).resolve().parents[1]
# What a `raise` of ours says is meant for the user; what other code raises is not.
_MISTAKE_TYPES = (ValueError, RuntimeError, ArithmeticError, OSError, ImportError)


class UsageError(ValueError):
    """A user's mistake. Its text is one line: flag, value, remedy."""


# 1. Words


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" Did you mean `X`?"`, or nothing if no known word is near."""
    known = list(known)
    nearest = [name for name in known if name.startswith(word)] or difflib.get_close_matches(word, known, n=1)
    return f" Did you mean `{nearest[0]}`?" if nearest else ""


def did_you_mean_path(path: str | Path) -> str:
    """The same for a path that does not exist, among its neighbours."""
    path = Path(path)
    with contextlib.suppress(OSError):
        names = [neighbour.name for neighbour in path.parent.iterdir()]
        nearest = difflib.get_close_matches(path.name, names, n=1)
        return f" Did you mean `{path.parent / nearest[0]}`?" if nearest else ""
    return ""


# 2. The parser


class Number:
    """
    The type of a flag that takes a finite number between bounds.

    Args:
        kind (`type`): `int` or `float`.
        least (`float`, *optional*): Smallest value.
        above (`float`, *optional*): A value that is too small.
        most (`float`, *optional*): Largest value.
        below (`float`, *optional*): A value that is too large.
    """

    def __init__(
        self,
        kind: type,
        least: float | None = None,
        above: float | None = None,
        most: float | None = None,
        below: float | None = None,
    ):
        self.kind = kind
        self.least = -math.inf if least is None else least
        self.above = -math.inf if above is None else above
        self.most = math.inf if most is None else most
        self.below = math.inf if below is None else below
        bounds = {"of at least": least, "above": above, "of at most": most, "below": below}
        given = " and ".join(f"{words} {bound:g}" for words, bound in bounds.items() if bound is not None)
        self.expected = f"{'a whole number' if kind is int else 'a number'} {given}".strip()

    def __call__(self, text: str) -> float:
        value = self.kind(text)
        is_inside = self.least <= value <= self.most and self.above < value < self.below
        if not is_inside or not math.isfinite(value):
            raise ValueError(f"{text} is not {self.expected}")
        return value


positive_int = Number(int, least=1)
non_negative_int = Number(int, least=0)
positive_float = Number(float, above=0)
non_negative_float = Number(float, least=0)
probability = Number(float, least=0, most=1)


def device(text: str) -> str:
    """The type of `--device`: `"auto"`, or one that this machine has, such as `"cpu"` or `"cuda:1"`."""
    import torch

    if text != "auto":
        try:
            torch.empty(0, device=text)
        except Exception as error:
            reason = str(error).splitlines()[0][:80]
            raise argparse.ArgumentTypeError(
                f"{text!r} is no device here ({reason}): pass cpu, cuda or cuda:1, say."
            ) from error
    return text


_EXPECTED = {int: "a whole number", float: "a number"}


class CommandLineParser(argparse.ArgumentParser):
    """
    A parser whose errors are one line with the nearest flag or choice, without the usage. Flags are not abbreviated; the
    description keeps its line breaks.
    """

    def __init__(self, description: str | None = None, **options: Any):
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False} | options
        super().__init__(description=description, **options)

    def error(self, message: str) -> None:
        if os.environ.get("RANK", "0") != "0":
            end_in_silence()
        self.exit(MISTAKE_STATUS, f"{self.prog}: error: {message} All flags: {self.prog} --help\n")

    def parse_known_args(self, args=None, namespace=None):
        # Before argparse, which would first name a required flag that is only misspelt.
        for argument in sys.argv[1:] if args is None else args:
            if argument == "--":
                break
            name = argument.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                self.error(f"`{name}` is no flag.{did_you_mean(name, self._option_string_actions)}")
        return super().parse_known_args(args, namespace)

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        try:
            return super()._get_value(action, text)
        except argparse.ArgumentError as error:
            expected = getattr(action.type, "expected", _EXPECTED.get(action.type))
            if expected is None:
                raise
            raise argparse.ArgumentError(None, f"`{_name(action)}` is {text!r}: pass {expected}.") from error

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                None,
                f"`{_name(action)}` is {value!r}: choose from {', '.join(choices)}.{did_you_mean(str(value), choices)}",
            )


def _name(action: argparse.Action) -> str:
    return action.option_strings[0] if action.option_strings else action.metavar or action.dest


def is_given(value: Any) -> bool:
    """Whether a flag without a default was given: 0 counts, a switch that is off does not."""
    return value is not None and value is not False


# 3. What the user names


@contextlib.contextmanager
def loading(flag: str, value: str | Path) -> Iterator[None]:
    """
    Whatever goes wrong while a model or file is read that the user named is about that model or file.

    Args:
        flag (`str`): Who named it, such as `"--vae"`.
        value (`str` or `Path`): Folder, file or Hub id.

    Raises:
        `UsageError`: With the first line of what went wrong.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        exists = Path(value).exists()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = "cannot be loaded" if exists else "is no folder or file here, and no model could be read from the Hub"
        raise UsageError(
            f"`{flag}` {str(value)!r} {where} ({type(error).__name__}: {reason}). Pass the folder of such a model, or its id on"
            f" the Hub.{'' if exists else did_you_mean_path(value)}"
        ) from error


def check_is_new(flag: str, path: Path) -> None:
    """
    Before any work: where a script writes to has to be free, so that no result takes another one's place.

    Args:
        flag (`str`): Who named it, such as `"--output_dir"`.
        path (`Path`): Of a file or folder.

    Raises:
        `UsageError`: There is one.
    """
    if path.exists():
        raise UsageError(f"`{flag}` {path} exists already. Name a new one, or remove it.")


# 4. How an error is shown


def run_command_line(main: Callable[..., None], parse_args: Callable[[], Any] | None = None) -> None:
    """
    Runs a script, with as many threads as there are free processors ([`use_free_processors`]), and ends its process with one line on
    stderr for a user's mistake.

    Args:
        main (`Callable`): Called with what `parse_args` gives, or without arguments.
        parse_args (`Callable`, *optional*):
            Reads the command line of the process. Of several processes the first one alone says what is wrong with it.
    """
    args = None
    try:
        if parse_args is None:
            use_free_processors()
            main()
            return
        try:
            args = parse_args()
        except Exception:
            if os.environ.get("RANK", "0") != "0":
                end_in_silence()
            raise
        use_free_processors()  # takes a moment, which `--help` and mistakes do not need
        main(args)
    except KeyboardInterrupt:
        _exit("interrupted", 128 + 2)
    except Exception as error:
        message = str(error) if is_mistake(error) else _of_a_named_path(error, args)
        if message is None or os.environ.get("VIDEOAR_PIPELINES_STACK") == "1":
            raise
        _exit("error: " + " ".join(message.split()), MISTAKE_STATUS)


def _of_a_named_path(error: Exception, args: Any) -> str | None:
    """What to say when the system refuses a path that a flag names, wherever it is opened."""
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return None
    for flag, value in vars(args or argparse.Namespace()).items():
        if value is not None and os.path.abspath(str(value)) == os.path.abspath(str(error.filename)):
            remedy = f"pass another path.{did_you_mean_path(str(value))}"
            return f"`--{flag}` {str(value)!r}: {error.strerror[0].lower()}{error.strerror[1:]}, {remedy}"
    return None


def is_mistake(error: BaseException) -> bool:
    """
    Whether an error is the user's to mend: a [`UsageError`], a full disk, or what a `raise` in this package or in the script
    says. An error that Python or another library raises is a defect of ours.
    """
    if isinstance(error, UsageError):
        return True
    if isinstance(error, OSError) and error.errno in FULL_DISK_ERRORS:
        return True
    return isinstance(error, _MISTAKE_TYPES) and not isinstance(error, NotImplementedError) and _is_raised_by_us(error)


def _is_raised_by_us(error: BaseException) -> bool:
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    folders = [_PACKAGE]
    if script := getattr(sys.modules.get("__main__"), "__file__", None):
        folders.append(Path(script).resolve().parent)
    is_ours = any(Path(code.co_filename).resolve().is_relative_to(folder) for folder in folders)
    return is_ours and opcode.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def end_in_silence() -> None:
    """Ends this process for a mistake that the first process has words for, and leaves it the time to say them."""
    time.sleep(5)  # a launcher ends all processes when one does
    os._exit(MISTAKE_STATUS)


def _exit(message: str, status: int) -> None:
    is_one_of_several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    process = f" (process {os.environ.get('RANK')})" if is_one_of_several else ""
    print(f"{Path(sys.argv[0]).name}{process}: {message}", file=sys.stderr, flush=True)
    if is_one_of_several:
        # The others may wait for this process, and it for them when the process group is torn down: the launcher ends them.
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)

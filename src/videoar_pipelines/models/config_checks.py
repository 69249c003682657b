# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of the values in a model's or scheduler's configuration, which may come from a damaged or hand-written file."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_positive_integers(config: Mapping[str, Any], names: Sequence[str], least: int = 1) -> None:
    """
    Raises:
        `ValueError`: One of `names` is neither `None` nor an integer from `least` to 2^31 - 1, nor a list of such integers.
    """
    for name in names:
        value = config[name]
        values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        if not all(is_integer(item) and least <= item < 2**31 for item in values):
            kind = "integers" if isinstance(value, (list, tuple)) else "an integer"
            raise ValueError(f"`{name}` must be {kind} of at least {least}, and less than 2^31, got {value!r}.")


def check_numbers(config: Mapping[str, Any], names: Sequence[str], lowest: float, highest: float) -> None:
    """
    Raises:
        `ValueError`: One of `names` is no number from `lowest` to `highest`.
    """
    for name in names:
        value = config[name]
        if not is_number(value) or not lowest <= value <= highest:
            raise ValueError(f"`{name}` must be a number from {lowest:g} to {highest:g}, got {value!r}.")


def check_kinds(config: Mapping[str, Any], names: Sequence[str], *kinds: type) -> None:
    """
    Raises:
        `ValueError`: One of `names` is of another kind, and not `None` where `kinds` has `type(None)`.
    """
    for name in names:
        if not isinstance(config[name], kinds):
            expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ValueError(f"`{name}` must be {expected}, got {config[name]!r}.")

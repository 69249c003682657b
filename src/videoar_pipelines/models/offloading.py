# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Offloading for methods of a model other than `forward`. What is moved where, accelerate and diffusers decide."""

import functools


def apply_offload_hooks(method):
    """
    Lets a method other than `forward` find the model's weights where it needs them: runs the hooks of accelerate's offloading
    and of diffusers' group offloading before and after it. (diffusers' own `apply_forward_hook` knows only the first, and only
    before.)
    """

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        registry = getattr(self, "_diffusers_hook", None)
        group_offloading = registry.get_hook("group_offloading") if registry is not None else None
        hooks = [hook for hook in (getattr(self, "_hf_hook", None), group_offloading) if hook is not None]
        for hook in hooks:
            hook.pre_forward(self)
        output = method(self, *args, **kwargs)
        for hook in reversed(hooks):
            output = hook.post_forward(self, output)
        return output

    return wrapper

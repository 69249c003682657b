# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Linear layers for inference on a CPU, their weights laid out once for oneDNN's matrix products.

A step of VideoAR multiplies few tokens (2 to 128 at 128x128 with guidance) with large weights. The usual layer rearranges its
weight within every such product, which takes as long as the product itself.
"""

import torch
import torch.nn as nn


class PackedLinear(nn.Module):
    """
    An `nn.Linear` whose weight is in oneDNN's own layout. For inference: it has no gradients, and it stays on the CPU. Its state
    dict is that of the layer it replaces.

    Args:
        linear (`nn.Linear`): The layer to replace, on a CPU, in float32 or bfloat16.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.packed_weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = linear.bias

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(hidden_states, self.packed_weight, self.bias, "none", [], "")

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.packed_weight.to_dense()


@torch.no_grad()
def pack_linear_layers(model: nn.Module) -> None:
    """
    Replaces every `nn.Linear` inside `model` by a [`PackedLinear`], but for projections that a fused one stands for.

    Args:
        model (`nn.Module`): Changed in place.

    Raises:
        `ValueError`: A layer is not on a CPU or in another dtype than float32 and bfloat16, or PyTorch was built without oneDNN.
    """
    replaced = {
        getattr(module, name)
        for module in model.modules()
        if getattr(module, "fused_projections", False)
        for name in ("to_q", "to_k", "to_v")
    }
    layers = {
        name: module for name, module in model.named_modules() if type(module) is nn.Linear and module not in replaced
    }
    for name, layer in layers.items():
        weight = layer.weight
        if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(
                f"Weights can be packed on a CPU, in float32 or bfloat16, but `{name}` is on {str(weight.device)!r} in "
                f"{weight.dtype}. Move the model first, `.to('cpu', torch.bfloat16)`."
            )
    if not torch.backends.mkldnn.is_available():
        raise ValueError("Weights cannot be packed: this build of PyTorch has no oneDNN.")
    for name, layer in layers.items():
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, PackedLinear(layer))

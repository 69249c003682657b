# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Transformers that processes share, by diffusers' `enable_parallelism`: how weights are divided (`_tp_plan`), what goes with it and
what does not. How sequences are divided is in the `_cp_plan` of a model.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import ContextParallelConfig, ParallelConfig, TensorParallelConfig
from diffusers.hooks.tensor_parallel import PackedColwiseParallel


class ParallelTransformerMixin:
    """
    Of a transformer whose `blocks` have `attn` and `ff`, and with a `_cp_plan`. Before `ModelMixin` among the bases of a class.

    With tensor parallelism a process has whole heads, its part of the SwiGLU, and the keys and values of its heads in the cache;
    embedders, norms and the head of the bits are on every process:

        transformer.enable_parallelism(config=TensorParallelConfig(tp_degree=2))  # or `parallel_config=` of `from_pretrained`

    Every process then makes the same calls with the same inputs, and gets the same logits.
    """

    # Whole heads, and both halves of the SwiGLU alike. What is not named here is on every process.
    _tp_plan = {
        "blocks.*.attn.to_q": "colwise",
        "blocks.*.attn.to_k": "colwise",
        "blocks.*.attn.to_v": "colwise",
        "blocks.*.attn.to_out.0": "rowwise",
        "blocks.*.ff.net.0.proj": PackedColwiseParallel([1, 1]),
        "blocks.*.ff.net.2": "rowwise",
    }

    @property
    def tensor_parallel_degree(self) -> int:
        """Processes that share the weights."""
        config = self._parallel_config and self._parallel_config.tensor_parallel_config
        return config._mesh.size() if config else 1

    @property
    def _context_parallel_degree(self) -> int:
        config = self._parallel_config and self._parallel_config.context_parallel_config
        return config.ulysses_degree * config.ring_degree if config else 1

    def _resolve_parallel_config(
        self, config: ParallelConfig | ContextParallelConfig | TensorParallelConfig
    ) -> ParallelConfig:
        """Called by `enable_parallelism` and `from_pretrained` of diffusers before they divide anything."""
        tensor_config = getattr(config, "tensor_parallel_config", config)
        if isinstance(tensor_config, TensorParallelConfig):
            self._check_tensor_parallel(tensor_config)
        return super()._resolve_parallel_config(config)

    def _check_tensor_parallel(self, config: TensorParallelConfig) -> None:
        degree = config.tp_degree if config.mesh is None else config.mesh.size()
        heads = self.config.num_attention_heads
        for name, number in (
            ("num_attention_heads", heads),
            ("num_key_value_heads", self.config.num_key_value_heads or heads),
        ):
            if number % degree != 0:
                raise ValueError(
                    f"`tp_degree` is {degree}, but a process holds whole heads, and `{name}` is {number}: pass a divisor of it."
                )
        if any(getattr(module, "fused_projections", False) for module in self.modules()):
            raise ValueError(
                "Tensor parallelism divides `to_q`, `to_k` and `to_v`, but the projections are fused: call "
                "`unfuse_qkv_projections()` before."
            )
        if torch.accelerator.device_count() == 0:
            raise ValueError(
                f"`tp_degree` is {degree}, but there is no accelerator, and on CPUs diffusers does not divide weights: leave it out."
            )

    def fuse_qkv_projections(self) -> None:
        """
        As in diffusers.

        Raises:
            `ValueError`: Processes share the weights, or an adapter has layers at these projections, which would be left out.
        """
        self._check_not_tensor_parallel("fuse_qkv_projections")
        if self._has_adapters_of_projections():
            raise ValueError(
                "`fuse_qkv_projections` would leave out the layers that an adapter has at `to_q`, `to_k` and `to_v`: merge them"
                " (`pipe.fuse_lora()`, then `pipe.unload_lora_weights()`), or go on without fused projections."
            )
        super().fuse_qkv_projections()

    def add_adapter(self, adapter_config: Any, adapter_name: str = "default") -> None:
        """As in diffusers. See [`~load_lora_adapter`]."""
        with self._refusing_adapters_of_fused_projections():
            super().add_adapter(adapter_config, adapter_name)

    def load_lora_adapter(self, *args: Any, **kwargs: Any) -> Any:
        """
        As in diffusers.

        Raises:
            `ValueError`: The adapter has layers at projections that are fused and would not be run. It is taken out again.
        """
        with self._refusing_adapters_of_fused_projections():
            return super().load_lora_adapter(*args, **kwargs)

    @contextlib.contextmanager
    def _refusing_adapters_of_fused_projections(self) -> Iterator[None]:
        before = set(getattr(self, "peft_config", ()))
        active = self.active_adapters() if before else []
        yield
        if self._has_adapters_of_projections(fused_only=True):
            self.delete_adapters([name for name in self.peft_config if name not in before])
            if before:
                self.set_adapter(active)
            else:
                self.unload_lora()
            raise ValueError(
                "The adapter has layers at `to_q`, `to_k` and `to_v`, which are fused and would not be run: call"
                " `transformer.unfuse_qkv_projections()` before, and load it again."
            )

    def _has_adapters_of_projections(self, fused_only: bool = False) -> bool:
        layers = (
            getattr(module, name, None)
            for module in self.modules()
            if hasattr(module, "fused_projections") and (module.fused_projections or not fused_only)
            for name in ("to_q", "to_k", "to_v")
        )
        # Of peft, whose layers name what they keep by adapter; a layer whose adapters were deleted is as good as none.
        kept = (getattr(layer, name) for layer in layers for name in getattr(layer, "adapter_layer_names", ()))
        return any(len(by_adapter) > 0 for by_adapter in kept)

    def _check_not_tensor_parallel(self, name: str) -> None:
        if self.tensor_parallel_degree > 1:
            raise ValueError(
                f"`{name}` needs whole weights, but with `enable_parallelism` {self.tensor_parallel_degree} processes share them: "
                "leave it out."
            )

    def _check_context_parallel(self, num_tokens: int) -> None:
        degree = self._context_parallel_degree
        if num_tokens % degree != 0:
            raise ValueError(
                f"The sequence has {num_tokens} tokens of text and video, which cannot be split evenly over {degree} processes "
                f"(`enable_parallelism`): pad the text by {-num_tokens % degree} tokens."
            )

    def _check_not_context_parallel(self) -> None:
        if self._context_parallel_degree > 1:
            raise ValueError(
                "`enable_parallelism` with `ContextParallelConfig` splits whole sequences, as in training; a step with `kv_cache` may "
                "have a single token. Generate with a model without it, or with `TensorParallelConfig`."
            )

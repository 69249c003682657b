# Copyright 2026 The VideoAR Pipelines Authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""
Steps of a generation as CUDA graphs. A step of VideoAR is hundreds of small kernels, and a GPU runs them faster than Python
can launch them. A graph records them once and launches them all together.

A graph reads and writes fixed addresses. Here these are the storage of a key-value cache, which is lent to one generation
after the other, and one static tensor for every input of a step. The number of graphs is small: a step's shapes depend on
its scale and on how much of the cache is filled, and both repeat, from call to call and, with a window, from frame to frame.
"""

import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from diffusers.hooks.group_offloading import _is_group_offload_enabled

from ..models.transformer_videoar import VideoARKVCache, VideoARTransformer3DModel


@dataclass
class RecordedStep:
    """
    Args:
        replay (`Callable`): Runs the recorded kernels.
        inputs (`list[torch.Tensor]`): What they read; to be filled before.
        output (`torch.Tensor`): What they write; overwritten by the next replay of any step.
        num_tokens (`int`): Video tokens by which the step moves the cache on.
    """

    replay: Callable[[], None]
    inputs: list[torch.Tensor]
    output: torch.Tensor
    num_tokens: int


class CUDAGraphSteps:
    """
    Lends caches to generations, and records and replays the steps on them.

    Args:
        max_caches (`int`, defaults to 4):
            Idle caches that are kept for later calls, with their graphs. The one that has been idle longest is dropped.
    """

    def __init__(self, max_caches: int = 4):
        self.max_caches = max_caches
        self._idle: list[VideoARKVCache] = []
        self._shapes: weakref.WeakKeyDictionary[VideoARKVCache, Hashable] = weakref.WeakKeyDictionary()
        self._steps: weakref.WeakKeyDictionary[VideoARKVCache, dict[Hashable, RecordedStep]] = (
            weakref.WeakKeyDictionary()
        )
        self._memory_pool = None

    # 1. Caches

    def lend_cache(self, transformer: VideoARTransformer3DModel, **arguments) -> VideoARKVCache:
        """
        An empty cache for a new generation: an idle one that was made for the same, or a new one.

        Args:
            transformer ([`VideoARTransformer3DModel`]): The model that will use it.
            **arguments: Of its `make_cache`.
        """
        # Weights that moved are at another address than the one that graphs read.
        weights = transformer.start_embedding
        shape = (transformer, weights.data_ptr(), weights.dtype, weights.device, tuple(sorted(arguments.items())))
        for kv_cache in self._idle:
            if self._shapes[kv_cache] == shape:
                self._idle.remove(kv_cache)
                kv_cache.reset()
                return kv_cache
        with torch.inference_mode(False):  # or calls outside of inference mode could not write to it
            kv_cache = transformer.make_cache(**arguments)
        self._shapes[kv_cache] = shape
        return kv_cache

    def take_back(self, kv_cache: VideoARKVCache) -> None:
        """A lent cache that its generation no longer needs."""
        self._idle.append(kv_cache)
        del self._idle[: -self.max_caches]

    # 2. Steps

    def run(
        self,
        kv_cache: VideoARKVCache,
        key: Hashable,
        step: Callable[..., torch.Tensor],
        *inputs: torch.Tensor | float | None,
    ) -> torch.Tensor:
        """
        Calls `step(*inputs)`: records it the first time, replays it afterwards.

        Args:
            kv_cache ([`VideoARKVCache`]): The cache that `step` reads and moves on. What happens between frames has to be done
                ([`~VideoARTransformer3DModel.begin_frame`]).
            key (`Hashable`): All that decides what `step` does, but for its inputs and for how much of the cache is filled.
            step (`Callable`): Makes one tensor of `inputs`, on the GPU and without looking at values.
            *inputs: Tensors, numbers (`step` gets them as float32 scalars on the GPU), or `None`.

        Returns:
            `torch.Tensor`: A new tensor.
        """
        shapes = tuple(item.shape if isinstance(item, torch.Tensor) else item is None for item in inputs)
        key = (key, shapes, kv_cache.length, kv_cache.text_mask is None)
        steps = self._steps.setdefault(kv_cache, {})
        if key not in steps:
            steps[key] = self._record(kv_cache, step, inputs)
        recorded = steps[key]
        for static, item in zip(recorded.inputs, inputs):
            if isinstance(item, torch.Tensor):
                static.copy_(item)
            elif item is not None:
                static.fill_(item)
        recorded.replay()
        kv_cache.advance(recorded.num_tokens)
        return recorded.output.clone()

    def _record(self, kv_cache: VideoARKVCache, step: Callable[..., torch.Tensor], inputs: Sequence) -> RecordedStep:
        device = kv_cache.keys.device
        with torch.inference_mode(False):  # see `lend_cache`
            static_inputs = [
                item.clone()
                if isinstance(item, torch.Tensor)
                else (None if item is None else torch.tensor(item, dtype=torch.float32, device=device))
                for item in inputs
            ]
        num_tokens = 0

        def run_step() -> torch.Tensor:
            """The step on the static inputs; the cache does not move on."""
            nonlocal num_tokens
            length, num_written = kv_cache.length, kv_cache.num_written
            output = step(*static_inputs)
            num_tokens = kv_cache.length - length
            kv_cache.length, kv_cache.num_written = length, num_written
            return output

        replay, output = self._capture(run_step)
        return RecordedStep(replay, static_inputs, output, num_tokens)

    def _capture(self, run_step: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        """How to repeat `run_step` as it is now, and the tensor that every repetition overwrites."""
        # The first run, outside of the graph, compiles, tunes and allocates what later runs need.
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            run_step()
        torch.cuda.current_stream().wait_stream(side_stream)
        # Graphs share their memory: they run one after the other, and outputs are copied before the next one runs.
        if self._memory_pool is None:
            self._memory_pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory_pool):
            output = run_step()
        return graph.replay, output


class CUDAGraphsMixin:
    """Of a pipeline with a `transformer`: `enable_cuda_graphs`."""

    _cuda_graph_steps: CUDAGraphSteps | None = None

    def enable_cuda_graphs(self, max_caches: int = 4) -> None:
        """
        Replays the steps of a generation as CUDA graphs, which removes the time that launching their kernels takes. The results
        are those of the same kernels without graphs. The first call with new sizes, a new batch size or text length records
        its steps, which takes a few times as long as the call itself; later calls with the same replay them.

        Goes with `transformer.compile_repeated_blocks()` and `transformer.fuse_qkv_projections()`, called before. Call it
        again after a change of the transformer that keeps its place in memory: an attention backend, an adapter or its
        weight.

        Args:
            max_caches (`int`, defaults to 4):
                Caches of different shapes that are kept with their graphs; the one not used for longest is dropped.

        Raises:
            `ValueError`: The transformer is not on a CUDA device, or is offloaded.
        """
        device = self.transformer.device
        if device.type != "cuda":
            raise ValueError(
                f"CUDA graphs need the transformer on a CUDA device, but it is on {str(device)!r}. Move the pipeline there, "
                '`pipe.to("cuda")`, before `enable_cuda_graphs()`.'
            )
        if getattr(self.transformer, "_hf_hook", None) is not None or _is_group_offload_enabled(self.transformer):
            raise ValueError("CUDA graphs need the transformer to stay in place: they do not go with offloading.")
        self._cuda_graph_steps = CUDAGraphSteps(max_caches)

    def disable_cuda_graphs(self) -> None:
        """Frees all graphs and the memory they hold."""
        self._cuda_graph_steps = None

# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Parts of a generation as CUDA graphs. A step of VideoAR is hundreds of small kernels, and a GPU runs them faster than Python
can launch them. A graph records them once and launches them all together.

A graph reads and writes fixed addresses. Here these are the storage of a key-value cache, which is lent to one generation
after the other, and one static tensor for every input. The number of graphs is small: the shapes of a step depend on its scale
and on how much of the cache is filled, and both repeat, from call to call and, with a window, from frame to frame.
"""

import collections
import dataclasses
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map_only, tree_unflatten

from ..models.autoencoder_videoar import AutoencoderVideoAR, AutoencoderVideoARState
from ..models.kv_cache import VideoARKVCache
from ..models.transformer_videoar import VideoARTransformer3DModel


@dataclass
class RecordedCall:
    """
    Args:
        replay (`Callable`): Runs the recorded kernels.
        inputs (`list[torch.Tensor]`): What they read; to be filled before.
        outputs (nested `torch.Tensor`): What they write; overwritten by the next replay of any call of the same recorder.
    """

    replay: Callable[[], None]
    inputs: list[torch.Tensor]
    outputs: Any


class CUDAGraphRecorder:
    """
    Records and replays calls. All of one recorder share their memory, so they have to run one after the other.
    """

    def __init__(self):
        self._calls: weakref.WeakKeyDictionary[Any, dict[Hashable, RecordedCall]] = weakref.WeakKeyDictionary()
        self._memory_pool = None

    def run(self, owner: Any, key: Hashable, function: Callable, *inputs: Any) -> Any:
        """
        Calls `function(*inputs)`: records it the first time, replays it afterwards.

        Args:
            owner (`Any`): An object that `function` reads, whose recorded calls go when it does.
            key (`Hashable`): All that decides what `function` does, but for its inputs.
            function (`Callable`):
                Makes tensors of `inputs`, on the GPU and without looking at values. Recording runs it twice.
            *inputs: Tensors, numbers (`function` gets them as float32 scalars on the GPU) or `None`, nested in tuples or not.

        Returns:
            What `function` returns, in new tensors.
        """
        items, spec = tree_flatten(inputs)
        shapes = tuple(item.shape if isinstance(item, torch.Tensor) else item is None for item in items)
        key = (key, spec, shapes)
        calls = self._calls.setdefault(owner, {})
        if key not in calls:
            calls[key] = self._record(function, items, spec)
        call = calls[key]
        tensors = collections.defaultdict(list)
        for static, item in zip(call.inputs, items, strict=True):
            if isinstance(item, torch.Tensor):
                tensors[item.dtype].append((static, item))
            elif item is not None:
                static.fill_(item)
        for pairs in tensors.values():
            torch._foreach_copy_(*zip(*pairs))  # one kernel for many small tensors of one type
        call.replay()
        return tree_map_only(torch.Tensor, torch.clone, call.outputs)

    def _record(self, function: Callable, items: Sequence, spec: TreeSpec) -> RecordedCall:
        device = next(item.device for item in items if isinstance(item, torch.Tensor))
        with torch.inference_mode(False):  # or calls outside of inference mode could not write to them
            static_inputs = [
                item.clone()
                if isinstance(item, torch.Tensor)
                else (None if item is None else torch.tensor(item, dtype=torch.float32, device=device))
                for item in items
            ]
        replay, outputs = self._capture(lambda: function(*tree_unflatten(static_inputs, spec)))
        return RecordedCall(replay, static_inputs, outputs)

    def _capture(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """How to repeat `run` as it is now, and the tensors that every repetition overwrites."""
        # The first run, outside of the graph, compiles, tunes and allocates what later runs need.
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            run()
        torch.cuda.current_stream().wait_stream(side_stream)
        # The graphs share their memory: outputs are copied before the next one runs.
        if self._memory_pool is None:
            self._memory_pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory_pool):
            outputs = run()
        return graph.replay, outputs


def weight_addresses(model: torch.nn.Module) -> Hashable:
    """What graphs read: weights that moved are somewhere else, and weights of another type are others."""
    return tuple((weight.data_ptr(), weight.dtype) for weight in model.parameters())


class CUDAGraphSteps(CUDAGraphRecorder):
    """
    Lends caches to generations, and records and replays what the transformer does with them.

    Args:
        max_caches (`int`, defaults to 4):
            Idle caches that are kept for later calls, with their graphs. The one that has been idle longest is dropped.
    """

    def __init__(self, max_caches: int = 4):
        super().__init__()
        self.max_caches = max_caches
        self._idle: list[VideoARKVCache] = []
        self._shapes: weakref.WeakKeyDictionary[VideoARKVCache, Hashable] = weakref.WeakKeyDictionary()

    # 1. Caches

    def lend_cache(self, transformer: VideoARTransformer3DModel, **arguments) -> VideoARKVCache:
        """
        An empty cache for a new generation: an idle one that was made for the same, or a new one.

        Args:
            transformer ([`VideoARTransformer3DModel`]): The model that will use it.
            **arguments: Of its `make_cache`.
        """
        shape = (transformer, weight_addresses(transformer), tuple(sorted(arguments.items())))
        for kv_cache in self._idle:
            if self._shapes[kv_cache] == shape:
                self._idle.remove(kv_cache)
                kv_cache.clear()
                return kv_cache
        with torch.inference_mode(False):  # or calls outside of inference mode could not write to it
            kv_cache = transformer.make_cache(**arguments)
        self._shapes[kv_cache] = shape
        return kv_cache

    def take_back(self, kv_cache: VideoARKVCache) -> None:
        """A lent cache that its generation no longer needs."""
        self._idle.append(kv_cache)
        del self._idle[: -self.max_caches]

    # 2. Calls of the transformer

    def encode_text(self, kv_cache: VideoARKVCache, key: Hashable, encode: Callable, *inputs: Any) -> None:
        """
        Writes the text to a cache without frames.

        Args:
            kv_cache ([`VideoARKVCache`]): Changed in place.
            key (`Hashable`): All that decides what `encode` does, but for its inputs.
            encode (`Callable`): `encode(embeds, mask)` writes the text and calls `kv_cache.set_text(mask)`.
            *inputs: Text states `(B, N, C)`, and their mask `(B, N)` or `None`.
        """
        self.run(kv_cache, ("text", key), encode, *inputs)
        _, mask = inputs
        kv_cache.end_text(kv_cache.text_length, mask)  # a graph repeats none of what happens in Python

    def run_step(
        self, kv_cache: VideoARKVCache, key: Hashable, num_tokens: int, step: Callable, *inputs: Any
    ) -> torch.Tensor:
        """
        A step that writes to the cache and moves it on.

        Args:
            kv_cache ([`VideoARKVCache`]): What happens between frames has to be done
                ([`~VideoARTransformer3DModel.begin_frame`]).
            key (`Hashable`): All that decides what `step` does, but for its inputs and for how much of the cache is filled.
            num_tokens (`int`): Video tokens by which the step moves the cache on.
            step (`Callable`): Makes a tensor of `inputs`, see [`~CUDAGraphRecorder.run`].
            *inputs: Of `step`.
        """

        def step_without_moving(*static_inputs: Any) -> torch.Tensor:
            before = dataclasses.replace(kv_cache.cursor)
            output = step(*static_inputs)
            kv_cache.cursor.length, kv_cache.cursor.num_written = before.length, before.num_written
            return output

        key = ("step", key, kv_cache.length, kv_cache.text_mask is None)
        output = self.run(kv_cache, key, step_without_moving, *inputs)
        kv_cache.advance(num_tokens)
        return output


class CUDAGraphDecoder(CUDAGraphRecorder):
    """
    Decodes the latent frames of a stream. Its memory is not that of the steps, which may run at the same time.
    """

    def decode_chunk(
        self, vae: AutoencoderVideoAR, latents: torch.Tensor, state: AutoencoderVideoARState | None
    ) -> tuple[torch.Tensor, AutoencoderVideoARState]:
        """The arguments and results of [`AutoencoderVideoAR.decode_chunk`], as tuples; without tiling, slicing or offloading."""
        chunk_shape = (len(latents), *latents.shape[-2:])

        def decode(latents: torch.Tensor, past: Sequence[torch.Tensor] | None):
            past_state = None if past is None else AutoencoderVideoARState(chunk_shape, (past,))
            sample, new_state = vae.decode_chunk(latents, past_state, return_dict=False)
            return sample, new_state.tiles[0]

        past = None if state is None else state.tiles[0]
        sample, future = self.run(vae, weight_addresses(vae.decoder), decode, latents, past)
        return sample, AutoencoderVideoARState(chunk_shape, (future,))


def is_offloaded(model: torch.nn.Module) -> bool:
    """Whether hooks of accelerate or diffusers move the model's weights around."""
    return getattr(model, "_hf_hook", None) is not None or _is_group_offload_enabled(model)


class CUDAGraphsMixin:
    """Of a pipeline with a `transformer` and a `vae`: `enable_cuda_graphs`."""

    _cuda_graph_steps: CUDAGraphSteps | None = None
    _cuda_graph_decoder: CUDAGraphDecoder | None = None

    def enable_cuda_graphs(self, max_caches: int = 4) -> None:
        """
        Replays as CUDA graphs what takes longer to launch than to run: the text's and all other steps of a generation, and the
        decoder's for the single latent frames of a stream. The results are those of the same kernels without graphs. The first
        call with new sizes, a new batch size or text length records its steps, which takes a few times as long as the call
        itself; later calls with the same replay them.

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
        if is_offloaded(self.transformer):
            raise ValueError("CUDA graphs need the transformer to stay in place: they do not go with offloading.")
        self._cuda_graph_steps = CUDAGraphSteps(max_caches)
        self._cuda_graph_decoder = CUDAGraphDecoder()

    def disable_cuda_graphs(self) -> None:
        """Frees all graphs and the memory they hold."""
        self._cuda_graph_steps = self._cuda_graph_decoder = None

    def decode_chunk(
        self, latents: torch.Tensor, state: AutoencoderVideoARState | None
    ) -> tuple[torch.Tensor, AutoencoderVideoARState]:
        """
        [`AutoencoderVideoAR.decode_chunk`] of the pipeline's tokenizer, in its dtype and as a tuple; a single latent frame by a
        CUDA graph where these are enabled.
        """
        vae = self.vae
        latents = latents.to(vae.dtype)
        # A longer chunk keeps the GPU busy without a graph, and its graph would keep much memory.
        takes_a_graph = self._cuda_graph_decoder is not None and latents.shape[2] == 1
        if not takes_a_graph or vae.use_tiling or vae.use_slicing or is_offloaded(vae):
            return vae.decode_chunk(latents, state, return_dict=False)
        return self._cuda_graph_decoder.decode_chunk(vae, latents, state)

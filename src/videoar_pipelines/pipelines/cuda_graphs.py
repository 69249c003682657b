# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
How a text encoder, the steps of a sampler and the chunks of a decoder are run: as they are, or as CUDA graphs.

A step of VideoAR is hundreds of small kernels, and a GPU runs them faster than Python can launch them. A graph records them once and
launches them all together. It reads and writes fixed addresses: here these are the storage of a key-value cache, which is lent to one
video after the other, and one static tensor for every input. The number of graphs is small: the shapes of a step depend on its scale
and on how much of the cache is filled, and both repeat, from call to call and, with a window, from frame to frame.
"""

import collections
import functools
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map_only, tree_unflatten
from transformers import T5EncoderModel

from ..models.autoencoder_videoar import AutoencoderVideoAR, AutoencoderVideoARState
from ..models.kv_cache import VideoARKVCache
from ..models.text_encoding import run_text_encoder
from ..models.transformer_videoar import VideoARTransformer3DModel


# Of a decoded chunk of several latent frames: a larger one keeps the GPU busy without a graph, and its graph would keep much memory,
# 4 kB a pixel with the paper's tokenizer in bfloat16. A clip of 17x128x128 is recorded.
MAX_RECORDED_PIXELS = 2**19
# Every batch size and number of tokens of a text is a graph.
MAX_RECORDED_TEXTS = 16


class EagerRunner:
    """Runs everything as it is. Also what a [`CUDAGraphRunner`] has to do."""

    def encode_text(
        self, text_encoder: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """See [`text_encoding.run_text_encoder`]."""
        return run_text_encoder(text_encoder, input_ids, attention_mask)

    def lend_cache(self, transformer: VideoARTransformer3DModel, **arguments) -> VideoARKVCache:
        """
        An empty cache for a new video.

        Args:
            transformer ([`VideoARTransformer3DModel`]): The model that will use it.
            **arguments: Of its `make_cache`.
        """
        return transformer.make_cache(**arguments)

    def take_back(self, kv_cache: VideoARKVCache) -> None:
        """A lent cache that its video no longer needs."""

    def run(self, kv_cache: VideoARKVCache, key: Hashable, function: Callable[..., Any], *inputs: Any) -> Any:
        """
        Calls `function(*inputs)`, which writes to a cache and moves it on.

        Args:
            kv_cache ([`VideoARKVCache`]): What has to happen between frames is done
                ([`~VideoARTransformer3DModel.begin_frame`]).
            key (`Hashable`): All that decides what `function` does, but for its inputs and for how much of the cache is filled.
            function (`Callable`):
                Makes tensors of `inputs`, without taking values from a tensor or from the host.
            *inputs: Tensors, numbers or `None`, nested in tuples and dictionaries or not.
        """
        return function(*inputs)

    def decode_chunk(
        self, vae: AutoencoderVideoAR, latents: torch.Tensor, state: AutoencoderVideoARState | None
    ) -> tuple[torch.Tensor, AutoencoderVideoARState]:
        """[`AutoencoderVideoAR.decode_chunk`] in the tokenizer's dtype, and as a tuple."""
        return vae.decode_chunk(latents.to(vae.dtype), state, return_dict=False)

    def encode_chunk(
        self, vae: AutoencoderVideoAR, video: torch.Tensor, state: AutoencoderVideoARState | None
    ) -> tuple[torch.Tensor, AutoencoderVideoARState]:
        """[`AutoencoderVideoAR.encode_chunk`] as a tuple; of what refinement reads."""
        return vae.encode_chunk(video, state, return_dict=False)

    def reencode_chunk(
        self,
        vae: AutoencoderVideoAR,
        latents: torch.Tensor,
        decoder_state: AutoencoderVideoARState | None,
        encoder_state: AutoencoderVideoARState | None,
    ) -> torch.Tensor:
        """Decodes and encodes latents `(B, d, T, H', W')`: the features of these frames. No state moves."""
        pixels, _ = vae.decode_chunk(latents, decoder_state, return_dict=False)
        features, _ = vae.encode_chunk(pixels, encoder_state, return_dict=False)
        return features


@dataclass
class RecordedCall:
    """
    Args:
        replay (`Callable`): Runs the recorded kernels.
        inputs (`list[torch.Tensor]`): What they read; to be filled before.
        outputs (nested `torch.Tensor`): What they write; overwritten by the next replay of any call of the same recorder.
        notes (`dict`): For the owner of the recorder: what happened in Python, which a replay does not repeat.
    """

    replay: Callable[[], None]
    inputs: list[torch.Tensor]
    outputs: Any
    notes: dict = field(default_factory=dict)


class CUDAGraphRecorder:
    """
    Records and replays calls. All of one recorder share their memory, so they run one after the other, whatever thread they are of.

    Args:
        max_calls (`int`, *optional*): How many recorded calls of an owner are kept; the one not used for longest is dropped.
    """

    def __init__(self, max_calls: int | None = None):
        self.max_calls = max_calls
        self._lock = threading.RLock()
        self._calls: weakref.WeakKeyDictionary[Any, dict[Hashable, RecordedCall]] = weakref.WeakKeyDictionary()
        self._memory_pool = None

    def run(self, owner: Any, key: Hashable, function: Callable, *inputs: Any) -> tuple[Any, dict]:
        """
        Calls `function(*inputs)`: records it the first time, replays it afterwards.

        Args:
            owner (`Any`): An object that `function` reads, whose recorded calls go when it does.
            key (`Hashable`): All that decides what `function` does, but for its inputs.
            function (`Callable`):
                Makes tensors of `inputs`, on the GPU and without looking at values. Recording runs it twice.
            *inputs: Tensors, numbers (`function` gets them as float32 scalars on the GPU) or `None`, nested or not.

        Returns:
            `tuple[Any, dict]`: What `function` returns, in new tensors, and the notes of the recorded call.
        """
        items, spec = tree_flatten(inputs)
        shapes = tuple(item.shape if isinstance(item, torch.Tensor) else item is None for item in items)
        key = (key, spec, shapes)
        with self._lock:
            calls = self._calls.setdefault(owner, {})
            call = calls.pop(key, None) or self._record(function, items, spec)
            calls[key] = call  # the last one now
            if self.max_calls is not None and len(calls) > self.max_calls:
                del calls[next(iter(calls))]
            self._fill(call.inputs, items)
            call.replay()
            return tree_map_only(torch.Tensor, torch.clone, call.outputs), call.notes

    @staticmethod
    def _fill(static_inputs: Sequence, items: Sequence) -> None:
        tensors = collections.defaultdict(list)
        for static, item in zip(static_inputs, items, strict=True):
            if isinstance(item, torch.Tensor):
                tensors[item.dtype].append((static, item))
            elif item is not None:
                static.fill_(item)
        for pairs in tensors.values():
            torch._foreach_copy_(*zip(*pairs))  # one kernel for many small tensors of one type

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


class CUDAGraphRunner(EagerRunner):
    """
    Runs a T5, the steps of the transformer, and the tokenizer for single latent frames and small clips, as CUDA graphs. The results
    are those of the same kernels without graphs.

    Args:
        max_caches (`int`, defaults to 4):
            Idle caches that are kept for later videos, with their graphs. The one that has been idle longest is dropped.
    """

    def __init__(self, max_caches: int = 4):
        self.max_caches = max_caches
        # Several recorders, since a stream may decode while it samples, and these two must not share their memory.
        self.steps, self.decoder, self.refinement = CUDAGraphRecorder(), CUDAGraphRecorder(), CUDAGraphRecorder()
        self.text = CUDAGraphRecorder(MAX_RECORDED_TEXTS)
        self._lock = threading.Lock()
        self._idle: list[VideoARKVCache] = []
        self._shapes: weakref.WeakKeyDictionary[VideoARKVCache, Hashable] = weakref.WeakKeyDictionary()

    def encode_text(
        self, text_encoder: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        if not _can_record_text(text_encoder, input_ids):
            return super().encode_text(text_encoder, input_ids, attention_mask)
        # Transformers would take the numbers of the mask from the host: what it is to add is made here
        hidden = attention_mask[:, None, None] == 0
        added = torch.zeros(hidden.shape, dtype=text_encoder.dtype, device=hidden.device)
        added = added.masked_fill(hidden, torch.finfo(text_encoder.dtype).min)
        run_eagerly = functools.partial(super().encode_text, text_encoder)
        return self.text.run(text_encoder, weight_addresses(text_encoder), run_eagerly, input_ids, added)[0]

    def lend_cache(self, transformer: VideoARTransformer3DModel, **arguments) -> VideoARKVCache:
        shape = (transformer, weight_addresses(transformer), tuple(sorted(arguments.items())))
        with self._lock:
            index = next((i for i, kv_cache in enumerate(self._idle) if self._shapes[kv_cache] == shape), None)
            if index is not None:
                kv_cache = self._idle.pop(index)
                kv_cache.clear()
                return kv_cache
        with torch.inference_mode(False):  # or calls outside of inference mode could not write to it
            kv_cache = transformer.make_cache(**arguments)
        self._shapes[kv_cache] = shape
        return kv_cache

    def take_back(self, kv_cache: VideoARKVCache) -> None:
        with self._lock:
            self._idle.append(kv_cache)
            del self._idle[: -self.max_caches]

    def run(self, kv_cache: VideoARKVCache, key: Hashable, function: Callable[..., Any], *inputs: Any) -> Any:
        cursor = kv_cache.cursor
        before = replace(cursor)
        change = {}

        def without_moving_on(*static_inputs: Any) -> Any:
            output = function(*static_inputs)
            change.update(
                length=cursor.length,
                num_written=cursor.num_written - before.num_written,
                has_padding=cursor.has_padding,
            )
            cursor.length, cursor.num_written, cursor.has_padding = (
                before.length,
                before.num_written,
                before.has_padding,
            )
            return output

        key = (key, before.length, before.has_padding)
        output, notes = self.steps.run(kv_cache, key, without_moving_on, *inputs)
        notes.update(change)  # empty on a replay, which repeats none of what happens in Python
        cursor.length, cursor.has_padding = notes["length"], notes["has_padding"]
        cursor.num_written = before.num_written + notes["num_written"]
        return output

    def decode_chunk(
        self, vae: AutoencoderVideoAR, latents: torch.Tensor, state: AutoencoderVideoARState | None
    ) -> tuple[torch.Tensor, AutoencoderVideoARState]:
        is_large = latents.shape[2] > 1 and _num_pixels(vae, latents) > MAX_RECORDED_PIXELS
        if is_large or not _can_be_recorded(vae):
            return super().decode_chunk(vae, latents, state)
        run_eagerly = functools.partial(super().decode_chunk, vae)
        key = weight_addresses(vae.decoder)
        return self._run_chunk(self.decoder, key, vae, run_eagerly, latents.to(vae.dtype), state)

    def encode_chunk(
        self, vae: AutoencoderVideoAR, video: torch.Tensor, state: AutoencoderVideoARState | None
    ) -> tuple[torch.Tensor, AutoencoderVideoARState]:
        if video.shape[2] > vae.temporal_compression_ratio or not _can_be_recorded(vae):
            return super().encode_chunk(vae, video, state)
        run_eagerly = functools.partial(super().encode_chunk, vae)
        key = ("encode", weight_addresses(vae.encoder))
        return self._run_chunk(self.refinement, key, vae, run_eagerly, video, state)

    @staticmethod
    def _run_chunk(
        recorder: CUDAGraphRecorder,
        key: Hashable,
        vae: AutoencoderVideoAR,
        run_eagerly: Callable,
        chunk: torch.Tensor,
        state: AutoencoderVideoARState | None,
    ) -> tuple[torch.Tensor, AutoencoderVideoARState]:
        """Runs a half of the tokenizer for one chunk as a graph: its output, and its state after it."""
        chunk_shape = (len(chunk), *chunk.shape[-2:])

        def run(chunk: torch.Tensor, past: _Past) -> tuple[torch.Tensor, _Past]:
            output, new_state = run_eagerly(chunk, _as_state(past, chunk_shape))
            return output, new_state.tiles[0]

        (output, future), _ = recorder.run(vae, key, run, chunk, _as_past(state))
        return output, _as_state(future, chunk_shape)

    def reencode_chunk(
        self,
        vae: AutoencoderVideoAR,
        latents: torch.Tensor,
        decoder_state: AutoencoderVideoARState | None,
        encoder_state: AutoencoderVideoARState | None,
    ) -> torch.Tensor:
        if latents.shape[2] > 1 or not _can_be_recorded(vae):
            return super().reencode_chunk(vae, latents, decoder_state, encoder_state)
        grid, ratio = latents.shape[-2:], vae.spatial_compression_ratio
        latents_shape = (len(latents), *grid)
        pixels_shape = (len(latents), *(ratio * side for side in grid))
        run_eagerly = super().reencode_chunk

        def reencode(latents: torch.Tensor, decoder_past: _Past, encoder_past: _Past) -> torch.Tensor:
            states = _as_state(decoder_past, latents_shape), _as_state(encoder_past, pixels_shape)
            return run_eagerly(vae, latents, *states)

        key = ("reencode", weight_addresses(vae))
        pasts = _as_past(decoder_state), _as_past(encoder_state)
        return self.refinement.run(vae, key, reencode, latents, *pasts)[0]


# What the chunk before left for the only tile of a chunk.
_Past = Sequence[torch.Tensor] | None


def _num_pixels(vae: AutoencoderVideoAR, latents: torch.Tensor) -> int:
    """Of the frames that are decoded from `(B, d, T, H', W')`, those in front of a video's first one included."""
    num_positions = latents.numel() // latents.shape[1]
    return num_positions * vae.temporal_compression_ratio * vae.spatial_compression_ratio**2


def _can_be_recorded(vae: AutoencoderVideoAR) -> bool:
    return not (vae.use_tiling or vae.use_slicing or is_offloaded(vae))


def _as_past(state: AutoencoderVideoARState | None) -> _Past:
    return None if state is None else state.tiles[0]


def _as_state(past: _Past, chunk_shape: tuple[int, int, int]) -> AutoencoderVideoARState | None:
    return None if past is None else AutoencoderVideoARState(chunk_shape, (past,))


def _can_record_text(text_encoder: torch.nn.Module, input_ids: torch.Tensor) -> bool:
    """A plain T5 looks at no value of a tensor. It need not be where the transformer is, nor stay there."""
    is_plain = isinstance(text_encoder, T5EncoderModel) and getattr(text_encoder, "hf_quantizer", None) is None
    is_in_place = _is_on_current_gpu(input_ids) and not is_offloaded(text_encoder)
    return is_plain and is_in_place and not torch.is_grad_enabled()


def _is_on_current_gpu(tensor: torch.Tensor) -> bool:
    return tensor.is_cuda and tensor.device.index == torch.cuda.current_device()


def is_offloaded(model: torch.nn.Module) -> bool:
    """Whether hooks of accelerate or diffusers move the model's weights around."""
    return getattr(model, "_hf_hook", None) is not None or _is_group_offload_enabled(model)


class CUDAGraphsMixin:
    """Of a pipeline with a `transformer` and a `vae`: `enable_cuda_graphs`."""

    _runner = EagerRunner()

    def enable_cuda_graphs(self, max_caches: int = 4) -> None:
        """
        Replays as CUDA graphs what takes longer to launch than to run: a T5 on the GPU, the text's and all other steps of a generation,
        and the tokenizer for small clips (up to about half a million pixels) and for the single latent frames of a stream and of refinement.
        The results are those of the same kernels without graphs. The first call with new sizes, a new batch size or text length
        records its steps, which takes a few times as long as the call itself; later calls with the same replay them.

        Goes with `transformer.compile_repeated_blocks()` and `transformer.fuse_qkv_projections()`, called before. Call it
        again after a change of the transformer that keeps its place in memory: an attention backend, an adapter or its
        weight.

        Args:
            max_caches (`int`, defaults to 4):
                Caches of different shapes that are kept with their graphs; the one not used for longest is dropped.

        Raises:
            `ValueError`: The transformer is not on a CUDA device, is offloaded, or is shared by processes.
        """
        num_processes = self.transformer.tensor_parallel_degree
        if num_processes > 1:
            raise ValueError(
                f"CUDA graphs would have to record what {num_processes} processes that share the transformer exchange: leave out "
                "`enable_cuda_graphs()`, or `enable_parallelism`."
            )
        device = self.transformer.device
        if device.type != "cuda":
            raise ValueError(
                f"CUDA graphs need the transformer on a CUDA device, but it is on {str(device)!r}. Move the pipeline there, "
                '`pipe.to("cuda")`, before `enable_cuda_graphs()`.'
            )
        if is_offloaded(self.transformer):
            raise ValueError("CUDA graphs need the transformer to stay in place: they do not go with offloading.")
        self._runner = CUDAGraphRunner(max_caches)

    def disable_cuda_graphs(self) -> None:
        """Frees all graphs and the memory they hold."""
        self._runner = EagerRunner()

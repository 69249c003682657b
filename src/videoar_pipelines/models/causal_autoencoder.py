# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What causal video tokenizers share: the state of a stream, runs in slices and tiles, and the checks of what comes in.

Letters used in shapes: `B` batch, `F` pixel frames, `T` latent frames, `(H, W)` pixels, `(H', W')` latent grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.vae import AutoencoderMixin

from .tiling import blend_tiles, tile_spans


# A network takes frames `(B, C, T, H, W)`, what the chunk before it left (`None` starts a video) and whether another chunk
# follows; it gives frames, and what that chunk needs.
CausalNetwork = Callable[
    [torch.Tensor, Sequence[torch.Tensor] | None, bool], tuple[torch.Tensor, Sequence[torch.Tensor] | None]
]


@dataclass
class AutoencoderVideoARState:
    """
    What one network, encoder or decoder, must remember between two chunks of a video. It is never changed: every chunk
    gives a new one, so a stream can be continued twice from the same point.

    Args:
        chunk_shape (`tuple[int, int, int]`): Batch size, height and width of the chunks of this stream.
        tiles (`tuple[tuple[torch.Tensor, ...], ...]`):
            For every spatial tile (one without tiling), for every convolution that sees more than one frame, the input
            frames `(B, n, C, h, w)` that its next window needs.
    """

    chunk_shape: tuple[int, int, int]
    tiles: tuple[tuple[torch.Tensor, ...], ...]


class CausalAutoencoderMixin(AutoencoderMixin):
    """
    Slices, tiles, streaming states and checks of a causal video tokenizer. The model sets `spatial_compression_ratio` and
    `temporal_compression_ratio`, and its configuration has `in_channels` and `latent_channels`.
    """

    use_slicing = False
    use_tiling = False
    tile_sample_min_height = 256
    tile_sample_min_width = 256
    tile_sample_stride_height = 192
    tile_sample_stride_width = 192

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
    ) -> None:
        """
        Encodes and decodes frames that are larger than a tile in overlapping spatial tiles, blended linearly where
        they overlap: memory then depends on the tile and not on the frame. Near the seams the result differs a little
        from one pass.

        Args:
            tile_sample_min_height (`int`, *optional*): Height of a tile in pixels; 256 at first.
            tile_sample_min_width (`int`, *optional*): Width of a tile in pixels; 256 at first.
            tile_sample_stride_height (`int`, *optional*): Rows between two tiles; 192 at first.
            tile_sample_stride_width (`int`, *optional*): Columns between two tiles; 192 at first.
        """
        sizes = {
            "tile_sample_min_height": tile_sample_min_height,
            "tile_sample_min_width": tile_sample_min_width,
            "tile_sample_stride_height": tile_sample_stride_height,
            "tile_sample_stride_width": tile_sample_stride_width,
        }
        sizes = {name: getattr(self, name) if size is None else size for name, size in sizes.items()}
        for name, size in sizes.items():
            self._check_multiple(name, size)
        for side in ("height", "width"):
            tile, stride = sizes[f"tile_sample_min_{side}"], sizes[f"tile_sample_stride_{side}"]
            if stride > tile:
                raise ValueError(
                    f"`tile_sample_stride_{side}` is {stride}: that leaves gaps between tiles of {tile}. Use at "
                    f"most {tile}."
                )
        self.use_tiling = True
        for name, size in sizes.items():
            setattr(self, name, size)

    # 1. Running a network

    def _run(
        self,
        network: CausalNetwork,
        inputs: torch.Tensor,
        latent_size: list[int],
        input_scale: int,
        output_scale: int,
        state: AutoencoderVideoARState | None,
        keep_state: bool,
    ) -> tuple[torch.Tensor, AutoencoderVideoARState | None]:
        """Runs a network on a chunk, sample by sample with slicing, tile by tile with tiling."""
        # 1. Where the tiles are, in latent positions; a tile of a network's input or output is a multiple of it
        row_spans, column_spans = [(0, latent_size[0])], [(0, latent_size[1])]
        if self.use_tiling:
            ratio = self.spatial_compression_ratio
            row_spans = tile_spans(
                latent_size[0], self.tile_sample_min_height // ratio, self.tile_sample_stride_height // ratio
            )
            column_spans = tile_spans(
                latent_size[1], self.tile_sample_min_width // ratio, self.tile_sample_stride_width // ratio
            )
        tiles = [(rows, columns) for rows in row_spans for columns in column_spans]

        # 2. The state belongs to chunks of this shape and to these tiles
        chunk_shape = (inputs.shape[0], *inputs.shape[-2:])
        if state is not None and (state.chunk_shape != chunk_shape or len(state.tiles) != len(tiles)):
            raise ValueError(
                f"`state` is for chunks of (batch, height, width) {state.chunk_shape} in {len(state.tiles)} tile(s), "
                f"this chunk is {chunk_shape} in {len(tiles)}. Pass the state that the chunk before it returned."
            )

        # 3. Run
        outputs, states = [], []
        for index, (rows, columns) in enumerate(tiles):
            past = None if state is None else state.tiles[index]
            tile = inputs
            if len(tiles) > 1:
                tile = inputs[..., slice(*(input_scale * i for i in rows)), slice(*(input_scale * i for i in columns))]
            output, future = self._run_samples(network, tile, past, keep_state)
            outputs.append(output)
            states.append(future)

        # 4. Put together
        output_rows = [(output_scale * start, output_scale * end) for start, end in row_spans]
        output_columns = [(output_scale * start, output_scale * end) for start, end in column_spans]
        output = outputs[0] if len(tiles) == 1 else blend_tiles(outputs, output_rows, output_columns)
        new_state = AutoencoderVideoARState(chunk_shape=chunk_shape, tiles=tuple(states)) if keep_state else None
        return output, new_state

    def _run_samples(
        self,
        network: CausalNetwork,
        inputs: torch.Tensor,
        past: tuple[torch.Tensor, ...] | None,
        keep_state: bool,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]:
        if not self.use_slicing or inputs.shape[0] == 1:
            output, future = network(inputs, past, keep_state)
            return output, tuple(future) if keep_state else None
        outputs, futures = [], []
        for index, sample in enumerate(inputs.split(1)):
            sample_past = None if past is None else [frames[index : index + 1] for frames in past]
            output, future = network(sample, sample_past, keep_state)
            outputs.append(output)
            futures.append(future)
        return torch.cat(outputs), tuple(torch.cat(frames) for frames in zip(*futures)) if keep_state else None

    # 2. Checks

    def _check_multiple(self, name: str, size: int) -> None:
        ratio = self.spatial_compression_ratio
        if size < ratio or size % ratio != 0:
            nearest = max(ratio, round(size / ratio) * ratio)
            raise ValueError(f"`{name}` must be a positive multiple of {ratio}, got {size}. The nearest is {nearest}.")

    def _check_video(self, video: torch.Tensor, is_first_chunk: bool) -> None:
        if video.ndim != 5 or video.shape[1] != self.config.in_channels:
            raise ValueError(
                f"`video` must be (batch, {self.config.in_channels}, frames, height, width), got {tuple(video.shape)}."
            )
        num_frames, height, width = video.shape[2:]
        ratio, extra = self.temporal_compression_ratio, 1 if is_first_chunk else 0
        fewest = 1 if is_first_chunk else ratio
        if num_frames < fewest or (num_frames - extra) % ratio != 0:
            nearest = max(fewest, round((num_frames - extra) / ratio) * ratio + extra)
            rule = f"{ratio}n + 1 frames" if is_first_chunk else f"{ratio}n frames after the first chunk"
            raise ValueError(f"`video` must have {rule}, got {num_frames}. The nearest is {nearest}.")
        self._check_multiple("video height", height)
        self._check_multiple("video width", width)

    def _check_latents(self, latents: torch.Tensor) -> None:
        if latents.ndim != 5 or latents.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"`latents` must be (batch, {self.config.latent_channels}, frames, height, width), got "
                f"{tuple(latents.shape)}."
            )

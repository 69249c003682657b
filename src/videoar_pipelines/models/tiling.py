# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Spatial tiles of frames that are too large to be encoded or decoded at once: where they are, and how they blend."""

import torch


def tile_spans(size: int, tile_size: int, stride: int) -> list[tuple[int, int]]:
    """`(start, end)` of the tiles that cover `size`, all of one size; the last one is moved back to end at `size`."""
    if size <= tile_size:
        return [(0, size)]
    starts = [*range(0, size - tile_size, stride), size - tile_size]
    return [(start, start + tile_size) for start in starts]


def blend_weights(spans: list[tuple[int, int]]) -> list[torch.Tensor]:
    """For every span, a float32 weight for each position: one, with linear ramps where it overlaps its neighbours."""
    weights = []
    for index, (start, end) in enumerate(spans):
        positions = torch.arange(start, end)
        weight = torch.ones(end - start)
        if index > 0:
            overlap = spans[index - 1][1] - start
            weight = torch.minimum(weight, (positions - start + 1) / (overlap + 1))
        if index < len(spans) - 1:
            overlap = end - spans[index + 1][0]
            weight = torch.minimum(weight, (end - positions) / (overlap + 1))
        weights.append(weight)
    return weights


def blend_tiles(
    tiles: list[torch.Tensor], row_spans: list[tuple[int, int]], column_spans: list[tuple[int, int]]
) -> torch.Tensor:
    """Weighted mean of tiles `(B, C, T, h, w)`, in float32, row by row of the grid of tiles."""
    height, width = row_spans[-1][1], column_spans[-1][1]
    total = torch.zeros(*tiles[0].shape[:-2], height, width, device=tiles[0].device)
    total_weight = torch.zeros(height, width, device=tiles[0].device)
    row_weights, column_weights = blend_weights(row_spans), blend_weights(column_spans)
    positions = [(row, column) for row in range(len(row_spans)) for column in range(len(column_spans))]
    for tile, (row, column) in zip(tiles, positions):
        weight = torch.outer(row_weights[row], column_weights[column]).to(tile.device)
        rows, columns = slice(*row_spans[row]), slice(*column_spans[column])
        total[..., rows, columns] += tile * weight
        total_weight[rows, columns] += weight
    return (total / total_weight).to(tiles[0].dtype)

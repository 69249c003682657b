# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Video files that the package itself does not write, for tests."""

from pathlib import Path

import av
import numpy as np


def write_with_codec(path: Path, codec: str, frames: np.ndarray, fps: int = 12, **options: str) -> None:
    """Writes frames `(F, H, W, 3)` in [0, 1] in a format that `VideoWriter` does not write."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for number, image in enumerate(np.rint(frames * 255).astype(np.uint8)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

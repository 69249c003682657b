# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Reading and writing of videos, images and plots, on tensors and arrays. Imports no other room."""

from .line_plot import save_line_plot
from .video_io import VideoReader, VideoWriter, load_image, load_video, save_contact_sheet, save_gif, save_video

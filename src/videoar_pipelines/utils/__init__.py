# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

from .line_plot import save_line_plot
from .video_io import VideoReader, VideoWriter, load_image, load_video, save_contact_sheet, save_gif, save_video

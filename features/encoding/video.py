"""The middle frame of a video, which stands for it (CoOp's UCF101). Needs the extra `video`."""

from __future__ import annotations

import io
from collections import deque
from itertools import islice

from PIL import Image


def is_avi(data: bytes) -> bool:
    """Whether a file's bytes are an AVI's; no other container is opened."""
    return data[:4] == b"RIFF" and data[8:12] == b"AVI "


def middle_frame(data: bytes) -> Image.Image:
    """Frame n // 2 of n, counted from 0, as RGB; of a video that breaks off, the last that can be decoded.

    Raises:
        ValueError: there is no frame, or PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError("a video needs PyAV: pip install -e '.[video]'") from error
    with av.open(io.BytesIO(data), "r", format="avi") as video:
        count = sum(1 for packet in video.demux(video=0) if packet.size > 0)  # a header may lie; a packet is a frame
    with av.open(io.BytesIO(data), "r", format="avi") as video:
        frames = deque(islice(video.decode(video=0), count // 2 + 1), maxlen=1)
    if not frames:
        raise ValueError("a video without a frame")
    return Image.fromarray(frames[0].to_ndarray(format="rgb24"))

"""The middle frame of a video, which represents the video (CoOp's UCF101). Needs the extra `video`."""

from __future__ import annotations

import io
from collections import deque
from itertools import islice

from PIL import Image


def is_avi(data: bytes) -> bool:
    """Return whether a file's bytes are an AVI; no other container is opened."""
    return data[:4] == b"RIFF" and data[8:12] == b"AVI "


def middle_frame(data: bytes) -> Image.Image:
    """Return frame n // 2 of n, counted from 0, as RGB; of a truncated video, the last frame that can be decoded.

    Raises:
        ValueError: the video has no frame, or PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError("reading a video needs PyAV: pip install -e '.[video]'") from error

    # A header may state a wrong number of frames, so packets are counted: one packet is one frame in an AVI.
    with av.open(io.BytesIO(data), "r", format="avi") as video:
        count = sum(1 for packet in video.demux(video=0) if packet.size > 0)

    with av.open(io.BytesIO(data), "r", format="avi") as video:
        frames = deque(islice(video.decode(video=0), count // 2 + 1), maxlen=1)
    if not frames:
        raise ValueError("the video has no frame")
    return Image.fromarray(frames[0].to_ndarray(format="rgb24"))

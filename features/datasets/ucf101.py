"""UCF101, the middle frame of each video, with CoOp's split: 101 classes, 7,639 / 1,898 / 3,783 (CoOp, Table 5).

A copy has either CoOp's prepared frames, `UCF-101-midframes/Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c01.jpg`, or the
videos, `UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`. From a video,
`features.encoding.video` takes the middle frame. CoOp does not document how its frames were selected and compressed, so
the two may give different features.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar

from features.datasets.base import Counts, Origin, Templates
from features.splits.split_zhou import SplitReader

VIDEOS = "UCF-101"


class Ucf101(SplitReader):
    """Options of `reader: ucf101`."""

    path: str = "ucf101"

    layout: ClassVar[str] = (
        "UCF-101-midframes/<Class>/v_....jpg as CoOp's instructions make it, or UCF-101/<Class>/v_....avi"
    )
    source: ClassVar[str] = (
        "CoOp's frames are at https://drive.google.com/file/d/10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O/view: unpack the zip "
        "into data.root/ucf101. Or the videos: fetch https://www.crcv.ucf.edu/data/UCF101/UCF101.rar, `unrar x` it "
        "there, and install the extra `video`"
    )
    images: ClassVar[tuple[str, ...]] = ("UCF-101-midframes", VIDEOS)
    split_file: ClassVar[str] = "split_zhou_UCF101.json"
    packaged_split: ClassVar[Path | None] = Path(__file__).with_suffix(".json.gz")
    templates: Templates = ("a photo of a person doing {}.",)
    origin: ClassVar[Origin] = Origin(
        title="UCF101, middle frames",
        licence="not stated; for research",
        home="https://www.crcv.ucf.edu/data/UCF101.php",
        citation="Soomro, Zamir, Shah: UCF101: a dataset of 101 human actions classes from videos in the wild, 2012",
        counts=Counts(train=7639, val=1898, test=3783, classes=101),
    )

    def path_on_disk(self, path: str, folder: Path) -> str:
        """Return the video of a frame: the folder without `_` between its words, the file with the suffix `.avi`."""
        if folder.name != VIDEOS:
            return path
        frame = PurePosixPath(path)
        return f"{frame.parent.name.replace('_', '')}/{frame.stem}.avi"

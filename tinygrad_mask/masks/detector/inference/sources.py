"""What a user names to look at: photographs, folders, videos, streams and cameras.

Everything that can be refused is refused here, before the first photograph is looked at.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.file_names import printable
from tinygrad_mask.masks.images import is_image_file
from tinygrad_mask.masks.video import VIDEO_SUFFIXES, is_stream, is_video_file, without_password

_MARK = ".detected"
"""What the names of drawn photographs and videos have before their suffix."""

UNREADABLE = "cannot be read"
"""The kind of issue of what a user named and nobody could look at."""


class Kind(Enum):
    """What a source is."""

    PHOTOGRAPH = "photograph"
    VIDEO = "video"
    LIVE = "live"


@dataclass(frozen=True)
class Source:
    """Something to look at.

    `place` is what opens it: the path of a file, the address of a stream or the number of a camera;
    `drawn` is the path, relative to the folder of drawn pictures, of what is drawn of it.
    """

    kind: Kind
    place: str | int
    drawn: Path

    @property
    def name(self) -> str:
        """What it is called in messages and answers."""
        if isinstance(self.place, int):
            return f"camera {self.place}"
        return without_password(self.place) if self.kind is Kind.LIVE else self.place

    @property
    def stem(self) -> str:
        """The name of the file without folder and suffix."""
        return Path(self.name).stem


def find_sources(
    paths: Sequence[str], cameras: Sequence[int], issues: DataIssues
) -> tuple[list[Source], list[Source]]:
    """Return the photographs, and the videos and live sources, in the order of the paths.

    Folders are searched with all folders in them, in alphabetical order; of hidden files, and of
    those that an earlier run drew, nothing is looked at. A file that is named twice is looked at
    once. What is missing, is neither a file nor a folder, or cannot be listed is told to `issues`.
    Raises `UsageError` if there is nothing to look at.
    """
    found: list[Source] = []
    seen: set[str] = set()
    for path in paths:
        if is_stream(path):
            found.append(Source(Kind.LIVE, path, _drawn(Path(_file_name(path)), video=True)))
            continue
        for file, below in _files(path, issues):
            absolute = os.path.abspath(file)
            if absolute not in seen:
                seen.add(absolute)
                video = Path(file).suffix.lower() in VIDEO_SUFFIXES
                kind = Kind.VIDEO if video else Kind.PHOTOGRAPH
                found.append(Source(kind, file, _drawn(below, video=video)))
    found += [Source(Kind.LIVE, n, Path(f"camera-{n}{_MARK}.mp4")) for n in cameras]
    if not found and not issues.items:
        raise UsageError(
            f"{', '.join(paths)}: expected photographs or videos, found none; the names of "
            "photographs end in .jpg or .png, those of videos in .mp4 or .mkv, for example"
        )
    return (
        [source for source in found if source.kind is Kind.PHOTOGRAPH],
        [source for source in found if source.kind is not Kind.PHOTOGRAPH],
    )


def refuse_overwriting(sources: Sequence[Source], folder: Path) -> None:
    """Raise `UsageError` if what is to be drawn exists, or if two sources would be drawn as one.

    Creates the folder.
    """
    for drawn, count in Counter(source.drawn for source in sources).items():
        if count > 1:
            names = " and ".join(s.name for s in sources if s.drawn == drawn)
            raise UsageError(
                f"--out: {names} would both be drawn into {folder / drawn}; name them in two runs"
            )
        if (folder / drawn).exists():
            raise UsageError(
                f"{folder / drawn} exists already and is not overwritten; --out names another "
                "folder"
            )
    for below in sorted({folder, *((folder / source.drawn).parent for source in sources)}):
        try:
            below.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{below}: no pictures can be drawn there ({error.strerror})") from (
                error
            )


def refuse_equal_stems(sources: Sequence[Source]) -> None:
    """Raise `UsageError` if a file of detections could not tell two sources apart."""
    for source in sources:
        if source.kind is Kind.LIVE:
            raise UsageError(
                f"--detections: expected photographs and video files, got {source.name}, which has "
                "no end; leave --detections out"
            )
    for stem, count in Counter(source.stem for source in sources).items():
        if count > 1:
            names = " and ".join(source.name for source in sources if source.stem == stem)
            raise UsageError(
                f"--detections: {names} would both have the image_id {stem!r}; rename one, or name "
                "them in two runs"
            )


def _files(path: str, issues: DataIssues) -> Iterator[tuple[str, Path]]:
    """Yield each file that a path stands for, and where it is below the path."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        issues.warn(UNREADABLE, printable(path), getattr(error, "strerror", None) or str(error))
        return
    if stat.S_ISREG(mode):
        yield path, Path(Path(path).name)
    elif stat.S_ISDIR(mode):
        yield from _files_of_folder(path, issues)
    else:  # a FIFO would be waited for, a device might never end
        issues.warn(UNREADABLE, printable(path), "neither a file nor a folder")


def _files_of_folder(path: str, issues: DataIssues) -> Iterator[tuple[str, Path]]:
    def unreadable(error: OSError) -> None:
        issues.warn(UNREADABLE, printable(str(error.filename)), error.strerror or str(error))

    for folder, below, files in os.walk(path, onerror=unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(files):
            file = Path(folder, name)
            if Path(file.stem).suffix != _MARK and (is_image_file(file) or is_video_file(file)):
                yield str(file), Path(os.path.relpath(file, path))


def _drawn(name: Path, *, video: bool) -> Path:
    return name.with_name(f"{name.name}{_MARK}{'.mp4' if video else '.jpg'}")


def _file_name(address: str) -> str:
    """A file name made of the address of a stream, without a password that may be in it."""
    _, _, place = without_password(address).partition("://")
    return re.sub(r"[^\w.-]+", "-", place).strip("-.") or "stream"

"""The command `detect`: faces in photographs, folders, videos, streams and cameras."""

import argparse
import math
import sys
from pathlib import Path

from tinygrad_mask import resolve_device
from tinygrad_mask.files import check_folder
from tinygrad_mask.masks.classifier.network.classifier import Classifier
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.detector.inference.photographs import LOWEST_SCORE, AnswerSettings
from tinygrad_mask.masks.detector.inference.session import Session
from tinygrad_mask.masks.detector.inference.sources import (
    Kind,
    find_sources,
    refuse_equal_stems,
    refuse_overwriting,
)
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.file_names import printable
from tinygrad_mask.masks.model_files import MODEL_HELP, PRETRAINED

_NO_CLASSIFIER = "none"

_EPILOG = """\
answers:
  proper, improper, none   how the mask is worn, with its probability
  unsure                   the most probable of them has less than --confidence
  too small                the shorter side of the face has less than --min-face pixels

examples:
  tinygrad-mask detect street.jpg
  tinygrad-mask detect photographs/ --out drawn/
  tinygrad-mask detect door.mp4 --out drawn/ --json > frames.jsonl
  tinygrad-mask detect --camera 0
  tinygrad-mask detect rtsp://192.0.2.1/live
"""


def add_detect_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a detection can be told."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Find every face in photographs and videos, and say how its mask is worn. In a video a\n"
        "person keeps a number from frame to frame, and persons are counted, not frames."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a photograph, a video, a folder of them (with all folders in it), or the address of "
        "a stream: rtsp://, http://",
    )
    parser.add_argument(
        "--camera", type=int, metavar="N", help="look at a camera (Linux: /dev/videoN); Ctrl-C ends"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="draw the faces into photographs (DIR/NAME.detected.jpg) and videos "
        "(DIR/NAME.detected.mp4, without sound); nothing is overwritten",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON lines: an object per photograph, frame and person, and a summary",
    )
    parser.add_argument(
        "--detections",
        type=Path,
        metavar="FILE",
        help="write detections in COCO's result format, one per face and class, down to a face "
        f"score of {LOWEST_SCORE:g}; image_id is the name without suffix, of a frame NAME/NUMBER",
    )
    add_model_arguments(parser)
    defaults = AnswerSettings()
    parser.add_argument(
        "--least-score",
        type=_share,
        default=defaults.least_score,
        metavar="P",
        help="take for a face what is one with at least this probability (default: %(default)g); "
        "less finds more faces, and more that are none",
    )
    parser.add_argument(
        "--confidence",
        type=_share,
        default=defaults.confidence,
        metavar="P",
        help="answer `unsure` below this probability (default: %(default)g)",
    )
    parser.add_argument(
        "--min-face",
        type=_pixels,
        default=defaults.min_face,
        metavar="PIXELS",
        help="answer `too small` below this size (default: %(default)g)",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.set_defaults(run=detect_command)


def detect_command(arguments: argparse.Namespace) -> int:
    """Find the faces as the arguments say.

    Returns the exit code: 1 if something could not be read, after the rest was answered.
    """
    if not arguments.paths and arguments.camera is None:
        raise UsageError("detect: expected a PATH or --camera N, got neither")
    issues = DataIssues()
    cameras = [] if arguments.camera is None else [arguments.camera]
    photographs, videos = find_sources(arguments.paths, cameras, issues)
    sources = [*photographs, *videos]
    if len([source for source in videos if source.kind is Kind.LIVE]) > 1:
        raise UsageError(
            "detect: expected at most one camera or stream, got more; look at each in a run of its "
            "own"
        )
    # All that can be refused is refused before the work, not after it.
    if arguments.detections is not None:
        refuse_equal_stems(sources)
        check_folder(arguments.detections)
        if arguments.detections.exists():
            raise UsageError(f"{arguments.detections} exists already and is not overwritten")
    device = resolve_device(arguments.device)
    detector = load_model(arguments.model, arguments.classifier, device)
    if arguments.out is not None:
        refuse_overwriting(sources, arguments.out)
    session = Session(
        detector,
        AnswerSettings(arguments.least_score, arguments.confidence, arguments.min_face),
        issues,
        as_json=arguments.json,
        out=arguments.out,
        detections=arguments.detections,
    )
    session.answer_photographs(photographs)
    for source in sorted(videos, key=lambda source: source.kind is Kind.LIVE):
        session.answer_video(source)
    session.finish()
    print(_next(arguments), file=sys.stderr)
    return 0 if session.complete else 1


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the models that `load_model` is given."""
    parser.add_argument(
        "--model",
        default=PRETRAINED,
        metavar="MODEL",
        help=f"the detector: {MODEL_HELP} (the default)",
    )
    parser.add_argument(
        "--classifier",
        default=PRETRAINED,
        metavar="MODEL",
        help="the second opinion about each face, a model of `train`; its probabilities and the "
        f"detector's are averaged; {_NO_CLASSIFIER} goes without (default: {PRETRAINED})",
    )


def load_model(model: str, classifier: str, device: str) -> Detector:
    """Return a detector with its classifier (`none`: without one), on a device.

    Raises `UsageError` if there is no such model.
    """
    second = None if classifier == _NO_CLASSIFIER else Classifier.load(classifier)
    detector = Detector.load(model, second)
    detector.model.to(device)
    if second is not None:
        second.model.to(device)
    return detector


def _next(arguments: argparse.Namespace) -> str:
    if arguments.out is not None:
        return f"next: look into {arguments.out}; tinygrad-mask predict --explain asks why"
    what = arguments.paths[0] if arguments.paths else f"--camera {arguments.camera}"
    return f"next: tinygrad-mask detect {printable(what)} --out DIR, to see the faces"


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def _pixels(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value

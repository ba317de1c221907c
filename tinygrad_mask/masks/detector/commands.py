"""The commands that train and judge a detector: their arguments, and what they do."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from tinygrad_mask.masks.datasets import SYNTHETIC_COUNT, parse_classes
from tinygrad_mask.masks.detector.evaluation.judging import format_judgement
from tinygrad_mask.masks.detector.runs import pipeline
from tinygrad_mask.masks.detector.runs.config import DetectorRunConfig
from tinygrad_mask.masks.detector.training.recipe import DetectorRecipe
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.model_files import MODEL_HELP
from tinygrad_mask.masks.runs.arguments import (
    BOXES_HELP,
    add_data_arguments,
    check_resumed_alone,
    option_error,
    run_folder_path,
)

_DATA_HELP = f"{BOXES_HELP}, or synthetic[:COUNT]; may be repeated"

_NOT_OPTIONS = ("run", "command", "resume")

_RECIPE_OPTIONS = {
    "batch_size": "images a step",
    "lr": "the highest learning rate",
    "weight_decay": "the weight decay",
    "weight_average": "the decay of the average of the weights, 0 for none",
    "class_balance": "0: every face counts the same, 1: every label",
    "min_face": "the smallest face learned from, in pixels of an image that is trained on",
}

_AUGMENTATION_OPTIONS = {
    "image_size": ("size", "pixels a side of the images that are cut out and trained on"),
    "mosaic": ("mosaic", "the share of images that are put together of four"),
}


def add_train_detector_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a training run."""
    # No defaults here: --resume has to tell what was given from what was not.
    recipe = DetectorRecipe()
    parser.add_argument("--data", action="append", metavar="PATH", help=_DATA_HELP)
    parser.add_argument(
        "--steps", type=int, help=f"steps in all, of whole epochs (default: {recipe.steps})"
    )
    parser.add_argument(
        "--epochs",
        type=int,
        help="the parts of the run, after each of which the detector is saved and judged "
        f"(default: {recipe.epochs})",
    )
    for option, what in _RECIPE_OPTIONS.items():
        default = getattr(recipe, option)
        _add_number(parser, option, default, what)
    for option, (name, what) in _AUGMENTATION_OPTIONS.items():
        _add_number(parser, option, getattr(recipe.augmentation, name), what)
    parser.add_argument(
        "--validation", type=float, help="the share of photographs held back (default: 0.2)"
    )
    parser.add_argument(
        "--initial",
        metavar="MODEL",
        help="a detector whose weights to begin with, trained on none of the photographs that are "
        "judged, or the figures flatter (default: random)",
    )
    parser.add_argument("--seed", type=int, help="of everything random (default: 0)")
    parser.add_argument("--threads", type=int, help="threads of the CPU's kernels (default: cores)")
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, help="the run folder (default: runs/detector-TIME)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with the run in this folder; alone, or with --epochs N to train it until N "
        "epochs are done, with the learning rates that a run of N epochs has from there on",
    )
    parser.set_defaults(run=train_detector_command)


def add_evaluate_detector_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what an evaluation can be told."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--data", action="append", required=True, metavar="PATH", help=_DATA_HELP)
    parser.add_argument(
        "--classifier",
        metavar="MODEL",
        help="a classifier as the second stage; photographs that it was trained on are left out "
        "too (default: none)",
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--seed", type=int, default=1, help="of drawn photographs (default: 1; training takes 0)"
    )
    parser.add_argument(
        "--include-training",
        action="store_true",
        help="judge also the photographs that were trained on; the figures are then too good",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write a report with precision-recall curves, the worst misses and false alarms",
    )
    parser.set_defaults(run=evaluate_detector_command)


def _add_number(
    parser: argparse.ArgumentParser, option: str, default: int | float, what: str
) -> None:
    parser.add_argument(
        f"--{option.replace('_', '-')}", type=type(default), help=f"{what} (default: {default:g})"
    )


def train_detector_command(arguments: argparse.Namespace) -> None:
    """Train, or resume, as the arguments say."""
    if arguments.resume is not None:
        check_resumed_alone(arguments, ["epochs"], _NOT_OPTIONS)
        pipeline.resume_detector(arguments.resume, arguments.epochs)
        return
    config = DetectorRunConfig(
        data=tuple(arguments.data or ["synthetic"]),
        recipe=_recipe(arguments),
        classes=parse_classes(arguments.classes) if arguments.classes else {},
        **{
            name: getattr(arguments, name)
            for name in ("validation", "seed", "device", "threads", "other_coverings", "initial")
            if getattr(arguments, name) is not None
        },
    )
    if arguments.data is None:
        print(
            f"without --data: training on {SYNTHETIC_COUNT:,} drawn photographs; "
            "--data FOLDER names real ones\n"
        )
    with run_folder_path(arguments.out, "detector") as out:
        pipeline.train_detector(config, out)


def evaluate_detector_command(arguments: argparse.Namespace) -> None:
    """Evaluate as the arguments say."""
    evaluation = pipeline.evaluate_detector(
        arguments.model,
        arguments.data,
        classifier=arguments.classifier,
        classes=parse_classes(arguments.classes) if arguments.classes else None,
        other_coverings=arguments.other_coverings,
        seed=arguments.seed,
        device=arguments.device or "auto",
        include_training=arguments.include_training,
        out=arguments.out,
    )
    if arguments.json:
        print(json.dumps(evaluation.to_json(), indent=1))
        return
    print(format_judgement(evaluation.judgement))
    if arguments.out is None:
        print("\nnext: --out DIR writes curves and the worst mistakes", file=sys.stderr)
    else:
        print(f"\n{arguments.out}: report and pictures", file=sys.stderr)


def _recipe(arguments: argparse.Namespace) -> DetectorRecipe:
    """Return the recipe with what the arguments change of it."""
    recipe = DetectorRecipe()
    epochs, steps = recipe.epochs, recipe.steps
    if arguments.steps is not None:
        steps = arguments.steps
        epochs = max(min(epochs, steps), 1)
    if arguments.epochs is not None:
        epochs = arguments.epochs
    if steps < epochs:
        raise UsageError(f"--steps: expected at least one per epoch, got {steps} for {epochs}")
    try:
        augmentation = {
            name: getattr(arguments, option) for option, (name, _) in _AUGMENTATION_OPTIONS.items()
        }
        return dataclasses.replace(
            recipe,
            epochs=epochs,
            steps_per_epoch=-(-steps // max(epochs, 1)),
            augmentation=dataclasses.replace(recipe.augmentation, **_given(augmentation)),
            **_given({name: getattr(arguments, name) for name in _RECIPE_OPTIONS}),
        )
    except ValueError as error:
        options = {name: name for name in ("epochs", *_RECIPE_OPTIONS)}
        options |= {name: option for option, (name, _) in _AUGMENTATION_OPTIONS.items()}
        raise option_error(error, options) from error


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}

"""The classifier's commands: their arguments, and what they do."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tinygrad_mask.masks.classifier.evaluation.metrics import format_metrics
from tinygrad_mask.masks.classifier.network.architecture import KINDS, architecture_of
from tinygrad_mask.masks.classifier.runs import cross_validation, pipeline
from tinygrad_mask.masks.classifier.runs.config import GROUPINGS, Design, RunConfig
from tinygrad_mask.masks.classifier.runs.run_folder import ClassifierRunFolder
from tinygrad_mask.masks.classifier.runs.slides_protocol import run_slides_protocol
from tinygrad_mask.masks.classifier.training.recipes import RECIPES
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.datasets import SYNTHETIC_COUNT, parse_classes
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.model_files import MODEL_HELP
from tinygrad_mask.masks.runs.arguments import (
    DATA_HELP,
    add_data_arguments,
    check_resumed_alone,
    option_error,
    run_folder_path,
)

_NOT_OPTIONS = ("run", "default_model", "design", "command", "resume")

_RECIPE_OPTIONS = {
    "epochs": "times through the data",
    "batch_size": "faces a step",
    "lr": "the learning rate",
    "weight_decay": "the weight decay",
}


def add_train_arguments(
    parser: argparse.ArgumentParser, model: str = "cnn", design: Design | None = None
) -> None:
    """Add the options of a training run.

    `model` is the default of --model, for which a `design` takes the place of the package's.
    """
    # No defaults here: --resume has to tell what was given from what was not.
    parser.add_argument("--data", action="append", metavar="PATH", help=DATA_HELP)
    parser.add_argument("--model", choices=KINDS, help=f"the network (default: {model})")
    for option, what in _RECIPE_OPTIONS.items():
        defaults = ", ".join(f"{kind} {getattr(RECIPES[kind], option):g}" for kind in KINDS)
        parser.add_argument(
            f"--{option.replace('_', '-')}",
            type=type(getattr(RECIPES[model], option)),
            help=f"{what} (default: {defaults})",
        )
    size = CropSettings().size
    parser.add_argument("--image-size", type=int, help=f"pixels a side of a face (default: {size})")
    parser.add_argument(
        "--validation", type=float, help="the share of photographs held back (default: 0.2)"
    )
    parser.add_argument(
        "--cross-validate",
        type=int,
        metavar="K",
        help="instead of one run, K runs that each hold back another part of the photographs",
    )
    parser.add_argument(
        "--protocol",
        choices=["slides"],
        help="instead of one run, the experiment of the slides (a course project of 2022 that this "
        "package began with: README, 'The slides' experiment'), as they did it and with today's "
        "settings",
    )
    parser.add_argument(
        "--extra",
        action="append",
        metavar="PATH",
        help="with --cross-validate: data that are trained on and never judged; may be repeated",
    )
    parser.add_argument(
        "--group-by",
        choices=GROUPINGS,
        help="what is never divided between training and judging: photographs with their copies, "
        "or all photographs of an event (default: photograph)",
    )
    parser.add_argument(
        "--initial",
        metavar="MODEL",
        help="a model whose weights to begin with, trained on none of the photographs that are "
        "judged, or the figures flatter (default: random)",
    )
    parser.add_argument("--seed", type=int, help="of everything random (default: 0)")
    add_data_arguments(parser)
    parser.add_argument(
        "--graph",
        action="store_const",
        const=True,
        help="give a GPU each step as a whole (a CUDA graph): faster for small networks",
    )
    parser.add_argument("--out", type=Path, help="the run folder (default: runs/MODEL-TIME)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with the run in this folder; alone, or with --epochs N to train it until N "
        "epochs are done, with the learning rates that a run of N epochs has from there on",
    )
    parser.set_defaults(run=train_command, default_model=model, design=design)


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what an evaluation can be told."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--data", action="append", required=True, metavar="PATH", help=DATA_HELP)
    add_data_arguments(parser)
    parser.add_argument(
        "--seed", type=int, default=1, help="of drawn faces (default: 1; training takes 0)"
    )
    parser.add_argument(
        "--include-training",
        action="store_true",
        help="judge also the faces that the model was trained on; the figures are then too good",
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    parser.set_defaults(run=evaluate_command)


def train_command(arguments: argparse.Namespace) -> None:
    """Train, or resume, as the arguments say."""
    if arguments.resume is not None:
        check_resumed_alone(arguments, ["epochs"], _NOT_OPTIONS)
        folder = ClassifierRunFolder(arguments.resume)
        content = folder.read_config()
        if "protocol" in content:
            raise UsageError(f"{arguments.resume}: the slides' protocol has to begin anew")
        if RunConfig.from_json(folder.config, content).cross_validate is None:
            pipeline.resume(arguments.resume, arguments.design, arguments.epochs)
        elif arguments.epochs is not None:
            raise UsageError(
                f"{arguments.resume}: a cross-validation cannot be extended: no --epochs"
            )
        else:
            cross_validation.resume(arguments.resume, arguments.design)
        return
    kind = arguments.model or arguments.default_model
    chosen = {name: getattr(arguments, name) for name in _RECIPE_OPTIONS}
    crops = CropSettings()
    try:
        recipe = dataclasses.replace(
            RECIPES[kind], **{name: value for name, value in chosen.items() if value is not None}
        )
        if arguments.image_size is not None:
            crops = dataclasses.replace(crops, size=arguments.image_size)
        architecture_of(kind, crops.size)  # refuses a size that its poolings cannot halve
    except ValueError as error:
        raise option_error(
            error, {name: name for name in (*_RECIPE_OPTIONS, "image_size")}
        ) from error
    if arguments.data is None:
        print(
            f"without --data: training on {SYNTHETIC_COUNT:,} drawn photographs; "
            "--data FOLDER names real ones\n"
        )
    config = RunConfig(
        data=tuple(arguments.data or ["synthetic"]),
        model=kind,
        recipe=recipe,
        crops=crops,
        classes=parse_classes(arguments.classes) if arguments.classes else {},
        **{
            name: getattr(arguments, name)
            for name in (
                "validation",
                "seed",
                "device",
                "graph",
                "other_coverings",
                "cross_validate",
                "initial",
                "group_by",
            )
            if getattr(arguments, name) is not None
        },
        extra=tuple(arguments.extra or ()),
    )
    if arguments.protocol and (config.cross_validate or arguments.validation is not None):
        raise UsageError(
            "--protocol says by itself what is held back: no --validation, no --cross-validate"
        )
    if config.cross_validate is not None:
        if arguments.validation is not None:
            raise UsageError(
                "--cross-validate says by itself how much is held back: no --validation"
            )
        work: Callable[[RunConfig, Path, Design | None], object] = cross_validation.cross_validate
    elif config.extra:
        raise UsageError("--extra goes with --cross-validate; a single run takes it as --data")
    else:
        work = run_slides_protocol if arguments.protocol else pipeline.train
    with run_folder_path(arguments.out, arguments.protocol or kind) as out:
        work(config, out, arguments.design)


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Evaluate as the arguments say."""
    evaluation = pipeline.evaluate(
        arguments.model,
        arguments.data,
        classes=parse_classes(arguments.classes) if arguments.classes else None,
        other_coverings=arguments.other_coverings,
        seed=arguments.seed,
        device=arguments.device or "auto",
        include_training=arguments.include_training,
    )
    if arguments.json:
        print(json.dumps(evaluation.to_json(), indent=1))
        return
    print(format_metrics(evaluation.metrics))
    print(f"\nnext: tinygrad-mask predict --model {arguments.model} PICTURE", file=sys.stderr)

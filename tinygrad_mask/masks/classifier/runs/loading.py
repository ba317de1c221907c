"""Load the data sets of a run and crop their faces."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask import resolve_device
from tinygrad_mask.masks.classifier.runs.config import RunConfig
from tinygrad_mask.masks.classifier.runs.run_folder import ClassifierRunFolder
from tinygrad_mask.masks.crops import CropSettings
from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets import open_datasets
from tinygrad_mask.masks.duplicates import duplicate_groups
from tinygrad_mask.masks.events import event_groups, origin_groups
from tinygrad_mask.masks.faces import FaceSet, crop_faces
from tinygrad_mask.masks.summary import summarise

WORKERS = 2
"""Threads that decode photographs."""


@dataclass(frozen=True, eq=False)
class LoadedData:
    """The faces of some data sets, which of their photographs go together, and what was left out.

    `groups` (len(faces.photographs),) are those of `origin_groups`, or of `event_groups`; `judged`,
    of the same shape, is False for photographs that are there to be trained on only.
    """

    faces: FaceSet
    groups: NDArray[np.int64]
    judged: NDArray[np.bool_]
    issues: DataIssues

    @property
    def summary(self) -> str:
        """What there is to learn from, as a table."""
        return summarise(self.faces, self.groups, self.issues)

    def positions(self, photographs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of the faces in these photographs."""
        return np.flatnonzero(np.isin(self.faces.photograph, photographs))


def load(
    paths: Sequence[str],
    crops: CropSettings,
    *,
    extra: Sequence[str] = (),
    min_face: float,
    border: int = 0,
    classes: Mapping[str, str] | None,
    other_coverings: str | None,
    seed: int,
    group_by: str = "photograph",
) -> LoadedData:
    """Open data sets, crop their faces and find the photographs that go together.

    Photographs of the data sets `extra` are not judged; for the rest see `open_dataset`,
    `crop_faces` and `RunConfig`.
    """
    issues = DataIssues()
    judged, others = (
        open_datasets(some, issues, classes=classes, other_coverings=other_coverings, seed=seed)
        for some in (paths, extra)
    )
    faces = crop_faces(
        [*judged, *others],
        crops,
        issues,
        min_face=min_face,
        border=border,
        workers=WORKERS,
        progress=sys.stderr.isatty(),
    )
    to_judge = {id(photograph) for photograph in judged}
    groups = origin_groups(faces.photographs, duplicate_groups(faces.hashes))
    if group_by == "event":
        groups = event_groups(faces.photographs, groups)
    return LoadedData(
        faces,
        groups,
        np.array([id(photograph) in to_judge for photograph in faces.photographs]),
        issues,
    )


def load_for(config: RunConfig) -> LoadedData:
    """Load the data sets of a run, with as much round the faces as its augmentation asks for."""
    augmentation = config.recipe.augmentation
    return load(
        config.data,
        config.crops,
        extra=config.extra,
        # Cross-validation judges every face, however small.
        min_face=config.min_face if config.cross_validate is None else 0,
        border=0 if augmentation is None else augmentation.border_pixels(config.crops.size),
        classes=config.classes,
        other_coverings=config.other_coverings,
        seed=config.seed,
        group_by=config.group_by,
    )


def load_unfinished(
    folder: ClassifierRunFolder, epochs: int | None = None
) -> tuple[RunConfig, LoadedData]:
    """Return the settings and the data of a run to go on with.

    With `epochs` the run is extended to so many, also if it was finished. Raises `UsageError` if
    the folder is that of no such run, `DeviceError` for a device that is not available.
    """
    config = RunConfig.from_json(folder.config, folder.read_config())
    folder.check_resumable(epochs, config.recipe.epochs)
    if epochs is not None:
        config = replace(config, recipe=replace(config.recipe, epochs=epochs))
    resolve_device(config.device)  # before the work, not after it
    data = load_for(config)
    if epochs is not None:
        folder.extend(config.to_json())
    return config, data

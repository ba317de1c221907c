"""All settings of a detector's run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture
from tinygrad_mask.masks.detector.network.input import InputSettings
from tinygrad_mask.masks.detector.training.recipe import DetectorRecipe
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.schemas import convert


@dataclass(frozen=True)
class DetectorRunConfig:
    """All settings of a run, as `config.json` keeps them.

    `data` are the data sets (see `open_dataset`), `validation` the share of photographs held back,
    `threads` the number of threads of the kernels, None for the number that they choose. `initial`
    is a detector, a file or run folder, whose weights training begins with instead of random ones.
    `input` is how photographs are resized before the trained detector sees them.
    """

    data: tuple[str, ...]
    recipe: DetectorRecipe = field(default_factory=DetectorRecipe)
    architecture: DetectorArchitecture = field(default_factory=DetectorArchitecture)
    input: InputSettings = field(default_factory=InputSettings)
    validation: float = 0.2
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    other_coverings: str | None = None
    initial: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the settings by name, those of the recipe, network and input among them."""
        return asdict(self)

    @classmethod
    def from_json(cls, path: Path, content: Mapping[str, Any]) -> "DetectorRunConfig":
        """Return the settings that `path` holds; raises `UsageError` where they are others."""
        try:
            return convert(content, cls)
        except ValueError as error:
            raise UsageError(f"{path}: not the settings of a detector's run ({error})") from error

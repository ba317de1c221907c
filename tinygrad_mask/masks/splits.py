"""Which photographs are trained on and which are held back: by photograph, never by face."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.schemas import decode_json


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of photographs, int64 and ascending, on each side; each is on one side only."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass(frozen=True)
class _Group:
    """Photographs that must stay together, and the labels that they hold."""

    photographs: tuple[int, ...]
    labels: frozenset[str]


def split_photographs(
    photograph_labels: Sequence[Sequence[str]],
    groups: NDArray[np.int64],
    validation: float,
    seed: int,
) -> Split:
    """Hold back a share of photographs, groups undivided and labels shared out alike.

    `photograph_labels` are the labels of each photograph's faces, `groups` (n,) its group as from
    `duplicate_groups`. Groups are sorted by the rarest label that they hold, and of each sort
    `validation` of the photographs is drawn by `seed`. A label that two groups or more hold is on
    both sides, where that can be had.

    Raises `UsageError` for a share not between 0 and 1, if all faces have one label, and if fewer
    than two groups hold faces. Whether a run can use the split, `check_split` says.
    """
    check_share(validation)
    strata = list(_strata(photograph_labels, groups).values())
    labels = sorted(set().union(*photograph_labels))
    if len(labels) < 2:
        held = f"all are '{labels[0]}'" if labels else "there are none"
        raise UsageError(f"training expects faces of at least two classes; {held}")
    with_faces = sum(bool(group.labels) for stratum in strata for group in stratum)
    if with_faces < 2:
        raise UsageError(
            "too few photographs to split: all faces are in one photograph or in copies of it"
        )
    rng = np.random.default_rng(seed)
    train: list[_Group] = []
    held_back: list[_Group] = []
    for stratum in strata:
        order = [stratum[i] for i in rng.permutation(len(stratum))]
        drawn, rest = _draw(order, validation)
        held_back += drawn
        train += rest
    for label in labels:
        _give_one(label, train, held_back)
        _give_one(label, held_back, train)
    return Split(_positions(train), _positions(held_back))


def check_split(
    split: Split, photograph_labels: Sequence[Sequence[str]], groups: NDArray[np.int64]
) -> None:
    """Raise `UsageError` if nothing can be judged on a split, or learned from it."""
    trained, judged = (
        {label for photograph in side.tolist() for label in photograph_labels[photograph]}
        for side in (split.train, split.validation)
    )
    if not judged:
        different = len({int(groups[k]) for k, labels in enumerate(photograph_labels) if labels})
        raise UsageError(
            f"too few photographs to hold any back: of {len(photograph_labels)}, {different} are "
            "different and show a face (copies stay together); expected at least two of a class"
        )
    if len(trained) < 2:
        left = f"all are '{trained.pop()}'" if trained else "no face is left"
        raise UsageError(
            "training expects faces of at least two classes; of the photographs that are not held "
            f"back, {left}; use a smaller --validation or more photographs"
        )


def fold_photographs(
    photograph_labels: Sequence[Sequence[str]],
    groups: NDArray[np.int64],
    folds: int,
    seed: int,
) -> NDArray[np.int64]:
    """Return the fold of each photograph, 0 to folds - 1: groups undivided, labels shared out.

    The arguments are as in `split_photographs`. Groups are dealt out in an order drawn by `seed`,
    those that hold the rarest label first, and of these the ones that hold most of it; each goes
    to the fold that has the fewest of the label's faces so far, then to the one with the fewest
    photographs.

    Raises `UsageError` for fewer than two folds, for a fold that would have no face, and where
    those outside of a fold would all have one label.
    """
    if folds < 2:
        raise UsageError(f"cross-validation expects at least 2 folds, got {folds}")
    if folds > len(photograph_labels):
        raise UsageError(
            f"too few photographs with faces for {folds} folds: there are {len(photograph_labels)}"
        )
    rng = np.random.default_rng(seed)
    members: list[list[_Group]] = [[] for _ in range(folds)]
    faces: list[Counter[str | None]] = [Counter() for _ in range(folds)]
    for label, stratum in _strata(photograph_labels, groups).items():
        counts: list[Counter[str | None]] = [
            Counter(name for i in group.photographs for name in photograph_labels[i])
            for group in stratum
        ]
        order: list[int] = rng.permutation(len(stratum)).tolist()
        order.sort(key=lambda k: -counts[k][label])
        for k in order:
            of_label = [of_fold[label] for of_fold in faces]
            photographs = [sum(len(g.photographs) for g in of_fold) for of_fold in members]
            fewest = min(range(folds), key=lambda fold: (of_label[fold], photographs[fold]))
            members[fewest].append(stratum[k])
            faces[fewest] += counts[k]
    if not all(faces):
        raise UsageError(
            f"too few photographs with faces for {folds} folds: copies stay together, and "
            f"{sum(map(bool, faces))} folds have faces"
        )
    for fold in range(folds):
        others = set().union(*(faces[other] for other in range(folds) if other != fold))
        if len(others) < 2:
            raise UsageError(
                "training expects faces of at least two classes; without fold "
                f"{fold + 1} of {folds}, all are '{others.pop()}'"
            )
    result = np.zeros(len(photograph_labels), dtype=np.int64)
    for fold, of_fold in enumerate(members):
        result[_positions(of_fold)] = fold
    return result


def check_share(validation: float) -> None:
    """Raise `UsageError` unless the share lies between 0 and 1."""
    if not 0 < validation < 1:
        raise UsageError(f"the share for validation must lie between 0 and 1, got {validation:g}")


def save_split(
    path: Path,
    split: Split,
    photographs: Sequence[Photograph],
    fingerprints: Sequence[str] = (),
) -> None:
    """Write a split as JSON, by source and name: `{"train": {source: [name, ...]}, ...}`.

    With `fingerprints`, one per photograph, each side has those of its photographs too, in the same
    order, by which `load_split` notices data that were exchanged.

    Raises `UsageError` where the file exists already or cannot be written.
    """
    sides = {"train": split.train, "validation": split.validation}
    content: dict[str, dict[str, list[str]]] = {}
    for side, positions in sides.items():
        names: dict[str, list[str]] = defaultdict(list)
        for position in positions:
            names[photographs[position].source].append(photographs[position].name)
        content[side] = dict(names)
        if fingerprints:
            prints: dict[str, list[str]] = defaultdict(list)
            for position in positions:
                prints[photographs[position].source].append(fingerprints[position])
            content[f"{side}_fingerprints"] = dict(prints)
    try:
        with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(content, file, indent=1, ensure_ascii=False)
    except FileExistsError:
        raise UsageError(f"{path}: exists already, and is not overwritten") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error


def load_split(
    path: Path, photographs: Sequence[Photograph], fingerprints: Sequence[str] = ()
) -> Split:
    """Read a split back and find its photographs again among `photographs`, in any order.

    Raises `UsageError` where the file cannot be read, names a photograph that is not there or is
    there twice, or does not name one that is, or if one is not what it was by its fingerprint.
    """
    position = {(p.source, p.name): index for index, p in enumerate(photographs)}
    try:
        content = decode_json(path.read_bytes(), dict[str, dict[str, list[str]]])
        keys = {
            side: [(source, name) for source, names in content[side].items() for name in names]
            for side in ("train", "validation")
        }
        named = Counter(keys["train"] + keys["validation"])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError) as error:
        raise UsageError(f"{path}: not a split as it is written for a run ({error!r})") from error
    for what, culprits in (
        ("names photographs twice", [key for key, times in named.items() if times > 1]),
        ("names photographs that are not in the data", [k for k in named if k not in position]),
        ("does not name photographs of the data", [k for k in position if k not in named]),
    ):
        if culprits:
            first = "/".join(map(str, culprits[0]))
            raise UsageError(f"{path}: {what}: {len(culprits)}, the first is {first}")
    for side, names in keys.items():
        stored = content.get(f"{side}_fingerprints", {})
        prints = [fingerprint for source in content[side] for fingerprint in stored.get(source, ())]
        if not prints or not fingerprints:
            continue
        changed = [
            name
            for (_, name), key, of in zip(names, names, prints, strict=False)
            if fingerprints[position[key]] != of
        ]
        if changed or len(prints) != len(names):
            raise UsageError(
                f"{path}: photographs, boxes or labels are not those that the run began with: "
                f"{len(changed)}, the first are {', '.join(changed[:3])}"
            )
    train, validation = (
        np.array(sorted(position[key] for key in keys[side]), dtype=np.int64)
        for side in ("train", "validation")
    )
    return Split(train, validation)


def _strata(
    photograph_labels: Sequence[Sequence[str]], groups: NDArray[np.int64]
) -> dict[str | None, list[_Group]]:
    """Sort the groups by the rarest label they hold, rarest first; those without faces come last.

    How rare a label is, is told by the number of groups that hold it.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for photograph, group in enumerate(groups.tolist()):
        members[group].append(photograph)
    all_groups = [
        _Group(tuple(m), frozenset().union(*(photograph_labels[i] for i in m)))
        for m in members.values()
    ]
    frequency = Counter(label for group in all_groups for label in group.labels)
    rarest_first = sorted(frequency, key=lambda label: (frequency[label], label))
    strata: dict[str | None, list[_Group]] = {label: [] for label in (*rarest_first, None)}
    for group in all_groups:
        strata[next((label for label in rarest_first if label in group.labels), None)].append(group)
    return strata


def _draw(order: Sequence[_Group], share: float) -> tuple[list[_Group], list[_Group]]:
    """Divide groups into those of about `share` of the photographs and the rest, in this order."""
    wanted = share * sum(len(group.photographs) for group in order)
    drawn: list[_Group] = []
    rest: list[_Group] = []
    taken = 0
    for group in order:
        if taken + len(group.photographs) / 2 <= wanted:
            drawn.append(group)
            taken += len(group.photographs)
        else:
            rest.append(group)
    return drawn, rest


def _give_one(label: str, giver: list[_Group], taker: list[_Group]) -> None:
    """Move a group with `label` to a side that has none, unless the giver would lose a label."""
    if label in _count(taker):
        return
    left = _count(giver)
    for group in giver:
        if label in group.labels and all(left[other] > 1 for other in group.labels):
            giver.remove(group)
            taker.append(group)
            return


def _count(side: Iterable[_Group]) -> Mapping[str, int]:
    return Counter(label for group in side for label in group.labels)


def _positions(side: Iterable[_Group]) -> NDArray[np.int64]:
    return np.array(sorted(i for group in side for i in group.photographs), dtype=np.int64)

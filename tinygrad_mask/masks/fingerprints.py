"""Short checksums of photographs and their labels, to notice data that were exchanged."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinygrad_mask.masks.datasets.records import Photograph
from tinygrad_mask.masks.faces import FaceSet

_DIGITS = 16


def fingerprints_of_faces(faces: FaceSet) -> list[str]:
    """Return a checksum for each photograph: of its perceptual hash, its crops and their labels."""
    digests = [hashlib.sha256(row.tobytes()) for row in faces.hashes]
    for position, photograph in enumerate(faces.photograph.tolist()):
        digest = digests[photograph]
        digest.update(faces.cuts[position].tobytes())
        digest.update(f"{faces.labels[position]} {faces.sizes[position]}".encode())
    return [digest.hexdigest()[:_DIGITS] for digest in digests]


def fingerprints_of_boxes(
    photographs: Sequence[Photograph], hashes: NDArray[np.uint64]
) -> list[str]:
    """Return a checksum for each photograph: of its perceptual hash, its boxes and their labels.

    `hashes` are (n, HASH_WORDS). Changes that the hash does not see, such as another compression,
    are not noticed.
    """
    return [
        hashlib.sha256(row.tobytes() + repr((of.faces, of.ignored)).encode()).hexdigest()[:_DIGITS]
        for of, row in zip(photographs, hashes, strict=True)
    ]

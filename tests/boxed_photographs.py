"""Photographs with boxes as a folder on disk."""

from itertools import count

from tinygrad_mask.masks.datasets.synthetic import synthetic_photographs

NAMES = {"proper": "with_mask", "improper": "mask_weared_incorrect", "none": "without_mask"}


def has_boxes(photograph):
    """Whether the photograph shows faces in a scene; a close-up is one face that fills it."""
    return all(face.box is not None for face in photograph.faces)


def boxed_photographs(number, seed):
    """Return the first so many drawn photographs whose faces have boxes."""
    for drawn in count(number):
        found = [p for p in synthetic_photographs(drawn, seed) if has_boxes(p)]
        if len(found) == number:
            return found
    return []


def write_voc(folder, photographs, *, enlarged=1):
    """Write photographs as a Pascal VOC folder, at a multiple of their size."""
    for part in ("images", "annotations"):
        (folder / part).mkdir(parents=True)
    for number, photograph in enumerate(photographs):
        image = photograph.open()
        image.resize((enlarged * image.width, enlarged * image.height)).save(
            folder / "images" / f"{number}.png"
        )
        objects = "".join(
            f"<object><name>{NAMES[face.label]}</name><bndbox>"
            + "".join(
                f"<{tag}>{enlarged * value:.0f}</{tag}>"
                for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), face.box, strict=True)
            )
            + "</bndbox></object>"
            for face in photograph.faces
        )
        (folder / "annotations" / f"{number}.xml").write_text(f"<annotation>{objects}</annotation>")
    return folder

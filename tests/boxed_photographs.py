"""Photographs with boxes as a folder on disk."""

NAMES = {"proper": "with_mask", "improper": "mask_weared_incorrect", "none": "without_mask"}


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

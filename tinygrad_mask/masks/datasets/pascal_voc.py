"""Photographs annotated in Pascal VOC's format: one XML file beside or apart from each image."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.boxes import keep_fitting, parse_box
from tinygrad_mask.masks.datasets.classes import label_of, unknown_classes
from tinygrad_mask.masks.datasets.records import Box, Face, PhotographFile
from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.images import is_image_file

_IMAGE_FOLDERS = ("images", "jpegimages")
_ANNOTATION_FOLDERS = ("annotations",)


def annotation_files(folder: Path) -> list[Path]:
    """Return the XML files of a Pascal VOC folder, sorted; none where it is not one.

    They are in a sub-folder `annotations` (in any case), or in the folder itself.
    """
    found: list[Path] = []
    for candidate in (*_named(folder, _ANNOTATION_FOLDERS), folder):
        found = sorted(p for p in candidate.glob("*.[xX][mM][lL]") if not p.name.startswith("."))
        if found:
            break
    return found


def read_pascal_voc(
    folder: Path, issues: DataIssues, *, source: str, classes: Mapping[str, str]
) -> list[PhotographFile]:
    """Read a folder of photographs and their XML files, matched by name without suffix.

    Photographs are in a sub-folder `images` or `JPEGImages`, or beside the XML files. What the XML
    says of the file's name is not heeded: converted copies keep it. `classes` maps class names to
    labels, before the usual ones; an object of another class is a fault, and its box is ignored as
    neither face nor background.

    Raises `UsageError` where there is no XML file, no class name is known or the boxes do not fit
    the photographs.
    """
    annotations = annotation_files(folder)
    if not annotations:
        raise UsageError(f"{folder}: expected XML files, in it or in its folder annotations")
    images = _images_by_stem([*_named(folder, _IMAGE_FOLDERS), annotations[0].parent, folder])
    photographs: list[PhotographFile] = []
    unknown: set[str] = set()
    for path in annotations:
        image = images.pop(path.stem, None)
        if image is None:
            issues.warn("annotation without its photograph", path)
            continue
        objects = read_objects(path, issues)
        if objects is None:
            continue
        faces: list[Face] = []
        ignored: list[Box] = []
        for name, box in objects:
            label = label_of(name, classes)
            if label is None:
                unknown.add(name)
                issues.warn("object of unknown class", path, name)
                ignored.append(box)
            else:
                faces.append(Face(label, box))
        photographs.append(PhotographFile(source, path.stem, image, tuple(faces), tuple(ignored)))
    for image in images.values():
        issues.warn("photograph without annotation", image)
    if unknown and not any(photograph.faces for photograph in photographs):
        raise unknown_classes(str(folder), sorted(unknown))
    return keep_fitting(photographs, issues, str(folder))


def _named(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name.lower() in names)


def _images_by_stem(folders: list[Path]) -> dict[str, Path]:
    """Map stem to image; where a name is there twice, the earlier folder holds."""
    images: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if is_image_file(path):
                images.setdefault(path.stem, path)
    return images


def read_objects(path: Path, issues: DataIssues) -> list[tuple[str, Box]] | None:
    """Return the (class name, box) of each object in an XML file, or None where it is unreadable.

    That, and objects that cannot be used, are told to `issues`.
    """
    try:
        root = parse(path).getroot()
    except (OSError, ET.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        # ValueError and LookupError are what a wrong or unknown encoding comes as
        issues.warn("annotation cannot be read", path, str(error))
        return None
    if root is None or root.tag != "annotation":
        issues.warn("annotation cannot be read", path, "expected <annotation> as its root")
        return None
    objects: list[tuple[str, Box]] = []
    for item in root.iter("object"):
        name = item.findtext("name", "").strip()
        corners = [item.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            if not name:
                raise ValueError("an object has no name")
            objects.append((name, parse_box(corners)))
        except ValueError as error:
            issues.warn("object cannot be used", path, str(error))
    return objects

"""Read folders of images: one folder per class, inside one folder per split if there is a folder `train` of folders.

Labels count the class folders in sorted order, or in the order of `classes`. Images directly in the folder, without
class folders, are unlabelled. Files are read on demand, and each is compared with the digest that is in the key:
training and measurement never use anything but what was hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.data.declaration import Opening, Source
from pipeline.data.images import IMAGE_SUFFIXES, ImageForm, ImageSamples, ImageSettings
from pipeline.data.samples import Task
from pipeline.data.table import Shapes, Table, train_first
from pipeline.errors import ChangedDataError, DataError
from pipeline.recipe.errors import nearest
from pipeline.records.keys import digest_of_bytes
from pipeline.store.file_digests import listing


class FolderSettings(ImageSettings):
    """Set how folders of images are read."""

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(
        description="height and width that images are brought to"
    )
    classes: tuple[str, ...] | None = Field(None, description="names in the model's order; else sorted")


def _class_names(settings: FolderSettings, folder: Path) -> tuple[str, ...] | None:
    """Return the folders that the classes have, in the order of their numbers."""
    path = folder / settings.path.expanduser()
    train = _folders_in(path / "train")
    return tuple(train or _folders_in(path)) or None


def _folders_in(path: Path) -> list[str]:
    """Return the subfolders, sorted; none if there is no such folder: reading the data reports that."""
    try:
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


class ImageFolder:
    """List the images of a folder once; digests of unchanged files are remembered."""

    def __init__(self, opening: Opening[FolderSettings]) -> None:
        self._path, self._settings, self._unlabelled = opening.path, opening.settings, opening.unlabelled
        self._digests, self._threads = opening.digests, opening.threads
        self._known: dict[str, dict[str, Any]] = {}

    def content(self, stored: str, *, anew: bool = False) -> dict[str, Any]:
        # `anew` changes nothing here: each image is compared with its digest when it is read.
        if stored not in self._known:
            digest = hashlib.sha256()
            for name, label in self._rows(stored):
                # Without names: renamed files are the same data unless their order changes (docs/design/data.md).
                digest.update(f"{label} {self._digest_of[name]}\n".encode())
            self._known[stored] = {"classes": self._classes(stored), "images": digest.hexdigest()}
        return self._known[stored]

    def splits(self) -> dict[str, bool]:
        """Return which splits are stored, `train` first, with whether their images have classes."""
        tops = [folder for folder in self._listed[1] if "/" not in folder] if self._in_splits else []
        return {name: bool(self._class_folders(name)) for name in train_first({"train", *tops})}

    def shapes(self, stored: str) -> Shapes:
        return {"": self._settings.image_shape}

    def read(self, stored: str) -> Table:
        import numpy as np

        rows, classes = self._rows(stored), self._classes(stored)
        names = [name for name, _ in rows]
        reader = VerifiedFiles(self._path, names, self._digest_of)
        form = ImageForm.of(self._settings)
        images = ImageSamples(len(names), reader.read, names.__getitem__, form, str(self._path), self._threads)
        labels = None if classes is None else np.array([label for _, label in rows], np.int64)
        known = None if classes is None else tuple(classes)
        task: Task = "unlabelled" if classes is None else "classes"
        return Table(images, labels, task, known, images.undecodable, self._settings.max_undecodable)

    @cached_property
    def _listed(self) -> tuple[dict[str, tuple[int, ...]], list[str]]:
        try:
            return listing(self._path, IMAGE_SUFFIXES)
        except OSError as error:
            raise self._error(f"the folder can't be read: {error}") from error

    @cached_property
    def _digest_of(self) -> dict[str, str]:
        try:
            return self._digests.of_files(self._path, "images", self._listed[0])
        except OSError as error:
            raise self._error(f"an image can't be read: {error}") from error

    @cached_property
    def _in_splits(self) -> bool:
        return any(folder.startswith("train/") for folder in self._listed[1])

    def _folder(self, stored: str) -> str:
        """Return the relative path of a stored split with a closing slash; DataError if there is none."""
        tops = [folder for folder in self._listed[1] if "/" not in folder]
        if not self._in_splits:
            if stored == "train":
                return ""
            hint = "make folders of splits, train among them, or let secateur draw one: `test: {fraction: 0.2}`"
            if stored in tops:
                what = f"there is no folder train next to {stored}, so that {stored} is taken for a class"
                raise self._error(what, hint)
            raise self._error(f"the folder has no splits, so none called {stored}", hint)
        if stored not in tops:
            raise self._error(f"there is no folder {stored}", nearest(stored, tops))
        return f"{stored}/"

    def _class_folders(self, stored: str) -> list[str]:
        """Return the class folders of a stored split, sorted."""
        start = self._folder(stored)
        below = (name.removeprefix(start) for name in self._listed[1] if name.startswith(start))
        return sorted(name for name in below if "/" not in name)

    def _classes(self, stored: str) -> list[str] | None:
        """Return class names in the order of their numbers; None for images without classes."""
        folders = self._class_folders(stored)
        if not folders or self._unlabelled:
            return None
        wanted = list(self._settings.classes or self._class_folders("train"))
        if set(folders) != set(wanted):
            extra, missing = sorted(set(folders) - set(wanted)), sorted(set(wanted) - set(folders))
            whose = "data.classes" if self._settings.classes else "train"
            differs = [f"{', '.join(extra)} only in {stored or 'the folder'}"] if extra else []
            differs += [f"{', '.join(missing)} only in {whose}"] if missing else []
            what = f"the class folders of {stored} differ from {whose}'s: {'; '.join(differs)}"
            raise self._error(what, "a class without images is an empty folder")
        return wanted

    def _rows(self, stored: str) -> list[tuple[str, int]]:
        """Return the images of a stored split in sorted order, each with its class number; -1 without classes."""
        start, classes = self._folder(stored), self._classes(stored)
        number = {name: index for index, name in enumerate(classes or ())}
        rows = []
        for name in self._listed[0]:
            if name.startswith(start):
                folder, slash, _ = name.removeprefix(start).partition("/")
                if classes is not None and not slash:
                    raise self._error(f"{name} lies next to the class folders, so it has no class")
                rows.append((name, number[folder] if classes is not None else -1))
        if not rows:
            raise self._error(
                f"there are no images in {start or 'the folder'}", f"images end in {', '.join(IMAGE_SUFFIXES)}"
            )
        return rows

    def _error(self, what: str, hint: str | None = None) -> DataError:
        return DataError(what, where=str(self._path), hint=hint)


class VerifiedFiles:
    """Read files by number and compare each with its digest."""

    def __init__(self, root: Path, names: Sequence[str], digests: dict[str, str]) -> None:
        self._root, self._names, self._digests = root, names, digests

    def read(self, indices: Sequence[int]) -> list[bytes]:
        """Return the bytes of files by number; DataError if one is missing or differs from what was hashed."""
        return [self._bytes_of(self._names[index]) for index in indices]

    def _bytes_of(self, name: str) -> bytes:
        path = self._root / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"an image can't be read: {error}", where=str(path)) from error
        if digest_of_bytes(data) != self._digests[name]:
            raise ChangedDataError("the image changed during the run", where=str(path), hint="run again")
        return data


SOURCE = Source(FolderSettings, ImageFolder, takes="a folder", class_names=_class_names)

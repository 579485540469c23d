"""Search over a folder of pictures, by words or by a picture: an index on the disk that is kept up to date.

index = PictureIndex.open("holiday.index")
index.update("holiday/")
for hit in index.search("a red boat", k=5):
    print(f"{hit.score:.3f}", hit.path)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..weights import known_models
from .picture_folder import find_pictures
from .update import Update, update_table
from .vector_table import About, VectorTable

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..clip.model import ClipModel


@dataclass(frozen=True)
class Hit:
    """A found picture; `score` is the cosine of the angle between its vector and the query's."""

    path: Path
    score: float


class PictureIndex:
    """The vectors of a folder's pictures, in one file. Made by `PictureIndex.open`.

    Paths are kept relative to the pictures' folder, and that relative to the index, so both may move together.
    """

    def __init__(self, path: Path, model: ClipModel | str | None):
        self.path = path
        self._wanted = model
        # A file of no bytes is one that another process is about to fill.
        self._table = VectorTable(path) if path.exists() and path.stat().st_size else None

    @classmethod
    def open(cls, path: str | os.PathLike, model: ClipModel | str | None = None) -> PictureIndex:
        """Open an index, or one that the first `update` is going to make.

        `model` is a ClipModel or a name for `ClipModel.from_pretrained` (default: the index's own, "mini" for a new
        one); it is loaded only when it is needed. Raises ValueError for a place that holds something else, or an
        index of another model, and sqlite3.DatabaseError for a damaged one.
        """
        path = Path(path).expanduser()
        if path.is_dir():
            raise ValueError(f"{path} is a folder, and an index is a file; give one, or a new name")
        if path.is_fifo():
            raise ValueError(f"{path} is a pipe, and an index is a file; give one, or a new name")
        index = cls(path, model)
        name = model if isinstance(model, str) else getattr(model, "name", None)
        # Two paths may hold the same weights: those are compared when they are loaded.
        if index._table and name and name != index._table.about().model and not Path(name).exists():
            raise ValueError(
                f"the index {path} was made with {index._table.about().model}, not {name}; search it with that, "
                f"or make another index with {name}"
            )
        return index

    @cached_property
    def model(self) -> ClipModel:
        """The model, loaded when it is first asked for. Raises ValueError if it is not the index's."""
        from ..clip.model import ClipModel

        model = self._wanted or (self._table.about().model if self._table else "mini")
        if isinstance(model, str):
            model = ClipModel.from_pretrained(model)
        if self._table is not None:
            # A name can be given to other weights: the vector of the same picture must come out again.
            about = self._table.about()
            mark, again = np.frombuffer(about.fingerprint, "<f4"), _fingerprint(model)
            # bfloat16 against float32 gives 0.999 and more.
            if len(mark) != len(again) or float(mark @ again) < 0.99:
                raise ValueError(
                    f"the index {self.path} was made with {about.model}, and {model.name} has other weights than "
                    f"that had; use the same model, or make another index"
                )
        return model

    @property
    def folder(self) -> Path:
        """The folder of the pictures: where it lies as seen from the index, else where it was."""
        about = self._made().about()
        beside = Path(os.path.normpath(self.path.resolve().parent / about.folder))
        return beside if beside.is_dir() or not os.path.isdir(about.place) else Path(about.place)

    def __len__(self) -> int:
        return self._table.count() if self._table else 0

    def search(self, query: str | os.PathLike | Image, k: int = 10) -> list[Hit]:
        """The `k` pictures nearest to `query`, best first: words (a str), a picture's Path, or a PIL picture.

        The search is exact. Raises ValueError for no words, k < 1, an empty index, or words over the model's length;
        a query picture that cannot be read raises as `picture_of` does.
        """
        from ..clip.preprocess import picture_of

        if k < 1:
            raise ValueError(f"the number of results must be at least 1, not {k}")
        if isinstance(query, str) and not query.strip():
            raise ValueError("the query is empty; give words or a picture to search for")
        table = self._made()
        if isinstance(query, str):
            vector = self.model.embed_texts([query])
        else:
            # Opened before the model is loaded, as the picture may be no good.
            picture = picture_of(query)
            vector = self.model.embed_images(picture)
        found = table.nearest(vector[0].float().numpy(), k)
        if not found:
            raise ValueError(f"the index {self.path} holds no pictures that could be read; add some first")
        folder = self.folder
        return [Hit(folder / path, score) for path, score in found]

    def update(self, folder: str | os.PathLike, progress: bool = False) -> Update:
        """Make the index hold the pictures that lie in `folder` and below, embedding only what it does not know yet.

        Files are known again by size and time, else by their content; pictures that cannot be read are reported, and
        not tried again until they change. What is done stays done when it is stopped at any time. Raises ValueError
        for a folder that has no pictures or is not the index's, OSError for one that cannot be read, and sqlite3's
        errors if the index cannot be written.
        """
        folder = Path(folder).expanduser()
        found, unreadable = find_pictures(folder)
        if not found:
            raise ValueError(f"there are no pictures in {folder}; give a folder that holds some")
        if self._table is None:
            if not self.path.resolve().parent.is_dir():
                raise FileNotFoundError(f"there is no folder {self.path.parent}; create it or choose another")
            name, mark = self.model.name, _fingerprint(self.model).astype("<f4").tobytes()
            if name not in known_models() and Path(name).exists():
                name = str(Path(name).resolve())
            self._table = VectorTable(self.path, About(name, *self._places(folder), mark))
        elif (old := self.folder).is_dir() and not old.samefile(folder):
            raise ValueError(
                f"the index {self.path} is of the pictures in {old}; make another one for those in {folder}"
            )
        else:
            self._table.move(*self._places(folder))
        return update_table(self._table, folder, found, unreadable, lambda: self.model, progress)

    def _places(self, folder: Path) -> tuple[str, str]:
        """Where the pictures lie, as seen from the index and by itself."""
        place = str(folder.resolve())
        try:
            return os.path.relpath(place, self.path.resolve().parent).replace(os.sep, "/"), place
        except ValueError:  # another drive
            return place, place

    def _made(self) -> VectorTable:
        if self._table is None:
            raise FileNotFoundError(
                f"there is no index of pictures at {self.path}; make one with: "
                f"maquette embed FOLDER --index {self.path}"
            )
        return self._table


def _fingerprint(model: ClipModel) -> np.ndarray:
    """The model's vector [dim] of a picture that is always the same: slopes of colour with a square in them."""
    from PIL import Image

    slope = np.arange(64, dtype=np.uint8) * 4
    pixels = np.stack(np.broadcast_arrays(slope[:, None], slope[None, :], slope[::-1, None]), axis=-1)
    pixels[16:32, 32:56] = (250, 200, 0)
    return model.embed_images([Image.fromarray(pixels)])[0].float().numpy()

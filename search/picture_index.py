"""Search over a folder of pictures, by words or by a picture: an index on the disk that is kept up to date.

index = PictureIndex.open("holiday.index")
index.update("holiday/")
for hit in index.search("a red boat", k=5):
    print(f"{hit.score:.3f}", hit.path)
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..weights import known_models
from .about import ABOUT, FORMAT, LOCK, check_free, places_of, read_about, unwritable, write_about
from .picture_folder import find_pictures
from .update import Update, Updating, opened
from .vector_table import NAME, VectorTable, need_lancedb

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..clip.model import ClipModel


@dataclass(frozen=True)
class Hit:
    """A found picture; `score` is the cosine of the angle between its vector and the query's."""

    path: Path
    score: float


class PictureIndex:
    """The vectors of a folder's pictures, in an index folder of its own. Made by `PictureIndex.open`.

    Paths are kept relative to the pictures' folder, and that relative to the index, so both may move together.
    """

    def __init__(self, path: Path, about: dict[str, Any] | None, model: ClipModel | str | None):
        self.path = path
        self._about = about
        self._wanted = model
        self._loaded: ClipModel | None = None
        self._table = VectorTable(path, about["dim"]) if about else None

    @classmethod
    def open(cls, path: str | os.PathLike, model: ClipModel | str | None = None) -> PictureIndex:
        """Open an index, or one that the first `update` is going to make.

        `model` is a ClipModel or a name for `ClipModel.from_pretrained` (default: the index's own, "mini" for a new
        one); it is loaded only when it is needed. Raises ImportError without LanceDB, and ValueError or an OSError
        in one sentence for a place that holds something else, a damaged index, or one of another model.
        """
        path = Path(path).expanduser()
        need_lancedb()
        about = read_about(path)
        if about is None:
            check_free(path)
        name = model if isinstance(model, str) else getattr(model, "name", None)
        # Of two paths the weights may still be the same: those are compared when they are loaded.
        if about and name and name != about["model"] and not Path(name).exists():
            raise ValueError(
                f"the index {path} was made with {about['model']}, not {name}; search it with that, "
                f"or make another index with {name}"
            )
        return cls(path, about, model)

    @property
    def model(self) -> ClipModel:
        """The model, loaded when it is first asked for. Raises ValueError if it is not the index's."""
        if self._loaded is None:
            model = self._wanted
            if model is None:
                model = str(self._about["model"]) if self._about else "mini"
            if isinstance(model, str):
                from ..clip.model import ClipModel

                model = ClipModel.from_pretrained(model)
            if self._about is not None:
                self._check_model(model)
            self._loaded = model
        return self._loaded

    @property
    def folder(self) -> Path:
        """The folder of the pictures: where it lies as seen from the index, else where it was."""
        about = self._about or self._no_index()
        beside = Path(os.path.normpath(self.path.resolve() / about["folder"]))
        return beside if beside.is_dir() or not os.path.isdir(about["place"]) else Path(about["place"])

    def __len__(self) -> int:
        return self._table.count() if self._table else 0

    def search(self, query: str | os.PathLike | Image, k: int = 10) -> list[Hit]:
        """The `k` pictures nearest to `query`, best first: words (a str), a picture's Path, or a PIL picture.

        The search is exact. Raises ValueError for no words, k < 1, an empty index, or words over the model's length;
        a query picture that cannot be read raises as `open_picture` does.
        """
        if k < 1:
            raise ValueError(f"the number of results must be at least 1, not {k}")
        if isinstance(query, str) and not query.strip():
            raise ValueError("the query is empty; give words or a picture to search for")
        table = self._table or self._no_index()
        if isinstance(query, str):
            self._check_length(query)
            vector = self.model.embed_texts([query])
        else:
            # Opened before the model is loaded, as the picture may be no good.
            picture = opened(Path(query)) if isinstance(query, os.PathLike) else query
            vector = self.model.embed_images([picture])
        found = table.nearest(vector[0].float().numpy(), k)
        if not found:
            raise ValueError(f"the index {self.path} holds no pictures that could be read; add some first")
        folder = self.folder
        return [Hit(folder / path, score) for path, score in found]

    def update(self, folder: str | os.PathLike, progress: bool = False) -> Update:
        """Make the index hold the pictures that lie in `folder` and below, embedding only what it does not know yet.

        Files are known again by size and time, else by their content; pictures that cannot be read are reported, and
        not tried again until they change. What is done stays done when it is stopped at any time. Raises ValueError
        or an OSError in one sentence for a folder that is missing, has no pictures or is not the index's, if another
        process is updating, or if the index cannot be written.
        """
        folder = Path(folder).expanduser()
        found = find_pictures(folder)
        if not found.pictures:
            raise ValueError(f"there are no pictures in {folder}; give a folder that holds some")
        if not self.path.resolve().parent.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.path.parent}; create it or choose another place"
            )
        with self._locked():
            if (about := read_about(self.path)) is None:
                self._create(folder)
            elif self._about is None:
                raise ValueError(f"another process has made the index {self.path} meanwhile; try again")
            else:
                self._about = about
                self._check_folder(folder)
            assert self._table is not None
            return Updating(self._table, found, lambda: self.model, progress).run()

    def _create(self, folder: Path) -> None:
        model = self.model
        shutil.rmtree(self.path / f"{NAME}.lance", ignore_errors=True)
        table = VectorTable(self.path, model.dim, create=True)
        self._about = {
            "format": FORMAT,
            "model": model.name if model.name in known_models() else _anywhere(model.name),
            "dim": model.dim,
            **places_of(self.path, folder),
            "fingerprint": [round(value, 4) for value in _fingerprint(model).tolist()],
        }
        write_about(self.path, self._about)
        self._table = table

    def _check_folder(self, folder: Path) -> None:
        assert self._about is not None
        old = self.folder
        if old.is_dir() and not old.samefile(folder):
            raise ValueError(
                f"the index {self.path} is of the pictures in {old}; make another one for those in {folder}"
            )
        places = places_of(self.path, folder)
        if {**self._about, **places} != self._about:
            self._about.update(places)
            write_about(self.path, self._about)

    def _check_length(self, words: str) -> None:
        model = self.model
        try:
            model.tokenizer(words, model.encoder.config["context_length"])
        except ValueError:
            shown = words if len(words) <= 40 else f"{words[:40]}…"
            raise ValueError(f"the words {shown!r} are too long for {model.name}; use fewer") from None

    def _check_model(self, model: ClipModel) -> None:
        """Names can be given to other weights, and a picture's vector cannot: the same one must come out again."""
        assert self._about is not None
        if model.dim == self._about["dim"]:
            mark = np.array(self._about["fingerprint"], np.float32)
            # bfloat16 against float32 gives 0.999 and more.
            if float(mark @ _fingerprint(model)) > 0.99:
                return
        raise ValueError(
            f"the index {self.path} was made with {self._about['model']}, and {model.name} has other weights than "
            f"that had; use the same model, or make another index"
        )

    def _no_index(self) -> Any:
        raise FileNotFoundError(
            f"there is no index of pictures at {self.path}; make one with: "
            f"maquette embed FOLDER --index {self.path}"
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time. A place that was made for an index that then is not written goes again."""
        from filelock import FileLock, Timeout

        ours = not self.path.exists()
        try:
            self.path.mkdir(exist_ok=True)
            lock = FileLock(self.path / LOCK)
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"another process is updating the index {self.path}; wait until it is done"
            ) from None
        except OSError as error:
            if ours:
                shutil.rmtree(self.path, ignore_errors=True)
            raise unwritable(self.path, error) from None
        try:
            yield
        except BaseException:
            if not (self.path / ABOUT).exists():
                shutil.rmtree(self.path / f"{NAME}.lance", ignore_errors=True)
                (self.path / LOCK).unlink(missing_ok=True)
                if ours:
                    shutil.rmtree(self.path, ignore_errors=True)
            raise
        finally:
            lock.release()


def _fingerprint(model: ClipModel) -> np.ndarray:
    """The model's vector [dim] of a picture that is always the same: slopes of colour with a square in them."""
    from PIL import Image

    slope = np.arange(64, dtype=np.uint8) * 4
    pixels = np.stack(np.broadcast_arrays(slope[:, None], slope[None, :], slope[::-1, None]), axis=-1)
    pixels[16:32, 32:56] = (250, 200, 0)
    return model.embed_images([Image.fromarray(pixels)])[0].float().numpy()


def _anywhere(name: str) -> str:
    """A model's name, or the path of one so that it holds in every working directory."""
    return str(Path(name).resolve()) if Path(name).exists() else name

"""What several test files share: the golden records."""

from pathlib import Path

import pytest
from goldens.formula import load_golden

GOLDENS = Path(__file__).parent / "goldens"
# The records of the published sizes are too many to commit; they lie beside the clone where there are any.
FULL_GOLDENS = Path(__file__).parents[2] / "shared" / "goldens"


@pytest.fixture(scope="session")
def golden():
    """golden("glide/base") -> (manifest, tensors), what the original implementation computed."""

    def load(name):
        for folder in (GOLDENS, FULL_GOLDENS):
            if (folder / f"{name}.json").is_file():
                return load_golden(folder / name)
        raise FileNotFoundError(f"no golden record {name!r} in {GOLDENS} or {FULL_GOLDENS}")

    return load

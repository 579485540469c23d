"""The front door: light to open, and the whole library behind it."""

import subprocess
import sys

import maquette
import pytest

HEAVY = {"torch", "diffusers", "transformers", "trimesh", "PIL"}


@pytest.mark.parametrize(
    "code",
    [
        "import maquette",
        "from maquette.__main__ import main; main(['--help'])",
        "from maquette.__main__ import main; main(['create', '--help'])",
        "from maquette.__main__ import main; assert main(['create', '']) == 2",
        "from maquette.__main__ import main; assert main(['shape', 'a red chair', '--preset', 'no']) == 2",
        "import maquette.clip, maquette.weights",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    check = f"{code}\nimport sys; print(sorted({HEAVY} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_public_names_are_found():
    assert {"pipeline", "GlidePipeline", "ClipModel", "ZeroShotClassifier"} <= set(dir(maquette))
    assert maquette.pipeline is maquette.pipelines.pipeline
    assert maquette.GlidePipeline is maquette.pipelines.GlidePipeline
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        maquette.paint  # noqa: B018


def test_unknown_tasks_are_named_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'text-to-image'"):
        maquette.pipeline("text2image")

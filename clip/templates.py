"""The words of zero-shot classification: labels, prompt templates, and the sets of both that have a name.

ImageNet's classes and OpenAI's templates come with open_clip, which is imported when they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

DEFAULT_TEMPLATES = ("a photo of a {}",)
TEMPLATE_SETS = ("imagenet", "simple")


def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 ImageNet classes in their order, in OpenAI's wording.

    Two names, "missile" and "sunglasses", stand for two classes each.
    """
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


def named_templates(name: str) -> tuple[str, ...]:
    """A set of templates: "imagenet", OpenAI's 80, or "simple", the seven that do nearly as well.

    Raises ValueError for another name.
    """
    if name not in TEMPLATE_SETS:
        raise ValueError(f"unknown templates {name!r}; known are {', '.join(TEMPLATE_SETS)}")
    from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    templates = OPENAI_IMAGENET_TEMPLATES if name == "imagenet" else SIMPLE_IMAGENET_TEMPLATES
    return tuple(template("{}") for template in templates)


def read_templates(which: str | os.PathLike | None) -> tuple[str, ...]:
    """Templates from what someone wrote: a set's name, a template itself, or a text file with one a line.

    None gives "a photo of a {}". Raises ValueError or FileNotFoundError, and what reading a file raises.
    """
    if which is None:
        return DEFAULT_TEMPLATES
    text = os.fspath(which)
    if text in TEMPLATE_SETS:
        return named_templates(text)
    if "{}" in text and not os.path.isfile(text):
        return check_templates([text])
    if not os.path.exists(text):
        raise FileNotFoundError(
            f"there are no templates {text!r}; give {' or '.join(TEMPLATE_SETS)}, a template such as "
            "'a photo of a {}', or a text file with one a line"
        )
    return check_templates(_lines(Path(text), "templates"))


def read_labels(which: str | os.PathLike) -> tuple[str, ...]:
    """Labels from what someone wrote: "a, b, c", "imagenet", or a text file with one a line.

    Raises ValueError or FileNotFoundError, and what reading a file raises.
    """
    text = os.fspath(which)
    if text == "imagenet":
        return tuple(dict.fromkeys(imagenet_classes()))
    if os.path.exists(text):
        return check_labels(_lines(Path(text), "labels"))
    if "," not in text and (os.sep in text or text.lower().endswith(".txt")):
        raise FileNotFoundError(
            f"there is no file {text}; give labels as 'a, b, c' or a text file with one a line"
        )
    return check_labels(text.split(",") if text.strip() else [])


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels without white space around them.

    Raises ValueError if there are none, or one is no text, blank, or there twice; the sentence names it.
    """
    if isinstance(labels, str):
        raise ValueError(
            f"labels must be a list of texts, not the one text {labels[:40]!r}; give [{labels[:40]!r}]"
        )
    found: dict[str, None] = {}
    for number, label in enumerate(labels, start=1):
        if not isinstance(label, str):
            raise ValueError(f"label {number} is {label!r:.60}, not a text; give words such as 'cat'")
        plain = " ".join(label.split())
        if not plain:
            raise ValueError(f"label {number} is blank; give words such as 'cat', or leave it out")
        if plain in found:
            raise ValueError(f"the label {plain!r} is there twice; give each label once")
        found[plain] = None
    if not found:
        raise ValueError("there are no labels; give at least one, such as 'cat'")
    return tuple(found)


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates as a tuple. Raises ValueError if there are none, or one has not exactly one "{}"."""
    if isinstance(templates, str):
        templates = [templates]
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ValueError(
                f"the template {template!r:.80} needs exactly one {{}} where the label goes, as in 'a photo of a {{}}'"
            )
    if not templates:
        raise ValueError("there are no templates; give at least one, such as 'a photo of a {}'")
    return tuple(templates)


def _lines(path: Path, what: str) -> list[str]:
    """The lines of a text file that are not blank."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    if not any(lines):
        raise ValueError(f"{path} is empty; give {what} in a text file, one a line")
    return [line for line in lines if line]

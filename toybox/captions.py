"""What a scene is called: noun phrases and sentence templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from .toy import Toy

PLAIN_SHARE = 0.4
SINGLE_TEMPLATES = (
    "{bare}",
    "a photo of {toy}",
    "a picture of {toy}",
    "an image of {toy}",
    "a render of {toy}",
    "there is {toy}",
    "this is {toy}",
    "{toy} on the floor",
)
PAIR_TEMPLATES = (
    "{toy} {relation} {other}",
    "a photo of {toy} {relation} {other}",
    "a picture of {toy} {relation} {other}",
)
PAIR_WEIGHTS = (0.7, 0.15, 0.15)
PHRASES = {
    "on top of": ("on top of", "on"),
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "in front of": ("in front of",),
    "behind": ("behind",),
}


def noun_phrase(toy: Toy, article: bool = True) -> str:
    """'a small shiny red mug', or 'small shiny red mug' without the article."""
    words = [word for word in (toy.size, toy.finish, toy.colour, toy.thing) if word]
    if article:
        words.insert(0, "an" if words[0][0] in "aeiou" else "a")
    return " ".join(words)


def write_caption(objects: tuple[Toy, ...], relation: str | None, rng: np.random.Generator) -> str:
    """A caption for one thing, or for two in a relation: every attribute that is said, and nothing else."""
    toy = noun_phrase(objects[0])
    if relation is None:
        if rng.random() < PLAIN_SHARE:
            return toy
        template = SINGLE_TEMPLATES[rng.integers(len(SINGLE_TEMPLATES))]
        return template.format(toy=toy, bare=noun_phrase(objects[0], article=False))
    template = PAIR_TEMPLATES[rng.choice(len(PAIR_TEMPLATES), p=PAIR_WEIGHTS)]
    phrases = PHRASES[relation]
    return template.format(
        toy=toy, relation=phrases[rng.integers(len(phrases))], other=noun_phrase(objects[1])
    )

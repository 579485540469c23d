"""Which words of a prompt a model that was only ever shown Toybox cannot know."""

import re

from ..toybox.captions import PAIR_TEMPLATES, PHRASES, SINGLE_TEMPLATES
from ..toybox.vocabulary import COLOURS, FINISHES, SIZES, THINGS


def toybox_hint(prompt: str) -> str | None:
    """One sentence on the words of `prompt` that no Toybox caption has and on those it has; None if there are none."""
    templates = re.sub(r"{\w+}", " ", " ".join((*SINGLE_TEMPLATES, *PAIR_TEMPLATES)))
    phrases = " ".join(phrase for several in PHRASES.values() for phrase in several)
    known = {"a", "an", "and", *templates.split(), *phrases.split(), *COLOURS, *FINISHES, *SIZES, *THINGS}
    words = re.findall(r"\w+", prompt.lower())
    unknown = list(dict.fromkeys(word for word in words if word not in known))
    if words and not unknown:
        return None
    named = ", ".join(repr(word if len(word) <= 20 else f"{word[:20]}…") for word in unknown[:5])
    return (
        f"it has never seen {named or 'such a prompt'}{' and more' if len(unknown) > 5 else ''}: "
        f"it only knows Toybox, which has {', '.join(THINGS)} in {', '.join(COLOURS)}, "
        "small or large, matte or shiny, alone or two together, as in 'a small red chair on top of a blue table'"
    )

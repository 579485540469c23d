"""The judge of two things: a small network that says what a 64 px picture shows, and how the things stand.

It looks on the 8 × 8 map of the one-thing judge's trunk with one query per kind of thing, as DETR does with learned
queries (Carion et al. 2020, section 3), so that where things are is not pooled away. It is trained on renders only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .judge import Judge
from .picture_judge import PictureJudge, Pictures, Residual, to_pixels
from .scenes import Scene, make_scene
from .vocabulary import COLOURS, RELATIONS, THINGS

SEEN_RELATIONS = (*RELATIONS, "under")
"""What the judge tells apart: with "under", each has its opposite, so either thing can be named first."""
OPPOSITES = dict(
    zip(SEEN_RELATIONS, ("under", "right of", "left of", "behind", "in front of", "on top of"), strict=True)
)
_OPPOSITE = [SEEN_RELATIONS.index(relation) for relation in OPPOSITES.values()]
_NO_RELATION = len(SEEN_RELATIONS)
_IN_A_MIRROR = (0, 2, 1, 3, 4, 5, _NO_RELATION)
_WIDTH = 128
PRESENT = -1.0
"""The logit from which a thing counts as there, about 1 in 4: of a pair, one thing may be half hidden by the other."""


class Seen(NamedTuple):
    """What a picture shows: (thing, colour) pairs in the order of THINGS, and how the first stands to a second."""

    pairs: tuple[tuple[str, str], ...]
    relation: str | None


class Reading(NamedTuple):
    """Of each kind of thing: logit of being there [N, 20], logits of colours [N, 20, 11], and a vector [N, 20, 128]."""

    things: Tensor
    colours: Tensor
    vectors: Tensor


class PairJudge(PictureJudge):
    """For every kind of thing, whether it is in the picture and in which colour; for any two, their relation."""

    weights = Path(__file__).parent / "judge" / "pair_judge.safetensors"

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Judge().trunk
        self.deeper = Residual(_WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(64, _WIDTH))
        self.queries = nn.Parameter(torch.randn(len(THINGS), _WIDTH))
        self.look = nn.TransformerDecoderLayer(
            _WIDTH, nhead=4, dim_feedforward=2 * _WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(_WIDTH)
        self.thing = nn.Linear(_WIDTH, 1)
        self.colour = nn.Linear(_WIDTH, len(COLOURS))
        self.stand = nn.Sequential(
            nn.Linear(2 * _WIDTH, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, len(SEEN_RELATIONS))
        )

    def forward(self, images: Pictures) -> Reading:
        """What each picture shows of each kind of thing, in the order of THINGS and COLOURS.

        Raises ValueError for pictures of another shape or type than `Pictures`.
        """
        pixels = to_pixels(images).to(self.places.device)
        features = self.deeper(self.trunk(pixels)).flatten(2).transpose(1, 2) + self.places
        vectors = self.norm(self.look(self.queries.expand(len(features), -1, -1), features))
        return Reading(self.thing(vectors).squeeze(2), self.colour(vectors), vectors)

    def relations(self, vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Logits [N, 6] of SEEN_RELATIONS that the first thing has to the second, numbers [N] in THINGS.

        Named the other way round, the opposites get the same logits.
        """
        rows = torch.arange(len(vectors))
        one, other = vectors[rows, first], vectors[rows, second]
        there = self.stand(torch.cat([one, other], 1))
        back = self.stand(torch.cat([other, one], 1))
        return there + back[:, _OPPOSITE]

    @torch.no_grad()
    def name(self, images: Pictures) -> list[Seen]:
        """What each picture shows: the two likeliest kinds of thing, or fewer if these are not there."""
        things, colours, vectors = self(images)
        kinds = things.topk(2).indices.sort(1).values
        there = things.gather(1, kinds) > PRESENT
        relations = self.relations(vectors, *kinds.T).argmax(1)
        hues = colours.argmax(2).gather(1, kinds)
        found = []
        for kind, hue, shown, relation in zip(
            *(x.tolist() for x in (kinds, hues, there, relations)), strict=True
        ):
            pairs = tuple((THINGS[kind[i]], COLOURS[hue[i]]) for i in (0, 1) if shown[i])
            found.append(Seen(pairs, SEEN_RELATIONS[relation] if len(pairs) == 2 else None))
        return found

    def right(self, images: Pictures, scenes: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
        """Whether each picture shows its scene's pairs, and whether these also stand in its relation; bool [N] each.

        Raises ValueError for a scene that has not two things of two kinds, or not one scene per picture.
        """
        asked = [_shown(scene) for scene in scenes]
        if len(images) != len(asked):
            raise ValueError(f"there must be one scene per picture, not {len(asked)} for {len(images)}")
        both = list(zip(self.name(images), asked, strict=True))
        pairs = np.array([found.pairs == wanted.pairs for found, wanted in both])
        return pairs, np.array([found == wanted for found, wanted in both])


def _shown(scene: Scene) -> Seen:
    """What a picture of the scene shows. Raises ValueError for a scene that has not two things of two kinds."""
    pairs = tuple((toy.thing, toy.colour) for toy in scene.objects)
    places = [THINGS.index(thing) for thing, _ in pairs]
    if len(places) != 2 or places[0] == places[1] or scene.relation not in RELATIONS:
        raise ValueError(
            f'the judge of pairs needs two things of two kinds in a relation, not "{scene.caption}"'
        )
    if places[0] < places[1]:
        return Seen(pairs, scene.relation)
    return Seen(pairs[::-1], OPPOSITES[scene.relation])


def train_pair_judge(
    data: str | Path, scenes: int = 110_000, epochs: int = 3, batch: int = 128
) -> dict[str, float]:
    """Train the judge on renders, save it as the one that ships, and return in which shares of renders it is right.

    It starts from the trunk of the one-thing judge. "relation" is a share of the pictures whose pairs are right.
    Renders into folders of `data`, or finds there, what `judge_training.judge_shards` says. An eighth of the one-thing
    scenes are among them, so that one thing is not taken for two.
    Reproduce with `python -c "from maquette.toybox.pair_judge import *; print(train_pair_judge('data'))"`.
    """
    from .judge_training import fit, judge_shards, read_scenes

    def is_pair(scene: dict) -> bool:
        return len(scene["objects"]) == 2

    shards, tests = judge_shards(Path(data), scenes)
    images, found = read_scenes(shards, lambda scene: is_pair(scene) or scene["index"] % 8 == 0)
    labels = torch.tensor([_label(scene) for scene in found])
    torch.manual_seed(0)
    judge = PairJudge()
    judge.trunk.load_state_dict(Judge.load().trunk.state_dict())

    def loss(pixels: Tensor, chosen: Tensor, mirrored: Tensor) -> Tensor:
        return _loss(judge, pixels, labels[chosen], mirrored)

    fit(judge, images, loss, epochs, batch, learning_rate=1e-3)
    shares = {}
    for split, shards in tests.items():
        images, found = read_scenes(shards, is_pair)
        truth = [make_scene(split, scene["index"]) for scene in found]
        pairs, relations = PairJudge.load().right(images.numpy(), truth)
        shares[f"{split} pairs"] = float(pairs.mean())
        shares[f"{split} relation"] = float(relations.sum() / pairs.sum())
    return shares


def _label(scene: dict) -> list[int]:
    """Thing and colour of the first and of the second toy, which for one is the first again, and their relation."""
    toys = scene["objects"][0], scene["objects"][-1]
    relation = SEEN_RELATIONS.index(scene["relation"]) if scene["relation"] else _NO_RELATION
    return [
        *(i for toy in toys for i in (THINGS.index(toy["thing"]), COLOURS.index(toy["colour"]))),
        relation,
    ]


def _loss(judge: PairJudge, pixels: Tensor, labels: Tensor, mirrored: Tensor) -> Tensor:
    """Cross entropy of what is there, of its colours and of the relation; `labels` [N, 5] as `_label` gives them."""
    first, first_colour, second, second_colour, relation = labels.T
    things, colours, vectors = judge(pixels)
    there = torch.zeros(things.shape).scatter(1, torch.stack([first, second], 1), 1.0)
    value = F.binary_cross_entropy_with_logits(things.float(), there) * len(THINGS) / 2
    rows = torch.arange(len(labels))
    for thing, colour in ((first, first_colour), (second, second_colour)):
        value = value + F.cross_entropy(colours[rows, thing].float(), colour, label_smoothing=0.05) / 2
    relation = torch.where(mirrored, torch.tensor(_IN_A_MIRROR)[relation], relation)
    stands = judge.relations(vectors, first, second).float()
    return value + F.cross_entropy(stands, relation, ignore_index=_NO_RELATION, label_smoothing=0.05)

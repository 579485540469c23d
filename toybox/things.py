"""How the twenty things are built: each is a function that adds parts to a kit, with random proportions.

Things stand on z = 0, about one unit large, their front towards -y. `YAWS` says how far each may be turned about
z from which directions and still be told apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .solids import Kit, extrude, loft, rotation, torus

Builder = Callable[[Kit, np.random.Generator], None]
UPRIGHT = rotation("x", 90)
ACROSS = rotation("y", 90)


def cube(kit: Kit, rng: np.random.Generator) -> None:
    kit.box((1, 1, 1), (0, 0, 0.5))
    kit.stand = (1.0, 0.5)


def ball(kit: Kit, rng: np.random.Generator) -> None:
    kit.ball(0.5, (0, 0, 0.5))


def cylinder(kit: Kit, rng: np.random.Generator) -> None:
    radius = rng.uniform(0.3, 0.46)
    kit.rod(radius, 1, (0, 0, 0.5))
    kit.stand = (1.0, radius)


def cone(kit: Kit, rng: np.random.Generator) -> None:
    radius = rng.uniform(0.38, 0.52)
    kit.lathe([(0, 0), (radius, 0), (0, 1)])


def pyramid(kit: Kit, rng: np.random.Generator) -> None:
    half, height = 0.55, rng.uniform(0.8, 1.0)
    vertices, faces = [], []
    corners = [np.array([x * half, y * half, 0]) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        faces.append([len(vertices), len(vertices) + 1, len(vertices) + 2])
        vertices += [start, end, np.array([0, 0, height])]
    faces += [[12, 14, 13], [12, 15, 14]]
    vertices += corners
    points = np.array(vertices)
    sides = points[:12].reshape(4, 3, 3)
    flat = np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    normals = np.concatenate([np.repeat(flat, 3, axis=0), np.tile([0.0, 0.0, -1.0], (4, 1))])
    kit.add((points, normals, np.array(faces)))


def ring(kit: Kit, rng: np.random.Generator) -> None:
    thickness = rng.uniform(0.095, 0.15)
    radius = 0.5 - thickness
    lean = rng.uniform(0, 25)
    turn = rotation("x", 90 - lean)
    height = thickness + radius * np.cos(np.radians(lean))
    kit.add(torus(radius, thickness, int(kit.segments * 1.25)), (0, 0, height), turn=turn)


def _legs(kit: Kit, x: float, y: float, height: float, thick: float) -> None:
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (sx * (x - thick / 2), sy * (y - thick / 2), height / 2)
            kit.box((thick, thick, height), at)


def chair(kit: Kit, rng: np.random.Generator) -> None:
    width, seat, back = rng.uniform(0.25, 0.30), rng.uniform(0.42, 0.5), rng.uniform(0.98, 1.15)
    thick = rng.uniform(0.06, 0.085)
    _legs(kit, width, width, seat, thick)
    kit.box((2 * width, 2 * width, 0.08), (0, 0, seat))
    kit.stand = (seat + 0.04, width - thick)
    behind = width - thick / 2
    if rng.random() < 0.5:
        kit.box((2 * width, thick, back - seat), (0, behind, (back + seat) / 2))
        return
    for side in (-1, 1):
        kit.box((thick, thick, back - seat), (side * behind, behind, (back + seat) / 2))
    for level in (0.9, 0.52):
        kit.box((2 * width, thick * 0.8, 0.13), (0, behind, seat + (back - seat) * level))


def table(kit: Kit, rng: np.random.Generator) -> None:
    width, depth, height = rng.uniform(0.52, 0.6), rng.uniform(0.34, 0.42), rng.uniform(0.56, 0.68)
    thick = rng.uniform(0.06, 0.085)
    kit.stand = (height, depth)
    if rng.random() < 0.3:
        radius = rng.uniform(0.46, 0.54)
        kit.rod(radius, thick, (0, 0, height - thick / 2))
        _legs(kit, radius * 0.66, radius * 0.66, height - thick / 2, 0.08)
        return
    kit.box((2 * width, 2 * depth, thick), (0, 0, height - thick / 2))
    _legs(kit, width - 0.03, depth - 0.03, height - thick / 2, rng.uniform(0.07, 0.095))


def lamp(kit: Kit, rng: np.random.Generator) -> None:
    top, bottom = rng.uniform(0.16, 0.24), rng.uniform(0.34, 0.42)
    low, high = rng.uniform(0.5, 0.6), 1.0
    kit.lathe([(0, 0), (0.25, 0), (0.25, 0.045), (0.05, 0.08), (0, 0.08)])
    kit.rod(0.032, low + 0.1, (0, 0, (low + 0.1) / 2), "metal")
    kit.ball((0.1, 0.1, 0.12), (0, 0, low + 0.1), "lamp light")
    kit.lathe([(bottom, low), (top, high)])
    kit.lathe([(top - 0.012, high), (bottom - 0.012, low)])


def mug(kit: Kit, rng: np.random.Generator) -> None:
    radius, height = rng.uniform(0.33, 0.4), rng.uniform(0.76, 0.92)
    inside = radius - 0.045
    outer = [(0, 0), (radius * 0.94, 0), (radius, 0.06), (radius, height)]
    kit.lathe([*outer, (inside, height), (inside, 0.07), (0, 0.07)])
    handle = torus(height * rng.uniform(0.27, 0.32), 0.062, kit.segments, arc=180)
    kit.add(handle, (radius - 0.02, 0, height * 0.5), turn=UPRIGHT @ rotation("z", -90))


def house(kit: Kit, rng: np.random.Generator) -> None:
    width, depth, wall = rng.uniform(0.4, 0.46), rng.uniform(0.36, 0.5), rng.uniform(0.5, 0.58)
    peak = wall + rng.uniform(0.3, 0.38)
    kit.add(extrude(np.array([(-width, 0), (width, 0), (width, wall), (0, peak), (-width, wall)]), 2 * depth))
    over, thick = 0.08, 0.06
    slope = np.array([width, wall - peak]) / np.hypot(width, wall - peak)
    up = np.array([-slope[1], slope[0]]) * thick
    for side in (-1, 1):
        ridge, eave = np.array([0.0, peak]), np.array([width, wall]) + slope * over
        outline = np.array([ridge, eave, eave + up, (0, peak + thick * 1.25)]) * [side, 1]
        kit.add(extrude(outline, 2 * depth + 0.12), colour="slate")
    kit.box((0.2, 0.03, 0.32), (0, -depth, 0.16), "wood")
    for x in (-0.27, 0.27):
        kit.box((0.15, 0.03, 0.15), (x * width / 0.43, -depth, 0.31), "glass")
    for side in (-1, 1):
        for y in (-0.5, 0.5):
            kit.box((0.03, 0.16, 0.16), (side * width, y * depth, 0.3), "glass")
    kit.box((0.12, 0.12, 0.3), (width * 0.5, depth * 0.35, peak - 0.02), "main")


def tree(kit: Kit, rng: np.random.Generator) -> None:
    trunk = rng.uniform(0.2, 0.28)
    kit.rod(rng.uniform(0.06, 0.085), trunk + 0.2, (0, 0, (trunk + 0.2) / 2), "wood")
    if rng.random() < 0.5:
        tiers, base, tall = 3, rng.uniform(0.34, 0.42), 1.02 - trunk
        for tier in range(tiers):
            foot = trunk + tall * tier * 0.27
            radius = base * (1 - 0.24 * tier)
            kit.lathe([(0, foot), (radius, foot), (0, foot + tall * 0.46)])
        return
    middle = trunk + 0.38
    kit.ball((0.3, 0.3, 0.32), (0, 0, middle + 0.05))
    spin = rng.uniform(0, 360)
    for leaf in range(4):
        angle = np.radians(spin + 90 * leaf)
        at = (0.19 * np.cos(angle), 0.19 * np.sin(angle), middle + (-0.1, 0.06)[leaf % 2])
        kit.ball(rng.uniform(0.2, 0.25), at)


def car(kit: Kit, rng: np.random.Generator) -> None:
    width, wheel = 0.46, rng.uniform(0.115, 0.135)
    floor, waist = wheel * 0.9, wheel + rng.uniform(0.19, 0.22)
    roof = waist + rng.uniform(0.17, 0.21)
    hood = rng.uniform(0.22, 0.32)
    body = [
        (-0.56, floor),
        (0.56, floor),
        (0.56, waist - 0.03),
        (0.52, waist),
        (-0.53, waist - 0.02),
        (-0.57, waist - 0.09),
    ]
    kit.add(extrude(np.array(body), width))
    front, rear = -0.56 + hood, rng.uniform(0.36, 0.46)
    cabin = np.array([(front, waist), (rear, waist), (rear - 0.09, roof), (front + 0.15, roof)])
    kit.add(extrude(cabin, width * 0.88))
    middle = cabin.mean(0)
    kit.add(extrude((cabin - middle) * [0.8, 0.62] + middle, width * 0.88 + 0.016), colour="glass")
    slant = np.degrees(np.arctan2(roof - waist, 0.15))
    shield = (front + 0.075 - 0.006, 0, (waist + roof) / 2 + 0.004)
    kit.box((0.72 * np.hypot(0.15, roof - waist), width * 0.74, 0.02), shield, "glass", rotation("y", -slant))
    for x in (-0.34, 0.33):
        for side in (-1, 1):
            at = (x, side * (width / 2 - 0.03), wheel)
            kit.rod(wheel, 0.1, at, "rubber", UPRIGHT)
            kit.rod(wheel * 0.5, 0.11, at, "metal", UPRIGHT)
    for side in (-1, 1):
        kit.ball((0.03, 0.05, 0.04), (-0.565, side * 0.15, waist - 0.1), "lamp light")


def rocket(kit: Kit, rng: np.random.Generator) -> None:
    radius, waist = rng.uniform(0.2, 0.24), rng.uniform(0.55, 0.62)
    rise = np.linspace(0, 1, 7)
    hull = [(0.72 * radius, 0.12), (0.93 * radius, 0.26), (radius, 0.42), (radius * 0.99, waist)]
    nose = [(radius * 0.99 * np.cos(np.pi / 2 * t) ** 0.8, waist + (1.08 - waist) * t) for t in rise[1:-1]]
    kit.lathe([*hull, *nose, (0, 1.08)], smooth=True)
    kit.lathe([(0, 0.03), (radius * 0.62, 0.03), (radius * 0.5, 0.13), (0, 0.13)], colour="rubber")
    fin = np.array([(radius * 0.6, 0.16), (radius + 0.17, 0.0), (radius + 0.19, 0.16), (radius * 0.95, 0.44)])
    for angle in (0, 90, 180, 270):
        kit.add(extrude(fin, 0.035), colour="slate", turn=rotation("z", angle + 45))
    for angle, level in ((-90, 0.62), (-90, 0.43)):
        out = rotation("z", angle) @ np.array([radius * 0.96, 0, level])
        kit.add(torus(0.062, 0.02, 14), tuple(out), "metal", rotation("z", angle) @ ACROSS)
        kit.ball((0.02, 0.06, 0.06), tuple(out), "glass", rotation("z", angle))


def snowman(kit: Kit, rng: np.random.Generator) -> None:
    radii = np.array([0.3, 0.215, 0.16]) * rng.uniform(0.95, 1.06, 3)
    heights = [radii[0] * 0.93]
    heights += [heights[0] + 0.78 * (radii[0] + radii[1])]
    heights += [heights[1] + 0.8 * (radii[1] + radii[2])]
    for radius, height in zip(radii, heights, strict=True):
        kit.ball(float(radius), (0, 0, height))
    head, face = heights[2], radii[2]
    kit.lathe([(0.04, 0), (0, 0.2)], (0, -face * 0.93, head), "carrot", turn=UPRIGHT)
    for side in (-1, 1):
        kit.ball(0.027, (side * 0.06, -face * 0.9, head + 0.05), "mark")
        arm = rotation("y", side * rng.uniform(50, 65))
        shoulder = (side * (radii[1] + 0.09), 0, heights[1] + 0.1)
        kit.rod(0.02, 0.3, shoulder, "wood", arm)
    for level in (-0.06, 0.06):
        kit.ball(0.026, (0, -((radii[1] ** 2 - level**2) ** 0.5), heights[1] + level), "mark")
    kit.rod(face * 1.25, 0.03, (0, 0, head + face * 0.72), "slate")
    kit.rod(face * 0.8, 0.2, (0, 0, head + face * 0.72 + 0.1), "slate")


def mushroom(kit: Kit, rng: np.random.Generator) -> None:
    cap, dome, brim = rng.uniform(0.42, 0.5), rng.uniform(0.34, 0.44), rng.uniform(0.38, 0.48)
    stem = rng.uniform(0.12, 0.17)
    foot = [(0, 0), (stem * 1.25, 0)]
    kit.lathe(foot, colour="cream")
    kit.lathe([foot[1], (stem, brim * 0.4), (stem * 0.9, brim + 0.06)], colour="cream", smooth=True)
    angle = np.linspace(0, np.pi / 2, 9)
    shell = np.stack([cap * np.cos(angle), brim + dome * np.sin(angle)], 1)
    shell[-1, 0] = 0
    kit.lathe(shell, smooth=True)
    kit.lathe([(0, brim + 0.05), (cap, brim)], colour="cream")
    spin = rng.uniform(0, 60)
    for tilt, count in ((28, 6), (58, 3)):
        for spot in range(count):
            turn = rotation("z", spin + tilt + 360 * spot / count) @ rotation("y", -tilt)
            out = turn @ np.array([1.0, 0, 0])
            at = out * [cap, cap, dome] + [0, 0, brim]
            kit.ball((0.02, 0.055, 0.055), tuple(at), "spot", turn)


def bottle(kit: Kit, rng: np.random.Generator) -> None:
    radius, neck = rng.uniform(0.17, 0.22), rng.uniform(0.062, 0.078)
    shoulder, throat = rng.uniform(0.5, 0.6), rng.uniform(0.72, 0.78)
    bend = np.linspace(0, np.pi, 7)
    curve = np.stack(
        [neck + (radius - neck) * (1 + np.cos(bend)) / 2, shoulder + (throat - shoulder) * bend / np.pi], 1
    )
    body = [(0, 0), (radius * 0.9, 0), (radius, 0.05), *curve, (neck, 0.96)]
    kit.lathe(body[:3])
    kit.lathe(body[2:], smooth=True)
    kit.rod(neck * 1.35, 0.1, (0, 0, 1.0), "slate")


def bed(kit: Kit, rng: np.random.Generator) -> None:
    width, length, height = rng.uniform(0.36, 0.42), rng.uniform(0.56, 0.62), rng.uniform(0.2, 0.25)
    head = rng.uniform(0.56, 0.66)
    thick = 0.06
    _legs(kit, width, length, height, 0.08)
    kit.box((2 * width, 2 * length, 0.1), (0, 0, height - 0.02))
    kit.box((2 * width + 0.04, thick, head), (0, length, head / 2))
    kit.box((2 * width + 0.04, thick, head * 0.6), (0, -length, head * 0.3))
    kit.box((2 * width - 0.05, 2 * length - 0.06, 0.1), (0, 0, height + 0.06), "pillow")
    cover = length * 1.32
    kit.box((2 * width - 0.01, cover, 0.12), (0, cover / 2 - length + 0.03, height + 0.075))
    kit.stand = (height + 0.135, width * 0.9)
    for side in (-0.5, 0.5):
        kit.ball((width * 0.42, 0.15, 0.065), (side * width, length - 0.2, height + 0.14), "pillow")


def boat(kit: Kit, rng: np.random.Generator) -> None:
    beam, side, length = rng.uniform(0.2, 0.25), rng.uniform(0.22, 0.28), 0.6
    along = np.linspace(0, 1, 11)
    half = beam * np.clip(1 - np.abs(2 * along - 0.75) ** 2.4 / 1.25**2.4, 1e-4, 1) ** 0.7
    x = length * (1 - 2 * along)
    sheer = side + 0.07 * (2 * along - 0.9) ** 2
    angle = np.linspace(-np.pi / 2, np.pi / 2, 9)
    sections = np.empty((11, 9, 3))
    sections[..., 0] = x[:, None] * (1 - 0.16 * np.cos(angle))
    sections[..., 1] = half[:, None] * np.sin(angle)
    sections[..., 2] = sheer[:, None] * (1 - np.cos(angle) ** 0.8)
    kit.add(loft(sections))
    stern, middle = sections[0], sections[0].mean(0)
    kit.add(loft(np.stack([stern, middle + 0.01 * (stern - middle)])))
    rim = np.concatenate([np.stack([x, half], 1), np.stack([x, -half], 1)[-2:0:-1]])
    deck = extrude(rim * 0.97, 0.02)
    kit.add(deck, (0, 0, side - 0.01), "wood", UPRIGHT)
    mast, top = -0.02, rng.uniform(1.05, 1.2)
    kit.rod(0.02, top - side, (mast, 0, (top + side) / 2), "wood")
    foot = side + 0.1
    main = np.array([(mast + 0.03, foot), (mast + rng.uniform(0.42, 0.5), foot), (mast + 0.03, top - 0.04)])
    kit.add(extrude(main, 0.015))
    jib = np.array([(mast - 0.03, foot), (mast - 0.03, top - 0.2), (mast - rng.uniform(0.34, 0.42), foot)])
    kit.add(extrude(jib, 0.015), colour="paper")


def airplane(kit: Kit, rng: np.random.Generator) -> None:
    radius, level = rng.uniform(0.11, 0.13), 0.23
    span, chord = rng.uniform(0.5, 0.58), rng.uniform(0.25, 0.3)
    body = [
        (0, -0.6),
        (0.55, -0.57),
        (0.85, -0.48),
        (1, -0.35),
        (1, 0.1),
        (0.75, 0.35),
        (0.35, 0.58),
        (0, 0.62),
    ]
    kit.lathe([(radius * r, z) for r, z in body], (0, 0, level), smooth=True, turn=ACROSS)
    for side in (-1, 1):
        wing = np.array([(-chord * 0.75, 0), (chord * 0.45, 0), (chord * 0.75, span), (chord * 0.05, span)])
        kit.add(extrude(wing * [1, side], 0.035), (-0.02, 0, level), turn=UPRIGHT)
        tail = np.array([(0.4, 0), (0.58, 0), (0.62, 0.24), (0.52, 0.24)])
        kit.add(extrude(tail * [1, side], 0.025), (0, 0, level + 0.02), turn=UPRIGHT)
    kit.add(extrude(np.array([(0.38, 0), (0.6, 0), (0.66, 0.27), (0.55, 0.27)]), 0.03), (0, 0, level + 0.03))
    kit.ball((0.085, radius * 0.8, 0.06), (-0.4, 0, level + radius * 0.72), "glass")
    for x, y in ((-0.4, 0), (0.06, -0.12), (0.06, 0.12)):
        kit.rod(0.014, level, (x, y, level / 2), "metal")
        kit.rod(0.05, 0.04, (x, y, 0.05), "rubber", UPRIGHT)


BUILDERS: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        cube, ball, cylinder, cone, pyramid, ring, chair, table, lamp, mug,
        house, tree, car, rocket, snowman, mushroom, bottle, bed, boat, airplane,
    )
}  # fmt: skip

# Thing -> (directions in degrees, how far the yaw strays from the one drawn).
YAWS: dict[str, tuple[tuple[float, ...], float]] = {
    "cube": ((45,), 32),
    "pyramid": ((45,), 30),
    "ring": ((0,), 50),
    "chair": ((-35, 35), 25),
    "table": ((-35, 35), 25),
    "mug": ((0, 180), 38),
    "house": ((-33, 33), 18),
    "car": ((-25, 25, 155, 205), 22),
    "rocket": ((0,), 60),
    "snowman": ((0,), 40),
    "bed": ((-42, 42), 20),
    "boat": ((-18, 18, 162, 198), 22),
    "airplane": ((35, -35, 145, 215), 22),
}

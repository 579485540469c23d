"""Rulers for texture: what an eye sees of speckle, blur and ragged edges, and what networks that name things overlook.

`texture_distance` compares how strong the waves in small patches are, everywhere in two sets of pictures; nothing is
pooled before the two distributions are compared. `gradient_energy` compares sharpness alone.
"""

from collections.abc import Sequence

import numpy as np
from einops import rearrange
from PIL import Image

Pictures = np.ndarray | Sequence[Image.Image]

PATCH = 4
STRIDE = 2
FAINT = 0.04
"""An amplitude, where black to white is 1, that is hardly seen: how strong still weaker waves are counts little."""


def texture_distance(pictures: Pictures, others: Pictures) -> float:
    """Fréchet distance of two sets of pictures in the waves of their patches: 0 for equal sets, more the less alike.

    Each is uint8 [N, H, W, 3] or PIL images of one size. A sample is a patch of 4 × 4 pixels, every other one across
    and down; its features are the log amplitudes of its cosine transform, of each colour by itself, without the means.
    Compare with the floor: the distance of other renders of the same scenes, as many.
    Raises ValueError for arrays of another shape or type, sets of different sizes, and less than 8 × 8 pixels.
    Source: Dowson and Landau 1982; Heusel et al. 2017 (FID), section 3, who take a network's pooled features instead.
    """
    from scipy.linalg import eigh, eigvalsh

    arrays = _bytes(pictures), _bytes(others)
    if arrays[0].shape[1:] != arrays[1].shape[1:]:
        raise ValueError(
            f"textures are compared at one size, not {arrays[0].shape[1:3]} with {arrays[1].shape[1:3]}"
        )
    (mean, covariance), (other_mean, other_covariance) = map(_moments, arrays)
    variances, axes = eigh(covariance)
    root = (axes * np.sqrt(variances.clip(0))) @ axes.T
    shared = np.sqrt(eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * shared
    return float(((mean - other_mean) ** 2).sum() + spread)


def gradient_energy(pictures: Pictures) -> float:
    """Mean squared difference of neighbouring pixels, across plus down, where black to white is 1.

    `pictures` as for `texture_distance`. Divide by the renders' to compare sharpness.
    """
    images = _bytes(pictures)
    energies = []
    for image in images:
        image = image / 255
        energies.append((np.diff(image, axis=0) ** 2).mean() + (np.diff(image, axis=1) ** 2).mean())
    return float(np.mean(energies))


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [45] and covariance [45, 45] of the patches' features, summed up picture by picture."""
    from scipy.fft import dctn

    width = 3 * (PATCH**2 - 1)
    count, total, products = 0, np.zeros(width), np.zeros((width, width))
    for image in images:
        windows = np.lib.stride_tricks.sliding_window_view(image / 255, (PATCH, PATCH), axis=(0, 1))
        waves = np.asarray(dctn(windows[::STRIDE, ::STRIDE], axes=(-2, -1), norm="ortho"))
        waves = rearrange(waves, "down across colour y x -> (down across) colour (y x)")[:, :, 1:]
        features = rearrange(np.log(np.abs(waves) + FAINT), "patch colour wave -> patch (colour wave)")
        count, total = count + len(features), total + features.sum(0)
        products += features.T @ features
    mean = total / count
    return mean, products / count - np.outer(mean, mean)


def _bytes(pictures: Pictures) -> np.ndarray:
    """Uint8 [N, H, W, 3]."""
    if not isinstance(pictures, np.ndarray):
        pictures = np.stack([np.asarray(image.convert("RGB")) for image in pictures])
    if (
        pictures.ndim != 4
        or pictures.shape[3] != 3
        or pictures.dtype != np.uint8
        or min(pictures.shape[:3]) < 1
    ):
        raise ValueError(f"pictures must be uint8 [N, H, W, 3], not {pictures.dtype} {list(pictures.shape)}")
    if min(pictures.shape[1:3]) < 2 * PATCH:
        raise ValueError(f"texture needs pictures of at least {2 * PATCH} px, not {pictures.shape[1:3]}")
    return pictures

"""The gallery: a small picture a post, cut out of the figures that the demos have drawn.

python -m demos all; python -m demos.gallery writes demos/gallery/*.png from out/, or from another folder that it is
given. A post whose demo has not been run keeps the picture that it has.
"""
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from minivae import plots

WIDTH, HEIGHT, DPI, LEVELS = 320, 240, 80, 32
# the figure, and the part of it, as fractions: from the left, from the top, width, height
PICTURES = {"paradigms": ("paradigms/paradigms.png", (0, 0, 1, 1)),
            "latent_variable_models": ("ppca/completed.png", (0, 0, 1, 1)),
            "variational_inference": ("inference/forward_and_reverse.png", (0, 0, 1, 1)),
            "vae_objective": ("vae/manifold.png", (0, 0, 1, 1)),
            "conditional_vae": ("cvae/styles.png", (0, 0, 1, 1)),
            "beta_vae": ("beta_vae/traversals.png", (0, 0, 1, 1)),
            "variants": ("flows/energies.png", (0, 0, 1, 1)),
            "diffusion": ("diffusion/there_and_back.png", (0, 0, 1, 1))}


def small(path: Path, part: tuple) -> Figure:
    """That part of a picture, as large as WIDTH x HEIGHT takes it, in few enough shades to make a small file."""
    picture = imread(path)[..., :3]
    h, w = picture.shape[:2]
    left, top, wide, high = np.round(np.array(part) * (w, h, w, h)).astype(int)
    figure = Figure((WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(np.round(picture[top:top + high, left:left + wide] * LEVELS) / LEVELS, interpolation="antialiased")
    ax.axis("off")
    return figure


def main(source: Path):
    for post, (figure, part) in PICTURES.items():
        if (source / figure).exists():
            path = plots.save(small(source / figure, part), Path(__file__).with_name(f"{post}.png"), DPI)
            print(f"wrote {path}, {path.stat().st_size / 1000:.0f} kB")
        else:
            print(f"{post}: there is no {source / figure}: run its demo first")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "out"))

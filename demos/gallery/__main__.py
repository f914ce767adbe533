"""The gallery: a small picture a post, cut out of the figures that the demos have drawn.

python -m demos all; python -m demos.gallery writes demos/gallery/*.png from out/, or from another folder that it is
given. A post whose demo has not been run keeps the picture that it has.
"""
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from minivae.files import atomic

WIDTH, HEIGHT, SHADES = 320, 240, 12
# the figure, and the part of it, as fractions: from the left, from the top, width, height
PICTURES = {"paradigms": ("paradigms/paradigms.png", (0.18, 0, 0.82, 1)),
            "latent_variable_models": ("ppca/completed.png", (0.103, 0.128, 0.318, 0.828)),
            "variational_inference": ("inference/forward_and_reverse.png", (0.055, 0.06, 0.435, 0.755)),
            "vae_objective": ("vae/manifold.png", (0.05, 0.2, 0.9, 0.63)),
            "conditional_vae": ("cvae/styles.png", (0, 0.045, 0.75, 0.575)),
            "beta_vae": ("beta_vae/traversals.png", (0.058, 0.048, 0.884, 0.944)),
            "variants": ("vq_vae/samples.png", (0.1, 0.03, 0.62, 0.51)),
            "diffusion": ("diffusion/there_and_back.png", (0.183, 0.06, 0.485, 0.92))}


def small(path: Path, part: tuple) -> np.ndarray:
    """That part of a picture, on WIDTH x HEIGHT pixels (h, w, 3) of bytes, in few enough shades for a small file."""
    picture = imread(path)[..., :3]
    h, w = picture.shape[:2]
    left, top, wide, high = np.round(np.array(part) * (w, h, w, h)).astype(int)
    figure = Figure((WIDTH / 100, HEIGHT / 100), dpi=100)
    canvas, ax = FigureCanvasAgg(figure), figure.add_axes((0, 0, 1, 1))
    ax.imshow(picture[top:top + high, left:left + wide], interpolation="antialiased")
    ax.axis("off")
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    return np.uint8(np.round(pixels * SHADES) / SHADES * 255)


def main(source: Path):
    for post, (figure, part) in PICTURES.items():
        if (source / figure).exists():
            path = Path(__file__).with_name(f"{post}.png")
            with atomic(path) as file:
                imsave(file, small(source / figure, part), format="png")
            print(f"wrote {path}, {path.stat().st_size / 1000:.0f} kB")
        else:
            print(f"{post}: there is no {source / figure}: run its demo first")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "out"))

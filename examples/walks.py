"""Two films as animated WebP: from one latent to another of the same class, and from class to class."""

from pathlib import Path

from tqdm.auto import tqdm

from nsbgan_infer import Latents, NsbPipeline, walk
from nsbgan_infer.images import to_pil

FRAMES = 12

out = Path("out/examples")
out.mkdir(parents=True, exist_ok=True)
pipeline = NsbPipeline.from_pretrained("embedded")


def film(start: Latents, end: Latents, path: Path) -> None:
    """Walk from start to end and back: z along the great arc, the class weights along the straight line."""
    way = walk(start, end, FRAMES)
    frames = []
    for i in tqdm(range(FRAMES), desc=path.name):
        *_, (_name, picture) = pipeline.steps(way[i : i + 1], resolution=256)
        frames += to_pil(picture)
    frames[0].save(path, save_all=True, append_images=frames[1:] + frames[-2:0:-1], duration=100, loop=0, quality=80)
    print(path)


dog, other_dog, church = (
    pipeline.latents(name, seeds=seed)
    for name, seed in (("golden retriever", 2), ("golden retriever", 1), ("church", 2))
)
film(dog, other_dog, out / "walk_latents.webp")
film(dog, church, out / "walk_classes.webp")

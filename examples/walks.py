"""Two films as animated WebP: from one latent to another of the same class, and from class to class."""

from pathlib import Path

from nsbgan_infer import Latents, NsbPipeline, draw_latents, find_class, walk
from nsbgan_infer.images import to_pil

FRAMES = 12

out = Path("out/examples")
out.mkdir(parents=True, exist_ok=True)
pipeline = NsbPipeline.from_pretrained("embedded")


def latents(name: str, seed: int) -> Latents:
    """The latents of one image, drawn as this sampler's weights expect."""
    info = pipeline.sampler.info
    return draw_latents(
        [seed],
        [find_class(name).id],
        z_dim=info.z_dim,
        truncation=info.truncation,
        mode=info.truncation_mode,
        truncates=info.truncates,
    )


def film(start: Latents, end: Latents, path: Path) -> None:
    """Walk from start to end and back: z along the great arc, the class weights along the straight line."""
    way = walk(start, end, FRAMES)
    frames = []
    for i in range(FRAMES):
        *_, (_name, picture) = pipeline.steps(way[i : i + 1], resolution=256)
        frames += to_pil(picture)
    frames[0].save(path, save_all=True, append_images=frames[1:] + frames[-2:0:-1], duration=100, loop=0, quality=80)
    print(path)


film(latents("golden retriever", 1), latents("golden retriever", 2), out / "walk_latents.webp")
film(latents("golden retriever", 2), latents("church", 2), out / "walk_classes.webp")

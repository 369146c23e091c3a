"""What a visitor may bring back of what they have trained here: of a diffusers folder only the weights are read, into networks of our own making.

Its other files are for diffusers; nothing of them is looked at. Weights that do not fit exactly are refused, as in keep.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file

from genkit import keep
from genkit.diffusion import networks, pipeline, pixel, points, teach

SETTINGS = 1 << 16  # bytes of a file of settings
UNET = "unet/diffusion_pytorch_model.safetensors"
INDEX = {keep.CARD: 1 << 18, "model_index.json": SETTINGS, "scheduler/scheduler_config.json": SETTINGS, "unet/config.json": SETTINGS}
WORDS = {f"tokenizer/{name}": 4 << 20 for name in ("tokenizer.json", "vocab.json", "merges.txt")} | {
    f"tokenizer/{name}": SETTINGS for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
}


@dataclass(frozen=True)
class Parcel(keep.Form):
    """A diffusers pipeline: make() builds it; parts: the file of the weights of each of its networks, file -> its name in the pipeline."""

    make: Callable
    fields: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)

    def assembled(self, folder: Path):
        pipe = self.make()
        for file, name in self.parts.items():
            network = getattr(pipe, name)
            kinds = {
                key: ("F16", "F32") if part.is_floating_point() else (keep.KINDS[str(part.dtype).rpartition(".")[2]],)
                for key, part in network.state_dict().items()
            }
            keep.check_weights(folder / file, {key: (tuple(part.shape), kinds[key]) for key, part in network.state_dict().items()})
            network.load_state_dict({key: part.float() if part.is_floating_point() else part for key, part in load_file(folder / file).items()})
        return pipe

    def networks(self, model) -> list:
        return [getattr(model, name) for name in self.parts.values()]


def digits() -> keep.Form:
    """A DDIMPipeline of the digits variant."""
    return Parcel(lambda: pixel.pipeline(pixel.unet().eval()), files={**INDEX, UNET: 4 << 20}, needed=("model_index.json", UNET), parts={UNET: "unet"})


def drawn_points() -> keep.Form:
    """A network that knows where points lie."""
    return keep.Form(points.Mover, {"width": range(8, 257), "depth": range(1, 7), "waves": range(7)})


def own_model() -> keep.Form:
    """A StableDiffusionPipeline with a U-Net that was taught here; its text encoder and autoencoder are of the shipped one's shapes."""
    parts = {UNET: "unet", "text_encoder/model.safetensors": "text_encoder", "vae/diffusion_pytorch_model.safetensors": "vae"}
    files = {**INDEX, **WORDS, **dict.fromkeys(parts, keep.FILES[keep.WEIGHTS]), "text_encoder/config.json": SETTINGS, "vae/config.json": SETTINGS}
    return Parcel(_fresh, files=files, needed=("model_index.json", *parts), parts=parts)


def _fresh():
    """The shipped parts with a U-Net that knows nothing: a pipeline of one's own, since pipeline.load() opens the files anew."""
    shipped = pipeline.load(teach.SHIPPED)
    return networks.pipeline(shipped.vae, shipped.text_encoder, shipped.tokenizer, teach.unet(shipped))

"""The bodies of requests and answers as pydantic models, for the OpenAPI page and for checking what arrives."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from nsbgan_infer.latents import LAST_SEED


class GenerateBody(BaseModel):
    """One picture."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    wanted: StrictInt | StrictStr | None = Field(
        None,
        alias="class",
        description="An id (207), a WordNet id (n02099601) or a name (golden retriever).",
        examples=[207],
    )
    seed: int = Field(0, ge=0, le=LAST_SEED, strict=True)
    preset: str | None = Field(None, max_length=100, description="One of GET /models; the first if left out.")
    truncation: float | None = Field(None, gt=0, le=1, strict=True, allow_inf_nan=False)
    truncation_mode: Literal["scale", "resample", "std"] | None = None
    resolution: int | None = Field(None, ge=1, le=4096, strict=True, description="Of those of the preset.")
    seconds: float | None = Field(
        None, gt=0, strict=True, allow_inf_nan=False, description="Give up after so many seconds."
    )


class Generated(BaseModel):
    """A picture from latents with what it was made from (Accept: application/json)."""

    recipe: dict[str, Any]
    z: list[float] = Field(description="The latent, step 1; with the class it gives the sample.")
    class_id: int | None
    class_name: str | None
    psnr: float | None = Field(None, description="Of an inverted photo: how near the picture comes to it, in dB.")
    png: str = Field(description="The picture's file in base64.")


class ClassRow(BaseModel):
    """One class."""

    id: int
    wnid: str
    names: list[str]
    presets: list[str] = Field(description="The presets that draw it.")


class PresetRow(BaseModel):
    """A pipeline that is served."""

    name: str
    sampler: str
    decoders: list[str]
    classes: int = Field(description="How many it draws; 0: it draws without classes.")
    resolutions: list[int]
    truncation: float
    licences: dict[str, str]


class Models(BaseModel):
    """What is served."""

    presets: list[PresetRow]
    upscalers: list[str] = Field(description="Decoders for POST /upscale, the default first.")


class Health(BaseModel):
    """How busy the service is."""

    status: Literal["ok", "stopping"]
    waiting: int
    running: int


class Problem(BaseModel):
    """Every answer with a status of 400 or more."""

    error: str

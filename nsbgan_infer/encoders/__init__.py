"""Step 3, encoders: a picture (B, 3, H, W) becomes a low band (B, 3, H / 2^levels, W / 2^levels)."""

from nsbgan_infer.encoders.base import Encoder
from nsbgan_infer.encoders.pixel import PixelEncoder
from nsbgan_infer.encoders.table import encoder_config, make_encoder
from nsbgan_infer.encoders.wavelet import Pyramid, WaveletEncoder

__all__ = ["Encoder", "PixelEncoder", "Pyramid", "WaveletEncoder", "encoder_config", "make_encoder"]

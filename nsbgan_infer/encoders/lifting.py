"""The bior2.2 (LeGall 5/3) wavelet by lifting, one level forward and inverse, gain-free.

Tensors are (..., H, W) with even H and W, any float dtype, any device. With 1-D samples x[0..n-1]
(spec: Le Gall & Tabatabai 1988; JPEG 2000 part 1, annex F; paper section 3.1.1 and appendix G)::

    d[k] = x[2k+1] - (x[2k] + x[2k+2]) / 2          s[k] = x[2k] + (d[k-1] + d[k]) / 4
    x[2k] = s[k] - (d[k-1] + d[k]) / 4              x[2k+1] = d[k] + (x[2k] + x[2k+2]) / 2

pywt's coefficients are L = sqrt(2) s and H = -d / sqrt(2) per axis. Here every 2-D level is divided by 2, so a
flat grey of 0.5 stays 0.5 in the low band: low = LL / 2 = s s, cH / 2 = -d s / 2, cV / 2 = -s d / 2, cD / 2 = d d / 4.

Boundary `symmetric` mirrors at the border samples and is exactly invertible. Boundary `zero` equals pywt's
``dwt2(..., mode="zero")`` cropped to ``[1 : 1 + n/2]``, which is what the paper's authors ran; its inverse is theirs
too and does not restore the first two and the last row and column of a level.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from nsbgan_infer.errors import UsageError

Boundary = Literal["symmetric", "zero"]


def check_boundary(boundary: str) -> None:
    """Raise UsageError unless `boundary` is `symmetric` or `zero`."""
    if boundary not in get_args(Boundary):
        raise UsageError(f"Unknown boundary '{boundary}': use symmetric (exactly invertible) or zero.")


def dwt2(x: Tensor, boundary: Boundary = "symmetric") -> tuple[Tensor, Tensor]:
    """One level: (..., C, H, W) -> low (..., C, H/2, W/2), details (..., 3, C, H/2, W/2) in the order cH, cV, cD.

    Raises UsageError for odd H or W (the encoder pads before it comes here).
    """
    check_boundary(boundary)
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        raise UsageError(
            f"The transform needs even sizes, got {x.shape[-2]} x {x.shape[-1]}: pad by one row or column."
        )
    s, d = _split(x, -1, boundary)  # along width
    ss, ds = _split(s, -2, boundary)  # along height: low and high of the low part
    sd, dd = _split(d, -2, boundary)
    return ss, torch.stack((ds * -0.5, sd * -0.5, dd * 0.25), dim=-4)


def idwt2(low: Tensor, details: Tensor | None, boundary: Boundary = "symmetric") -> Tensor:
    """Inverse of `dwt2`. `details` None means zero details: bilinear enlargement with samples at 0, 2, 4, ..."""
    check_boundary(boundary)
    if details is None:
        zero = torch.zeros_like(low)
        return _merge(_merge(low, zero, -2, boundary), torch.zeros(1, dtype=low.dtype, device=low.device), -1, boundary)
    ch, cv, cd = details.unbind(dim=-4)
    s = _merge(low, ch * -2, -2, boundary)
    d = _merge(cv * -2, cd * 4, -2, boundary)
    return _merge(s, d, -1, boundary)


def _split(x: Tensor, dim: int, boundary: Boundary) -> tuple[Tensor, Tensor]:
    even, odd = torch.unflatten(x, dim, (-1, 2)).unbind(dim)
    n = even.shape[dim]
    first, last = even.narrow(dim, 0, 1), even.narrow(dim, n - 1, 1)
    after = last if boundary == "symmetric" else torch.zeros_like(last)  # x[n]
    d = odd - (even + torch.cat((even.narrow(dim, 1, n - 1), after), dim)) * 0.5
    before = d.narrow(dim, 0, 1) if boundary == "symmetric" else first * -0.5  # d[-1]
    s = even + (torch.cat((before, d.narrow(dim, 0, n - 1)), dim) + d) * 0.25
    return s, d


def _merge(s: Tensor, d: Tensor, dim: int, boundary: Boundary) -> Tensor:
    n = s.shape[dim]
    d = d.expand_as(s)
    first, last = d.narrow(dim, 0, 1), d.narrow(dim, n - 1, 1)
    before = first if boundary == "symmetric" else torch.zeros_like(first)  # d[-1]
    even = s - (torch.cat((before, d.narrow(dim, 0, n - 1)), dim) + d) * 0.25
    after = even.narrow(dim, n - 1, 1) if boundary == "symmetric" else last * -0.25  # x[n]
    odd = d + (even + torch.cat((even.narrow(dim, 1, n - 1), after), dim)) * 0.5
    return torch.stack((even, odd), dim=dim).flatten(dim - 1, dim)

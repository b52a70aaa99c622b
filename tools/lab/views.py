"""Augmented views of stored crops for the student and the teacher, on any torch device.

Both networks get the same source picture, a stored crop or a blend of two:

    source (144 px) ─▶ turn, scale, shift, mirror ─▶ teacher's view ─▶ embedding
                                     └────────────▶ faults ─▶ student's view

Geometry and blends change the wanted embedding, so the teacher gets them too. Faults (light, cover, blur, noise, low
resolution, compression) must not change it, so only the student gets them. A CPU generator, seeded by the step, draws
all strengths. A step therefore gives the same views on every device, except for rounding and the pixel noise.

Sources: Beyer and others, "Knowledge distillation: a good teacher is patient and consistent" (2022): both networks see
the same picture. Zhang and others, "mixup" (2018), and Yun and others, "CutMix" (2019): blends of two pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from torch import Tensor

from tools.lab import teacher as teacher_net
from tools.lab.data import BORDER_PX, STORED_PX

SIDE_PX = 128  # side of the student's picture in the geometry of the device
# Standard deviations of the errors of detector and aligner: roll, log of scale, shift. The product's cut of a picture
# and the stored crop have a mean cosine of 0.868, so the spread must be wide.
_TURN_RAD, _SCALE, _SHIFT_PX = 0.07, 0.06, 2.8
_WIDEST = 2.5  # standard deviations
_FARTHEST_BLEND = 0.5  # highest weight of the second face
_FULL_AGREEMENT = 0.8  # cosine of student and teacher above which the highest weight is used
_NEAREST_BLEND = 0.2  # lowest share of the highest weight, for low agreement


@dataclass(frozen=True, slots=True)
class Dice:
    """Random numbers of one step, drawn on the CPU and moved to the device of the pictures."""

    generator: torch.Generator
    device: torch.device

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(count,) float32."""
        return (torch.rand(count, generator=self.generator) * (high - low) + low).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """Float32 of this shape, clipped at `_WIDEST` standard deviations."""
        return torch.randn(*shape, generator=self.generator).clamp(-_WIDEST, _WIDEST).to(self.device)

    def chosen(self, count: int, share: float) -> Tensor:
        """(count,) bool, each true with probability `share`."""
        return (torch.rand(count, generator=self.generator) < share).to(self.device)

    def order(self, count: int) -> Tensor:
        """Return a permutation of 0 … count − 1."""
        return torch.randperm(count, generator=self.generator).to(self.device)


def dice(seed: int, step: int, device: torch.device) -> Dice:
    """Return the random numbers of one step of one run."""
    return Dice(torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63), device)


def blend(sources: Tensor, agreement: Tensor, share: float, d: Dice) -> Tensor:
    """Blend a share of the sources with another face of the batch: half of them as a whole, half of them in part.

    `sources` (B, 1, 144, 144) in 0..1; `agreement` (B,): the last cosine of student and teacher on each. The other face
    first gets the same mean and contrast, which hides the seam. A part is a half-plane with a soft border. A higher
    agreement gives a stronger blend. Source of the last rule: Shahreza and others, "SynthDistill" (2023).
    """
    count = len(sources)
    other = sources[d.order(count)]
    other = _same_light(other, sources)
    reach = (agreement / _FULL_AGREEMENT).clamp(_NEAREST_BLEND, 1)
    whole = d.uniform(count, 0, _FARTHEST_BLEND) * reach
    angle, place = d.uniform(count, 0, 2 * math.pi), d.uniform(count, -0.1, 0.6)
    width = d.uniform(count, 0.05, 0.4)
    axis = torch.linspace(-1, 1, sources.shape[-1], device=sources.device)
    along = angle.cos()[:, None, None] * axis + angle.sin()[:, None, None] * axis[:, None]  # (B, S, S)
    # A lower agreement moves the border outwards, so a smaller part of the other face is visible.
    border = (place + (1 - reach) * 0.6)[:, None, None]
    part = torch.sigmoid((along - border) / width[:, None, None] * 4)
    weight = torch.where(d.chosen(count, 0.5)[:, None, None], whole[:, None, None].expand_as(part), part)
    weight = weight * d.chosen(count, share)[:, None, None]
    return torch.lerp(sources, other, weight[:, None])


def _same_light(pictures: Tensor, like: Tensor) -> Tensor:
    mean, spread = (f(pictures) for f in (_mean, _spread))
    return ((pictures - mean) * (_spread(like) / spread) + _mean(like)).clamp(0, 1)


def _mean(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3), keepdim=True)


def _spread(x: Tensor) -> Tensor:
    return x.std((1, 2, 3), keepdim=True).clamp_min(0.02)


def geometry(count: int, d: Dice) -> Tensor:
    """Return random similarities (B, 2, 3) float32 from px of the student's 128 px picture to px of the stored crop."""
    turn, scale = d.normal(count) * _TURN_RAD, torch.exp(d.normal(count) * _SCALE)
    shift = d.normal(count, 2) * _SHIFT_PX
    mirror = torch.where(d.chosen(count, 0.5), -1.0, 1.0)
    c, s = torch.cos(turn) / scale, torch.sin(turn) / scale
    linear = torch.stack([torch.stack([c * mirror, -s], 1), torch.stack([s * mirror, c], 1)], 1)  # (B, 2, 2)
    middle = torch.full((2,), (SIDE_PX - 1) / 2, device=shift.device)
    at = torch.full((2,), (STORED_PX - 1) / 2, device=shift.device) + shift - linear @ middle
    return torch.cat([linear, at[:, :, None]], 2)


def unmoved(count: int, device: torch.device) -> Tensor:
    """Return the geometry without augmentation, (B, 2, 3)."""
    matrix = torch.tensor([[1.0, 0.0, BORDER_PX], [0.0, 1.0, BORDER_PX]], device=device)
    return matrix.expand(count, 2, 3)


def student_view(sources: Tensor, geometry_px: Tensor) -> Tensor:
    """Cut (B, 1, 128, 128) out of the sources."""
    return cut(sources, geometry_px, SIDE_PX)


def teacher_view(sources: Tensor, geometry_px: Tensor) -> Tensor:
    """Cut what the student sees, in the teacher's geometry: (B, 1, 128, 128)."""
    scale, (x, y) = teacher_net.SCALE, teacher_net.OFFSET_PX
    # The teacher's input ← stored crop is (scale, offset). The student's crop lies BORDER_PX inside the stored one.
    back = torch.tensor([[1 / scale, 0.0, -x / scale - BORDER_PX], [0.0, 1 / scale, -y / scale - BORDER_PX]])
    return cut(sources, _chained(geometry_px, back.to(geometry_px)), teacher_net.SIDE_PX)


def _chained(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the (B, 2, 3) map that applies `inner` (2, 3) first."""
    linear = outer[:, :, :2] @ inner[:, :2]
    return torch.cat([linear, outer[:, :, :2] @ inner[:, 2:] + outer[:, :, 2:]], 2)


def cut(sources: Tensor, matrix_px: Tensor, side_px: int) -> Tensor:
    """Sample (B, 1, side, side) at `matrix_px` (B, 2, 3), which maps pixels of the result to pixels of the source.

    Bilinear; outside of the source the border is repeated.
    """
    size = sources.shape[-1]
    axis = torch.arange(side_px, dtype=torch.float32, device=sources.device)
    points = torch.stack([axis.expand(side_px, side_px), axis[:, None].expand(side_px, side_px)], -1)  # (S, S, 2) x, y
    at = points.view(1, -1, 2) @ matrix_px[:, :, :2].transpose(1, 2) + matrix_px[:, :, 2][:, None]  # (B, S·S, 2)
    grid = ((2 * at + 1) / size - 1).view(len(sources), side_px, side_px, 2)
    return F.grid_sample(sources, grid.to(sources.dtype), padding_mode="border", align_corners=False)


# The order is the order of nature: on the way to the lens, in the lens, on the sensor, in the file.


def with_faults(x: Tensor, d: Dice) -> Tensor:
    """Return what a wearable's camera makes of pictures (B, 1, S, S) in 0..1."""
    x = _side_light(x, d)
    x = _cover(x, d)
    x = _tones(x, d)
    x = _low_resolution(x, d)
    x = _blur(x, d)
    x = _noise(x, d)
    return _compressed(x.clamp(0, 1), d).clamp(0, 1)


def _wide(v: Tensor) -> Tensor:
    return v[:, None, None, None]


def _axis(x: Tensor) -> Tensor:
    return torch.linspace(-1, 1, x.shape[-1], device=x.device)


def _side_light(x: Tensor, d: Dice) -> Tensor:
    """Brightness falls across the face: half the time as a ramp, half the time as the edge of a cast shadow."""
    count, axis = len(x), _axis(x)
    angle, strength = d.uniform(count, 0, 2 * math.pi), d.uniform(count, 0, 0.95) * d.chosen(count, 0.45)
    along = _wide(angle.cos()) * axis + _wide(angle.sin()) * axis[:, None]
    softness, place = d.uniform(count, 0.05, 0.5), d.uniform(count, -0.5, 0.5)
    edge = 2 * torch.sigmoid((along - _wide(place)) / _wide(softness) * 2) - 1
    shape = torch.where(_wide(d.chosen(count, 0.5)), along, edge)
    return x * (1 + _wide(strength) * shape).clamp_min(0.03)


def _cover(x: Tensor, d: Dice) -> Tensor:
    """One gray rectangle over a part of the face: a mask, a hand, a scarf."""
    count, axis = len(x), (_axis(x) + 1) / 2
    chosen = d.chosen(count, 0.2)
    height, width = d.uniform(count, 0.12, 0.5), d.uniform(count, 0.12, 0.6)
    top, left = d.uniform(count) * (1 - height), d.uniform(count) * (1 - width)
    rows = (axis >= top[:, None]) & (axis < (top + height)[:, None])
    columns = (axis >= left[:, None]) & (axis < (left + width)[:, None])
    box = rows[:, :, None] & columns[:, None] & chosen[:, None, None]
    return torch.where(box[:, None], _wide(d.uniform(count)), x)


def _tones(x: Tensor, d: Dice) -> Tensor:
    count = len(x)
    exponent = torch.exp(d.uniform(count, -0.6, 0.6) * d.chosen(count, 0.7))
    x = x.clamp(1e-3, 1) ** _wide(exponent)
    gain = 1 + d.uniform(count, -0.4, 0.3) * d.chosen(count, 0.7)
    return (x - 0.5) * _wide(gain) + 0.5 + _wide(d.uniform(count, -0.15, 0.15) * d.chosen(count, 0.7))


_SIDES_PX = (16, 20, 24, 28, 32, 40, 48, 64)


def _low_resolution(x: Tensor, d: Dice) -> Tensor:
    """As if the crop had been so few pixels wide on the sensor."""
    chosen, kind = d.chosen(len(x), 0.3), d.uniform(len(x), 0, len(_SIDES_PX)).long()
    side = x.shape[-1]
    for i, small_px in enumerate(_SIDES_PX):
        of = (chosen & (kind == i)).nonzero()[:, 0]
        if len(of) and small_px < side:
            small = F.interpolate(x[of], size=(small_px, small_px), mode="area")
            x = x.index_copy(0, of, F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False))
    return x


_KERNEL_PX = 17


def _blur(x: Tensor, d: Dice) -> Tensor:
    """Defocus (a Gaussian) and motion (a longer Gaussian along one direction), one kernel a picture."""
    chosen = d.chosen(len(x), 0.35).nonzero()[:, 0]
    if not len(chosen):
        return x
    count, scale = len(chosen), x.shape[-1] / SIDE_PX
    across = torch.exp(d.uniform(count, math.log(0.5), math.log(3.5))) * scale
    longer = torch.where(d.chosen(count, 0.4), d.uniform(count, 1, 4), torch.ones(count, device=x.device))
    along = (across * longer).clamp(max=4.5 * scale)
    angle = d.uniform(count, 0, math.pi)
    axis = torch.arange(_KERNEL_PX, device=x.device) - _KERNEL_PX // 2
    px, py = axis.expand(_KERNEL_PX, _KERNEL_PX), axis[:, None].expand(_KERNEL_PX, _KERNEL_PX)
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u, v = c * px + s * py, c * py - s * px
    kernel = torch.exp(-0.5 * ((u / along[:, None, None]) ** 2 + (v / across[:, None, None]) ** 2))
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    padded = F.pad(x[chosen], (_KERNEL_PX // 2,) * 4, mode="reflect")
    found = F.conv2d(padded.transpose(0, 1), kernel[:, None], groups=count).transpose(0, 1)
    return x.index_copy(0, chosen, found)


def _noise(x: Tensor, d: Dice) -> Tensor:
    """Shot noise of little light, brought back by gain; a tenth of the variance is read noise."""
    count = len(x)
    exposure, level = d.uniform(count, 0.05, 1), d.uniform(count, 0, 0.04) * d.chosen(count, 0.4)
    deviation = _wide(level) * ((x.clamp_min(0) + 0.1) / _wide(exposure)).sqrt()
    noise = torch.randn(x.shape, generator=d.generator) if x.device.type == "cpu" else torch.randn_like(x)
    return x + deviation * noise


# ITU-T T.81 (JPEG), table K.1: quantization of luminance at quality 50.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def _compressed(x: Tensor, d: Dice) -> Tensor:
    """JPEG of quality 20 to 90: blocks of 8 px, cosine transform, rounding. There is no file."""
    chosen, quality = d.chosen(len(x), 0.25).nonzero()[:, 0], d.uniform(len(x), 20, 90)
    if not len(chosen):
        return x
    quality = quality[chosen]
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = (torch.tensor(_LUMINANCE, device=x.device, dtype=torch.float32) * _wide(scale)[:, 0]).clamp_min(
        1
    )  # (C, 8, 8)
    n = torch.arange(8, device=x.device, dtype=torch.float32)
    basis = torch.cos((2 * n + 1) * n[:, None] * math.pi / 16) / 2  # (8, 8) frequency × place
    basis[0] /= math.sqrt(2)
    side = x.shape[-1]
    blocks = (x[chosen] * 255 - 128).view(len(chosen), side // 8, 8, side // 8, 8).transpose(2, 3)  # (C, R, R, 8, 8)
    table = table[:, None, None]
    found = basis.T @ (torch.round(basis @ blocks @ basis.T / table) * table) @ basis
    picture = ((found + 128) / 255).transpose(2, 3).reshape(len(chosen), 1, side, side)
    return x.index_copy(0, chosen, picture)

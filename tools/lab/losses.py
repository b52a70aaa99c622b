"""Losses for training face networks. Each takes a batch and returns a scalar to minimize.

Embeddings are (B, D) float and need not be normalized: each loss normalizes where its paper does. Labels are (B,)
integers from 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  # the name by which every reader knows it
from torch import Tensor

TRIPLET_MARGIN = 0.2  # squared Euclidean distance on the unit sphere, as in FaceNet
ARCFACE_MARGIN_RAD, ARCFACE_SCALE = 0.5, 64.0


def softmax(embeddings: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """Return the mean cross entropy of the labels; the logits are embeddings · classesᵀ, with `classes` (K, D)."""
    return F.cross_entropy(embeddings @ classes.T, labels)


def arcface(
    embeddings: Tensor,
    labels: Tensor,
    classes: Tensor,
    margin_rad: float = ARCFACE_MARGIN_RAD,
    scale: float = ARCFACE_SCALE,
) -> Tensor:
    """Return the softmax loss over scaled cosines, with a margin added to the angle to the sample's own class.

    Source: Deng, Guo, Xue and Zafeiriou, "ArcFace" (2019). For angles above π − margin the cosine would rise again;
    there it is continued linearly, as in the paper's code.
    """
    cosine = F.normalize(embeddings, dim=1) @ F.normalize(classes, dim=1).T  # (B, K)
    own = cosine.gather(1, labels[:, None])
    sine = (1 - own**2).clamp_min(1e-12).sqrt()
    turned = own * math.cos(margin_rad) - sine * math.sin(margin_rad)  # cos(angle + margin)
    straight = own - margin_rad * math.sin(margin_rad)
    harder = torch.where(own > -math.cos(margin_rad), turned, straight)
    return F.cross_entropy(scale * cosine.scatter(1, labels[:, None], harder), labels)


def triplet(embeddings: Tensor, labels: Tensor, margin: float = TRIPLET_MARGIN) -> Tensor:
    """Return the mean of d(anchor, positive) − d(anchor, negative) + margin over the batch's semi-hard triplets.

    Source: Schroff, Kalenichenko and Philbin, "FaceNet" (2015). Each pair of one person takes the nearest negative that
    is farther than the positive by less than the margin. Pairs without such a negative are left out; a batch without
    triplets gives 0. Distances are squared Euclidean on the unit sphere.
    """
    unit = F.normalize(embeddings, dim=1)
    distance = 2 - 2 * unit @ unit.T  # (B, B)
    same = labels[:, None] == labels[None, :]
    pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchor, positive = pairs.nonzero(as_tuple=True)  # (P,) each
    to_positive = distance[anchor, positive][:, None]  # (P, 1)
    to_all = distance[anchor]  # (P, B)
    semi_hard = ~same[anchor] & (to_all > to_positive) & (to_all < to_positive + margin)
    nearest = to_all.masked_fill(~semi_hard, math.inf).min(1).values if len(anchor) else to_positive[:, 0]
    found = nearest.isfinite()
    losses = to_positive[found, 0] - nearest[found] + margin
    return losses.sum() / found.sum().clamp_min(1)


def cosine_distillation(projected: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of 1 − cosine between each sample's projected embedding and its teacher's, both (B, D)."""
    return (1 - F.cosine_similarity(projected, teacher)).mean()


def relational_distillation(embeddings: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference between both cosine matrices of the batch, without their diagonals.

    The loss compares cosines between samples, so both embeddings may have different dimensions. Source: Park, Kim, Lu
    and Cho, "Relational Knowledge Distillation" (2019), with cosines instead of distances.
    """
    student, wanted = F.normalize(embeddings, dim=1), F.normalize(teacher, dim=1)
    difference = student @ student.T - wanted @ wanted.T
    off_diagonal = ~torch.eye(len(difference), dtype=torch.bool, device=difference.device)
    return (difference[off_diagonal] ** 2).mean()


def distillation(embeddings: Tensor, projected: Tensor, teacher: Tensor, relational_weight: float = 20.0) -> Tensor:
    """Return the distillation loss: 1 − cosine to the teacher, plus the weighted relational loss."""
    return cosine_distillation(projected, teacher) + relational_weight * relational_distillation(embeddings, teacher)


def bank_distillation(projected: Tensor, teacher: Tensor, bank: Tensor, hardest: int = 32) -> tuple[Tensor, Tensor]:
    """Return the mean squared difference of the cosines to a bank: over all pairs, and over each sample's hardest ones.

    `projected` and `teacher` (B, D), `bank` (M, D) of teacher embeddings. Each sample is compared with thousands of
    faces instead of one batch, in the space and by the measure that matching uses. The hardest pairs have the largest
    difference. Source: `relational_distillation`, with a bank as in He and others, "Momentum Contrast" (2020). The
    teacher is constant, so its bank entries stay valid.
    """
    bank = F.normalize(bank, dim=1)
    difference = ((F.normalize(projected, dim=1) - F.normalize(teacher, dim=1)) @ bank.T) ** 2
    return difference.mean(), difference.topk(min(hardest, len(bank)), dim=1).values.mean()

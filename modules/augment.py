"""Data augmentation: random affine and elastic deformations of every image."""

import torch
from torch.nn.functional import affine_grid
from torch.nn.functional import grid_sample
from torch.nn.functional import interpolate

# standard deviations, chosen by validation accuracy: rotation and shear in radians, scale as a
# fraction, translation and elastic shifts as fractions of half the image's side
ROTATION, SCALE, TRANSLATION, ELASTIC = 0.1, 0.12, 0.09, 0.06


def warp_batch(batch):
    """Return a batch, images (N, C, H, W) in [0, 1] and labels (N,), with the images warped."""
    images, labels = batch
    return warp(images), labels


def warp(images, strength=1):
    """Return images (N, C, H, W) in [0, 1], each under an affine and an elastic deformation.

    strength: a factor on all standard deviations. Pixels from beyond the edges are black. The
    random numbers come from the CPU, so a seed gives the same warps on every device.
    """
    num_images, device = len(images), images.device

    # affine: the identity, plus random rotation, shear, scale and translation
    spread = torch.tensor([[SCALE, ROTATION, TRANSLATION], [ROTATION, SCALE, TRANSLATION]])
    affine = torch.eye(2, 3) + strength * spread * torch.randn(num_images, 2, 3)
    grid = affine_grid(affine.to(device), images.shape, align_corners=False)

    # elastic: random shifts of a 6×6 grid of points, interpolated between them
    shifts = strength * ELASTIC * torch.randn(num_images, 2, 6, 6)
    field = interpolate(shifts.to(device), images.shape[2:], mode="bilinear", align_corners=True)
    return grid_sample(images, grid + field.permute(0, 2, 3, 1), align_corners=False)

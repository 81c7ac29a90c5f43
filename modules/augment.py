"""Random warps: the same characters as other hands might have written them."""

import torch
from torch.nn.functional import affine_grid
from torch.nn.functional import grid_sample
from torch.nn.functional import interpolate

# standard deviations: of turn and slant in radians, of stretch as a share of the size, of moves and
# pushes as a share of half the side; chosen on images kept for validation
TURN, STRETCH, MOVE, PUSH = 0.1, 0.12, 0.09, 0.06


def warp_batch(batch):
    """Return a batch, images (N, C, H, W) in [0, 1] and labels (N,), with the images warped."""
    images, labels = batch
    return warp(images), labels


def warp(images):
    """Return images (N, C, H, W) in [0, 1], each moved, turned, slanted, stretched and bent.

    What comes in from beyond the edges is black. The random numbers are torch's on the CPU, so a
    seed gives the same warps on every device.
    """
    num_images, device = len(images), images.device

    # an affine map for each image: the identity, and a little of everything
    spread = torch.tensor([[STRETCH, TURN, MOVE], [TURN, STRETCH, MOVE]])
    affine = torch.eye(2, 3) + spread * torch.randn(num_images, 2, 3)
    grid = affine_grid(affine.to(device), images.shape, align_corners=False)

    # an elastic one: 6×6 points are pushed about, and those between them follow smoothly
    pushes = PUSH * torch.randn(num_images, 2, 6, 6)
    bend = interpolate(pushes.to(device), images.shape[2:], mode="bilinear", align_corners=True)
    return grid_sample(images, grid + bend.permute(0, 2, 3, 1), align_corners=False)

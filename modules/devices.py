"""The device that computes, and what makes training faster on it."""

from modules.messages import warn

import argparse
from timeit import repeat

import torch

HELP = "cpu, cuda, cuda:1, mps; auto: the accelerator if there is one, else the CPU"


def choose(name):
    """Return a torch.device; `auto` is the accelerator if there is one that works, else the CPU.

    A `type` for argparse: raises ArgumentTypeError if the device does not work.
    """
    is_auto = name == "auto"
    if is_auto:
        name = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    try:
        ones = torch.ones(1, device=name)
        # the device `meta`, for example, has no values
        ones.item()
        return ones.device
    # each kind of device raises its own errors
    except Exception as error:
        reason = f"{name} does not work here ({' '.join(str(error).split())})"
        if not is_auto:
            raise argparse.ArgumentTypeError(f"{reason}: try --device cpu") from error
        warn(f"using the CPU, because {reason}")
        return torch.device("cpu")


def move(model, device):
    """Move a network to a device, in the memory format that is fastest there; return it."""
    # channels_last: the channels of a pixel are stored side by side, with which convolutions are
    # often faster, but not on Apple's GPUs
    is_mps = device.type == "mps"
    memory_format = torch.preserve_format if is_mps else torch.channels_last
    return model.to(device, memory_format=memory_format)


def mixed_precision(args):
    """Return a context in which a network computes in bfloat16 (16 bits), if --amp is given."""
    return torch.autocast(args.device.type, torch.bfloat16, enabled=args.use_bfloat16)


def has_bfloat16(device):
    """Return whether a device computes in bfloat16; warn if it does not."""
    is_fast = is_bfloat16_fast(device)
    if not is_fast:
        warn(f"--amp has no effect: {device} cannot compute in bfloat16, so float32 is used")
    return is_fast


def is_bfloat16_fast(device):
    """Return whether a device computes in bfloat16, and does not emulate it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    # what the processor says, where PyTorch can ask it (since 2.9), on x86-64 and on Arm
    ask = getattr(torch.cpu, "get_capabilities", dict)
    answers = [ask().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")]
    if any(answer is not None for answer in answers) and not any(answers):
        return False

    # and whether PyTorch makes use of it: emulation takes 50 to 400 times as long as float32
    def seconds(dtype):
        matrix = torch.ones(256, 256, dtype=dtype)
        return min(repeat(lambda: matrix @ matrix, number=1, repeat=5))

    return seconds(torch.bfloat16) < 8 * seconds(torch.float32)

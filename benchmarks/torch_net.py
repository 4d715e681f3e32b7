"""The article's U-Net in a plain PyTorch loop, in a process and maybe an environment of its own.

Reads lines `train N` and `predict N` from standard input, runs so many steps on random crops that
lie on the device, and answers each with the seconds they took. It imports nothing of the project.
"""

import argparse
import copy
import json
import sys
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

SHARES = (1, 1, 2, 2, 3)  # of the dropout, level by level
MODES = ("none", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class Double(nn.Sequential):
    """Two 3×3 convolutions, each with batch normalization and ELU, dropout between them."""

    def __init__(self, before: int, after: int, rate: float):
        super().__init__(*self.single(before, after), nn.Dropout(rate), *self.single(after, after))

    @staticmethod
    def single(before: int, after: int) -> list[nn.Module]:
        normalization = nn.BatchNorm2d(after, eps=1e-3, momentum=0.1)
        return [nn.Conv2d(before, after, 3, padding=1), normalization, nn.ELU(inplace=True)]


class Unet(nn.Module):
    """Five levels, from 0..255 to the logit of road."""

    def __init__(self, filters: int, dropout: float):
        super().__init__()
        widths = [filters * 2**level for level in range(len(SHARES))]
        rates = [dropout * share for share in SHARES]
        befores = [3, *widths]
        self.down = nn.ModuleList(map(Double, befores, widths, rates))
        ups = range(len(SHARES) - 2, -1, -1)
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2) for level in ups
        )
        self.up = nn.ModuleList(
            Double(2 * widths[level], widths[level], rates[level]) for level in ups
        )
        self.head = nn.Conv2d(filters, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = x / 255, []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for enlarge, block, skip in zip(self.enlarge, self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([enlarge(x), skip], dim=1))
        return self.head(x)


def fold(net: Unet) -> Unet:
    """The net without batch normalization, which the convolutions before it take over."""
    folded = copy.deepcopy(net).eval()
    for block in [*folded.down, *folded.up]:
        for place in (0, 4):
            block[place] = fuse_conv_bn_eval(block[place], block[place + 1])
            block[place + 1] = nn.Identity()
    return folded


def count_parameters(net: nn.Module) -> int:
    """As Keras counts: with the running statistics of batch normalization."""
    values = [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]
    return sum(value.numel() for value in values)


def soft_dice(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """As `roads.training.losses.soft_dice`."""
    predicted = torch.sigmoid(logits.float())
    return 1 - (2 * (predicted * masks).sum() + 1) / (predicted.sum() + masks.sum() + 1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--threads", type=int, required=True)
    options.add_argument("--train-batch", type=int, required=True)
    options.add_argument("--predict-batch", type=int, required=True)
    options.add_argument("--crops", type=int, help="on the device, to train on; one batch if unset")
    options.add_argument("--size", type=int, default=256, help="of a crop, in pixels")
    options.add_argument("--filters", type=int, default=16, help="at the first level")
    options.add_argument("--dropout", type=float, required=True, help="at the first level")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--compile", choices=MODES, default="none")
    options.add_argument("--bfloat16", action="store_true")
    arguments = options.parse_args()
    on_gpu = arguments.device == "cuda"
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    net = Unet(arguments.filters, arguments.dropout)
    net = net.to(arguments.device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=on_gpu)

    def crops(count: int) -> torch.Tensor:
        """(count, 3, size, size) with the channels last in memory."""
        shape = (count, arguments.size, arguments.size, 3)
        values = torch.randint(0, 256, shape, dtype=torch.uint8, device=arguments.device)
        return values.permute(0, 3, 1, 2)

    images, others = crops(arguments.crops or arguments.train_batch), crops(arguments.predict_batch)
    masks = (images[:, :1] > 240).to(torch.uint8)
    batches = torch.randperm(len(images), device=arguments.device).split(arguments.train_batch)

    def autocast() -> Any:
        return torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.bfloat16)

    def loss(pictures: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        with autocast():
            logits = net(pictures.float())
        return soft_dice(logits, wanted.float())

    folded = fold(net)

    def probabilities(pictures: torch.Tensor) -> torch.Tensor:
        with autocast():
            logits = folded(pictures.float())
        return torch.sigmoid(logits.float())

    if arguments.compile != "none":
        loss, probabilities = (
            torch.compile(function, mode=arguments.compile, dynamic=False)
            for function in (loss, probabilities)
        )

    def train(step: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        if len(batches) == 1:
            value = loss(images, masks)
        else:
            rows = batches[step % len(batches)]
            value = loss(images[rows], masks[rows])
        value.backward()
        optimizer.step()

    @torch.inference_mode()
    def predict(step: int) -> None:
        found = probabilities(others)
        if not on_gpu:
            found.numpy()

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    answer({"parameters": count_parameters(net), "version": torch.__version__, "device": name})
    for line in sys.stdin:
        what, steps = line.split()
        net.train(what == "train")
        wait()
        start = time.perf_counter()
        for step in range(int(steps)):
            train(step) if what == "train" else predict(step)
        wait()
        answer({"seconds": time.perf_counter() - start})


def answer(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()

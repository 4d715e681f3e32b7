"""The article's U-Net in a plain PyTorch loop, run by `plain_torch` in an environment of its own.

Reads lines `train N` and `predict N` from standard input, runs so many steps on one batch of
random crops, and answers each with the seconds they took. It imports nothing of the project.
"""

import argparse
import json
import sys
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional

SIZE = 256  # pixels
RATES = (0.1, 0.1, 0.2, 0.2, 0.3)  # of dropout, level by level


class Double(nn.Sequential):
    """Two 3×3 convolutions, each with batch normalization and ELU, dropout between them."""

    def __init__(self, before: int, after: int, rate: float):
        super().__init__(*self.single(before, after), nn.Dropout(rate), *self.single(after, after))

    @staticmethod
    def single(before: int, after: int) -> list[nn.Module]:
        normalization = nn.BatchNorm2d(after, eps=1e-3, momentum=0.1)
        return [nn.Conv2d(before, after, 3, padding=1), normalization, nn.ELU(inplace=True)]


class Unet(nn.Module):
    """16 filters at the first of five levels, from 0..255 to the logit of road."""

    def __init__(self, filters: int = 16):
        super().__init__()
        widths = [filters * 2**level for level in range(len(RATES))]
        befores = [3, *widths]
        self.down = nn.ModuleList(map(Double, befores, widths, RATES))
        ups = range(len(RATES) - 2, -1, -1)
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2) for level in ups
        )
        self.up = nn.ModuleList(
            Double(2 * widths[level], widths[level], RATES[level]) for level in ups
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


def count_parameters(net: nn.Module) -> int:
    """As Keras counts: with the running statistics of batch normalization."""
    values = [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]
    return sum(value.numel() for value in values)


def soft_dice(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """As `roads.losses.soft_dice`."""
    predicted = torch.sigmoid(logits.float())
    return 1 - (2 * (predicted * masks).sum() + 1) / (predicted.sum() + masks.sum() + 1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--threads", type=int, required=True)
    options.add_argument("--train-batch", type=int, required=True)
    options.add_argument("--predict-batch", type=int, required=True)
    options.add_argument("--bfloat16", action="store_true")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    net = Unet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def batch(count: int) -> torch.Tensor:
        crops = torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8)
        return crops.contiguous(memory_format=torch.channels_last)

    images, others = batch(arguments.train_batch), batch(arguments.predict_batch)
    masks = (images[:, :1] > 240).float()

    def autocast() -> Any:
        return torch.autocast("cpu", torch.bfloat16, enabled=arguments.bfloat16)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            logits = net(images.float())
        soft_dice(logits, masks).backward()
        optimizer.step()

    @torch.inference_mode()
    def predict() -> None:
        with autocast():
            logits = net(others.float())
        torch.sigmoid(logits.float()).numpy()

    answer({"parameters": count_parameters(net), "torch": torch.__version__})
    for line in sys.stdin:
        what, steps = line.split()
        net.train(what == "train")
        start = time.perf_counter()
        for _ in range(int(steps)):
            train() if what == "train" else predict()
        answer({"seconds": time.perf_counter() - start})


def answer(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()

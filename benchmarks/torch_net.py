"""The article's U-Net in a plain PyTorch loop; it imports nothing from the project.

Reads lines `train N` and `predict N` from standard input, runs N steps on a batch of random crops
on the device, and prints the seconds they took.
"""

import copy
import json
import sys
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

FILTERS, SIZE = 16, 256  # at the first level; of a crop, in pixels
DROPOUT = (1, 1, 2, 2, 3)  # times the first level's, level by level


class Double(nn.Sequential):
    """Two 3×3 convolutions with batch normalization and ELU, and dropout in between."""

    def __init__(self, before: int, after: int, rate: float):
        super().__init__(*self.single(before, after), nn.Dropout(rate), *self.single(after, after))

    @staticmethod
    def single(before: int, after: int) -> list[nn.Module]:
        normalization = nn.BatchNorm2d(after, eps=1e-3, momentum=0.1)
        return [nn.Conv2d(before, after, 3, padding=1), normalization, nn.ELU(inplace=True)]


class Unet(nn.Module):
    """Five levels, from 0..255 to the logit of road."""

    def __init__(self, dropout: float):
        super().__init__()
        widths = [FILTERS * 2**level for level in range(len(DROPOUT))]
        rates = [dropout * times for times in DROPOUT]
        befores = [3, *widths]
        self.down = nn.ModuleList(map(Double, befores, widths, rates))
        ups = range(len(DROPOUT) - 2, -1, -1)
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2) for level in ups
        )
        self.up = nn.ModuleList(
            Double(2 * widths[level], widths[level], rates[level]) for level in ups
        )
        self.head = nn.Conv2d(FILTERS, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = x / 255, []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for enlarge, block, skip in zip(self.enlarge, self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([enlarge(x), skip], dim=1))
        return self.head(x)


def fold(net: Unet) -> Unet:
    """The net with batch normalization folded into the convolutions."""
    folded = copy.deepcopy(net).eval()
    for block in [*folded.down, *folded.up]:
        for place in (0, 4):
            block[place] = fuse_conv_bn_eval(block[place], block[place + 1])
            block[place + 1] = nn.Identity()
    return folded


def count_parameters(net: nn.Module) -> int:
    """The number of parameters as in Keras, which includes running statistics."""
    values = [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]
    return sum(value.numel() for value in values)


def soft_dice(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """As `roads.training.losses.soft_dice`."""
    predicted = torch.sigmoid(logits.float())
    return 1 - (2 * (predicted * masks).sum() + 1) / (predicted.sum() + masks.sum() + 1)


def main() -> None:
    settings = json.loads(sys.argv[1])
    device, on_gpu = settings["device"], settings["device"] == "cuda"
    torch.set_num_threads(settings["threads"])
    torch.backends.cudnn.benchmark = True
    net = Unet(settings["dropout"]).to(device, memory_format=torch.channels_last)
    folded = fold(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=on_gpu)

    def crops(count: int) -> torch.Tensor:
        """Random crops, (count, 3, SIZE, SIZE), channels last in memory."""
        values = torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8, device=device)
        return values.permute(0, 3, 1, 2)

    def logits(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=settings["bfloat16"]):
            return net(images.float())

    images, others = crops(settings["train"]), crops(settings["predict"])
    masks = (images[:, :1] > 240).float()

    def loss() -> torch.Tensor:
        return soft_dice(logits(net, images), masks)

    def probabilities() -> torch.Tensor:
        return torch.sigmoid(logits(folded, others).float())

    if on_gpu:
        loss, probabilities = (
            torch.compile(function, mode="reduce-overhead", dynamic=False)
            for function in (loss, probabilities)
        )

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    @torch.inference_mode()
    def predict() -> None:
        found = probabilities()
        if not on_gpu:
            found.numpy()

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    answer({"parameters": count_parameters(net), "version": torch.__version__})
    for line in sys.stdin:
        what, steps = line.split()
        step = train if what == "train" else predict
        wait()
        start = time.perf_counter()
        for _ in range(int(steps)):
            step()
        wait()
        answer({"seconds": time.perf_counter() - start})


def answer(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()

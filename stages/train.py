"""Train the U-Net on the packed crops, and keep the weights of its best epoch."""

import argparse
import contextlib
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from roads.dataset.packs import IMAGES_FILE, MASKS_FILE, PackReader
from roads.models.backend import backend_name, device_name, keras, resolve_precision, versions
from roads.models.encoders import ENCODERS, encoder_file, load_encoder
from roads.models.unet import ARCHITECTURE, build_unet
from roads.models.weights import (
    WEIGHTS_FILE,
    Description,
    description_path,
    find_weights,
    load_model,
    load_weights,
    read_description,
    save_model,
)
from roads.params.augment import AugmentParams
from roads.params.train import TrainParams
from roads.params.unet import UnetParams, size_step
from roads.params.whole import read_params
from roads.runtime.errors import UserError
from roads.runtime.files import replacing_folder, write_csv, write_json
from roads.runtime.stage import stage_status
from roads.runtime.state import state_folder
from roads.training.augment_picture import draw_pairs
from roads.training.backup import Arrays, fingerprint, imported_code
from roads.training.batches import CropBatches
from roads.training.callbacks import Row, tensorboard
from roads.training.devices import Devices, find_devices
from roads.training.fit import Fitted, fit
from roads.training.processes import LeadersBackup, check_agreement, process_index, run_joined
from roads.training.resident_loop import resolve_loop

PAIRS_FILE = "augmented.png"
CURVES_FILE = "curves.csv"  # of a snapshot
NO_WEIGHTS = "none"  # a folder of this name is DVC's dependency where training starts anew


def train(
    data: Path,
    models: Path,
    log: Path,
    metrics: Path,
    params: TrainParams,
    unet: UnetParams,
    augmentation: AugmentParams,
    snapshots: Path | None = None,
) -> None:
    """Train a net on packed crops; with no epochs, pass the initial weights on.

    Args:
        data: folder with `images.h5` and `masks.h5`.
        models: folder that gets the weights of the best epoch, `unet.weights.h5`, and their
            description, `unet.json`.
        log: folder that gets the curves, in dvclive's layout, and `augmented.png`.
        metrics: JSON file that gets the scores of the best epoch.
        params: how to train.
        unet: what to train.
        augmentation: what happens to the training crops; validation crops stay whole and as
            they are.
        snapshots: folder that gets after an epoch, if some seconds have passed, a net such as
            `models` does, with kernels as float16, and the curves so far, `curves.csv`.

    Raises:
        UserError: data or initial weights are missing, broken or do not fit the params, the
            same training is already running, or the loss is no longer a number.
    """
    initial = None
    if params.initial_weights != NO_WEIGHTS:
        initial = find_weights(params.initial_weights, params.weights_folder)
    if params.epochs == 0:
        if process_index() == 0:
            pass_on(initial, models, log, metrics)
        return
    check_freezing(params, unet)
    devices = find_devices(params.devices, params.batch_size)
    params = params.model_copy(
        update={
            "precision": resolve_precision(params.precision),
            "loop": resolve_loop(params.loop, devices),
            "devices": devices.count,
        }
    )
    with PackReader(data) as pack:
        check_pack(pack, data, unet, augmentation)
        with devices.scope():
            net = build_unet(unet, params.precision, params.seed)
        encoder = None
        if initial is not None:
            load_initial_weights(net, initial, unet)
        elif unet.encoder in ENCODERS:
            encoder = encoder_file(unet.encoder, unet.encoder_weights, unet.encoder_folder)
            if encoder is not None:
                load_encoder(net, unet.encoder, encoder)
        blank = params.ignore_blank
        crops = CropBatches(
            pack,
            "train",
            params.batch_size,
            params.seed,
            ignore_blank=blank,
            augmentation=augmentation,
            devices=devices,
        )
        valid = CropBatches(pack, "valid", params.batch_size, ignore_blank=blank, devices=devices)
        facts = training_facts(pack, devices, params, unet, augmentation)
        code = [*imported_code(), Path(__file__), *filter(None, [initial or encoder])]
        key = fingerprint(facts, code)
        check_agreement(key)
        if devices.process > 0:
            follower = LeadersBackup(state_folder("training"), key)
            fit(net, crops, valid, params, backup=follower, devices=devices)
            return
        key = fingerprint(facts, [data / IMAGES_FILE, data / MASKS_FILE, *code])
        backup = LeadersBackup(state_folder("training"), key)
        with (
            backup.held(),
            replacing_folder(log) as folder,
            curves(folder) as log_row,
        ):
            draw_pairs(folder / PAIRS_FILE, crops)

            def snapshot(weights: Arrays, rows: list[Row], steps: int) -> None:
                assert snapshots is not None
                so_far = describe(
                    net, Fitted(rows, rows[-1], steps), pack.size, params, unet, augmentation
                )
                save_snapshot(net, weights, rows, so_far, snapshots)

            fitted = fit(
                net,
                crops,
                valid,
                params,
                backup=backup,
                devices=devices,
                callbacks=tensorboard(state_folder("tensorboard") / key),
                on_epoch=log_row,
                snapshot=snapshot if snapshots else None,
            )
            description = describe(net, fitted, pack.size, params, unet, augmentation)
            save_model(net, models / WEIGHTS_FILE, description)
            write_json(metrics, scores(net, fitted))


def check_freezing(params: TrainParams, unet: UnetParams) -> None:
    """Raise a UserError if epochs are to be frozen where there is no encoder to freeze."""
    if params.freeze_encoder_epochs > 0 and unet.encoder not in ENCODERS:
        raise UserError(
            f"train.freeze_encoder_epochs is {params.freeze_encoder_epochs}, and unet.encoder "
            f"{unet.encoder} has no pretrained weights to keep. Set the first to 0, or the second "
            f"to {' or '.join(ENCODERS)}."
        )


def check_pack(pack: PackReader, data: Path, unet: UnetParams, augmentation: AugmentParams) -> None:
    """Raise a UserError if a split is empty, or the size of crops or windows does not fit."""
    for split in ("train", "valid"):
        if pack.rows(split) == 0:
            raise UserError(
                f"{data} has no crops to {'train on' if split == 'train' else 'validate with'}: "
                f"`{split}` is empty. See split.*, crop.max_blank and pack.min_road in "
                "params.yaml, or download more tiles."
            )
    step = size_step(unet)
    if pack.size % step:
        raise UserError(
            f"crops of {pack.size} pixels do not fit a net of unet.depth {unet.depth}: crop.size "
            f"must be a multiple of {step}"
        )
    window = augmentation.window or step
    if window % step or window > pack.size:
        raise UserError(
            f"augment.window is {window}: it must be a multiple of {step} (for unet.depth "
            f"{unet.depth}) and no larger than the crops of {pack.size} pixels"
        )


def load_initial_weights(net: keras.Model, initial: Path, unet: UnetParams) -> None:
    """Load the weights to start from; a description beside them must agree with `unet:`."""
    if description_path(initial).exists():
        theirs = read_description(initial).unet
        wrong = [key for key in ARCHITECTURE if getattr(theirs, key) != getattr(unet, key)]
        if wrong:
            changes = " ".join(f"-S unet.{key}={getattr(theirs, key)}" for key in wrong)
            raise UserError(
                f"{initial} was trained with another net than params.yaml says; train the same "
                f"one with {changes}"
            )
    load_weights(net, initial)


def pass_on(initial: Path | None, models: Path, log: Path, metrics: Path) -> None:
    """Write the initial weights as they are, with the net that their own description names."""
    if initial is None:
        raise UserError(
            "train.epochs is 0 and train.initial_weights is none: there is no net to pass on. "
            "Set one of the two."
        )
    net, description = load_model(initial)
    save_model(net, models / WEIGHTS_FILE, description)
    write_json(metrics, {"epochs": 0, "parameters": net.count_params()})
    log.mkdir(parents=True, exist_ok=True)
    print(f"{initial} is passed on to {models}, not trained further (train.epochs is 0)")


def training_facts(
    pack: PackReader,
    devices: Devices,
    params: TrainParams,
    unet: UnetParams,
    augmentation: AugmentParams,
) -> dict[str, Any]:
    """Everything that decides this training's outcome, beside the content of data and code."""
    return {
        "train": params.model_dump(exclude={"weights_folder", "initial_weights"}),
        "unet": unet.model_dump(),
        "augment": augmentation.model_dump(),
        "backend": backend_name(),
        "device": device_name(),
        "versions": versions(),
        "processes": devices.processes,
        "crops": [pack.size, pack.rows("train"), pack.rows("valid")],
    }


@contextlib.contextmanager
def curves(folder: Path) -> Iterator[Callable[[Row], None]]:
    """Give a function that adds an epoch's row to the curves in `folder`.

    dvclive writes them where it is installed. A GPU machine without DVC gets the same tables, so
    that `dvc plots` draws them once they are brought back; only dvclive's summary, `metrics.json`,
    is not among them: its values are the tables' last lines.
    """
    if importlib.util.find_spec("dvclive") is None:
        yield functools.partial(write_row, folder)
        return
    import dvclive

    with dvclive.Live(str(folder), dvcyaml=False, save_dvc_exp=False) as live:
        yield functools.partial(hand_row, live)


def hand_row(live: Any, row: Row) -> None:
    """Hand the values of an epoch to a `dvclive.Live`; its steps are our epochs, from 1."""
    live.step = int(row["epoch"])
    for name, value in row.items():
        if name != "epoch":
            live.log_metric(name, value)
    live.make_summary()


def write_row(folder: Path, row: Row) -> None:
    """Add the values of an epoch to the tables `plots/metrics/**/NAME.tsv`, as dvclive does."""
    for name, value in row.items():
        if name != "epoch":
            path = folder / "plots/metrics" / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as table:
                if table.tell() == 0:
                    table.write(f"step\t{path.stem}\n")
                table.write(f"{int(row['epoch'])}\t{value}\n")


def describe(
    net: keras.Model,
    fitted: Fitted,
    crop_size: int,
    params: TrainParams,
    unet: UnetParams,
    augmentation: AugmentParams,
) -> Description:
    """What is to be known of the trained net."""
    recipe = params.model_dump(exclude={"precision", "weights_folder"})  # a path of this host
    return Description(
        unet=unet,
        precision=params.precision,
        backend=backend_name(),
        device=device_name(),
        versions=versions(),
        crop_size=crop_size,
        parameters=net.count_params(),
        training={
            **recipe,
            "augment": augmentation.model_dump(),
            "epochs_run": len(fitted.rows),
            "steps": fitted.steps,
            "best": fitted.best,
        },
    )


def save_snapshot(
    net: keras.Model, weights: Arrays, rows: list[Row], description: Description, folder: Path
) -> None:
    """Write weights of a net under training, and the curves so far; the net stays as it is."""
    own = net.get_weights()
    net.set_weights(weights)
    save_model(net, folder / WEIGHTS_FILE, description, half=True)
    net.set_weights(own)
    write_csv(folder / CURVES_FILE, list(rows[0]), [list(row.values()) for row in rows])


def scores(net: keras.Model, fitted: Fitted) -> dict[str, Any]:
    """How long training took, and the loss, Dice and IoU of the best epoch."""
    values: dict[str, Any] = {
        "epochs": len(fitted.rows),
        "best_epoch": int(fitted.best["epoch"]),
        "parameters": net.count_params(),
    }
    for name, value in fitted.best.items():
        split, _, score = name.partition("/")
        if score:
            values.setdefault(split, {})[score] = round(value, 6)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the packed crops")
    parser.add_argument("--model", type=Path, required=True, help="folder that gets the net")
    parser.add_argument("--log", type=Path, required=True, help="folder that gets the curves")
    parser.add_argument("--metrics", type=Path, required=True, help="gets the scores, as JSON")
    parser.add_argument(
        "--snapshots", type=Path, help="folder that gets the net so far after every epoch"
    )
    arguments = parser.parse_args()
    params = read_params()
    run_joined(
        lambda: train(
            arguments.data,
            arguments.model,
            arguments.log,
            arguments.metrics,
            params.train,
            params.unet,
            params.augment,
            arguments.snapshots,
        )
    )


if __name__ == "__main__":
    sys.exit(stage_status(main))

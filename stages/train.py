"""train: train the U-Net on the packed crops, and keep the weights of its best epoch.

The result is `unet.weights.h5` with its description `unet.json`, which includes the temperature
that calibrates its probabilities on validation; the scores of the best epoch; pictures of the
curves and of augmented crops; and, as training runs, the curves in dvclive's layout. With
`train.epochs: 0`, the initial weights are copied unchanged.
"""

import argparse
import functools
import sys
from pathlib import Path

from roads.dataset.packs import IMAGES_FILE, MASKS_FILE, PackReader
from roads.models.backend import resolve_precision
from roads.params.augment import AugmentParams
from roads.params.train import TrainParams
from roads.params.unet import UnetParams
from roads.params.whole import read_params
from roads.runtime.files import write_json
from roads.runtime.stage import check_inputs, stage_status
from roads.runtime.state import state_folder
from roads.training.augment_picture import draw_pairs
from roads.training.batches import CropBatches
from roads.training.calibration import fit_temperature, local_copy
from roads.training.callbacks import tensorboard
from roads.training.checks import check_pack, check_processes
from roads.training.curves import curves
from roads.training.devices import find_devices
from roads.training.fit import fit
from roads.training.processes import process_index, run_joined, shared_backup
from roads.training.resident_loop import resolve_loop
from roads.training.results import describe, save_snapshot, save_trained, scores
from roads.training.start import pass_on, starting_net

PAIRS_FILE = "augmented.png"


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
    """Train a net on the crops in `data`.

    Args:
        data: folder with `images.h5` and `masks.h5`.
        models: folder that gets the trained net.
        log: folder that gets the curves as training runs, and `augmented.png`.
        metrics: JSON file that gets the scores.
        params: how to train.
        unet: the net to train.
        augmentation: of the training crops; validation crops are not augmented.
        snapshots: folder that gets the net so far, with float16 kernels, and `curves.csv`.

    Raises:
        UserError: data or initial weights are missing, broken or do not match the params, the
            same training is already running, or the loss is not finite.
    """
    leads = process_index() == 0
    if params.epochs == 0:
        if leads:
            pass_on(params, models)
            log.mkdir(parents=True, exist_ok=True)
            write_json(metrics, {"best_epoch": 0})
        return
    check_processes(params)
    devices = find_devices(params.devices, params.batch_size)
    resolved = {
        "precision": resolve_precision(params.precision),
        "loop": resolve_loop(params.loop, devices),
        "devices": devices.count,
    }
    params = params.model_copy(update=resolved)
    with PackReader(data) as pack:
        check_pack(pack, data)
        net, weights = starting_net(params, unet, devices)
        batches = functools.partial(
            CropBatches, pack, batch_size=params.batch_size, ignore_blank=params.ignore_blank,
            devices=devices,
        )  # fmt: skip
        crops = batches("train", seed=params.seed, augmentation=augmentation)
        valid = batches("valid")

        described = describe(net, pack.size, params, unet, augmentation)
        packed = [data / IMAGES_FILE, data / MASKS_FILE]
        backup = shared_backup(described, [*packed, *weights, Path(__file__)])
        train_net = functools.partial(fit, net, crops, valid, params, backup=backup)
        if not leads:
            train_net()
            return
        with backup.held(), curves(log) as log_row:
            draw_pairs(log / PAIRS_FILE, crops)
            fitted = train_net(
                callbacks=tensorboard(state_folder("tensorboard") / backup.key),
                on_epoch=log_row,
                snapshot=functools.partial(save_snapshot, net, described, snapshots)
                if snapshots
                else None,
            )
            temperature = fit_temperature(local_copy(net, described), valid)
            described = described.model_copy(update={"temperature": temperature})
            save_trained(net, described, fitted, models)
            write_json(metrics, scores(fitted))
            check_inputs()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the packed crops")
    parser.add_argument("--model", type=Path, required=True, help="folder that gets the net")
    parser.add_argument("--log", type=Path, required=True, help="folder that gets the curves")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file of the scores")
    parser.add_argument(
        "--snapshots", type=Path, help="folder that gets the net so far, after every epoch"
    )
    paths = parser.parse_args()
    params = read_params()
    run_joined(
        lambda: train(
            paths.data,
            paths.model,
            paths.log,
            paths.metrics,
            params.train,
            params.unet,
            params.augment,
            paths.snapshots,
        )
    )


if __name__ == "__main__":
    sys.exit(stage_status(main))

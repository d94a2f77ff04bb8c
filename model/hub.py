"""A network as a folder for the Hugging Face Hub: config.json, model.safetensors, README.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from model.architecture import architecture_record
from model.space import Architecture, SearchSpace, load_space
from model.subnet import Subnet, save_weights
from utils.files import atomic_folder
from utils.model_card import ModelCard
from utils.preprocessing import Preprocessing

CONFIG, WEIGHTS = "config.json", "model.safetensors"  # as huggingface_hub names them


def export_hub(
    net: nn.Module, space: SearchSpace, architecture: Architecture, card: ModelCard, folder: Path
) -> None:
    """Write the folder; `load_subnet` and `hub_class` read it, `hf upload REPOSITORY DIR` sends it.

    Raises:
        OSError: the folder exists, or cannot be written.
    """
    facts = architecture_record(space, np.asarray(architecture))
    config = facts | {"preprocessing": card.preprocessing.values()}
    with atomic_folder(folder) as part:
        save_weights(net, part / WEIGHTS, card.preprocessing)
        (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (part / "README.md").write_text(card.hub_text(CONFIG, WEIGHTS), encoding="utf-8")


def hub_class() -> type[Subnet]:
    """Return a class of networks with `from_pretrained(DIR or repository)` and `push_to_hub`.

    Raises:
        ImportError: huggingface_hub is not installed.
    """
    from huggingface_hub import PyTorchModelHubMixin

    class HubSubnet(Subnet, PyTorchModelHubMixin):
        """A `Subnet` made of the content of config.json."""

        def __init__(
            self,
            search_space: str | dict,  # the arguments are the keys of config.json
            input_size: int,
            num_classes: int,
            choices: Sequence[str],
            widths: Sequence[int] | None = None,
            preprocessing: dict | None = None,
        ) -> None:
            space = load_space(search_space, input_size, num_classes, widths)
            super().__init__(space, space.encode(choices))
            self.preprocessing = Preprocessing.of(preprocessing) if preprocessing else None

    return HubSubnet

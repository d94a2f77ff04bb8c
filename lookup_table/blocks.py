"""The distinct blocks of a space, which tables are made of; and as ONNX files for other devices.

`index.json` beside them says which rows of a latency table each file fills; `measure.py` times them
where there is Python and ONNX Runtime. Their times become a table by `--import block_times`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lookup_table import measure_blocks
from lookup_table.tables import space_facts
from model.space import SearchSpace
from model.subnet import fold_batch_norms
from model.supernet import IN_CHS, build_choice, build_first, build_head, build_stem
from utils.files import atomic_path, write_text
from utils.run_folder import progress_bar

INDEX_FILE = "index.json"
FIXED = "fixed"  # in place of a layer's number: stem, first block, head


@dataclass(frozen=True)
class Block:
    """A part of networks, in eval mode, for images of one shape."""

    name: str  # of its file, without the suffix
    module: nn.Module
    shape: tuple[int, int, int]  # of its input at batch 1, [C, H, W]
    # (layer from 1, choice) whose costs in a table are its own; (FIXED, name) of a fixed part
    rows: list[tuple[int | str, str]] = field(default_factory=list)


def distinct_blocks(space: SearchSpace) -> list[Block]:
    """List the blocks that take time, once per shape, and then the fixed parts."""
    blocks: dict[tuple, Block] = {}
    for i, layer in enumerate(space.layers):
        shape = (layer.in_chs, layer.in_size, layer.in_size)
        for c, choice in enumerate(layer.choices):
            key = (choice, layer.out_chs, layer.stride, *shape)  # equal blocks in any layer
            if key not in blocks:
                sizes = f"{layer.in_chs}-{layer.out_chs}_s{layer.stride}_{layer.in_size}px"
                module = build_choice(space, i, c, space.style).eval()
                blocks[key] = Block(f"{choice}_{sizes}", module, shape)
            blocks[key].rows.append((i + 1, choice))
    fixed = [
        ("stem", build_stem(space, space.style), IN_CHS, space.input_size),
        ("first", build_first(space, space.style), space.stem_width, space.stem_size),
        ("head", build_head(space, space.style), space.layers[-1].out_chs, space.last_size),
    ]
    parts = [Block(n, m.eval(), (chs, px, px), [(FIXED, n)]) for n, m, chs, px in fixed]
    return [b for b in (*blocks.values(), *parts) if not isinstance(b.module, nn.Identity)]


def costs_of(
    space: SearchSpace, blocks: Sequence[Block], values: Sequence[int]
) -> tuple[np.ndarray, list[int]]:
    """Arrange a value per block as costs of choices, int64 [L, C], and of the fixed parts."""
    costs = np.zeros((space.num_layers, space.max_choices), dtype=np.int64)  # skips stay 0
    fixed = []
    for block, value in zip(blocks, values, strict=True):
        for layer, choice in block.rows:
            if isinstance(layer, int):
                costs[layer - 1, space.layers[layer - 1].choices.index(choice)] = value
            else:
                fixed.append(value)  # in the order of the network: stem, (first,) head
    return costs, fixed


@torch.random.fork_rng(devices=[])
def export_blocks(space: SearchSpace, folder: Path) -> int:
    """Write one ONNX file per distinct block, `index.json` and `measure.py`; return their number.

    Batch norms are folded, as a deployed network has them. Inputs are called `x`, at batch 1.

    Raises:
        ValueError: a package that the export needs is missing, or the folder holds files.
    """
    from model.export import check_onnx_packages, quiet_export

    check_onnx_packages("--export-blocks")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"--export-blocks {folder} exists and is not an empty folder; name another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    blocks = distinct_blocks(space)
    with progress_bar(len(blocks), "export", "block") as bar:
        for block in blocks:
            net, x = fold_batch_norms(block.module), torch.zeros(1, *block.shape)
            with quiet_export():
                program = torch.onnx.export(net, (x,), dynamo=True, input_names=["x"])
            assert program is not None  # only the old exporter returns None
            with atomic_path(folder / f"{block.name}.onnx") as temporary:
                temporary.write_bytes(program.model_proto.SerializeToString())
            bar.update()
    rows = [{"file": f"{b.name}.onnx", "input": [1, *b.shape], "rows": b.rows} for b in blocks]
    index = {**space_facts(space), "blocks": rows}
    write_text(folder / INDEX_FILE, json.dumps(index, indent=1) + "\n")
    shutil.copyfile(measure_blocks.__file__, folder / "measure.py")
    return len(blocks)

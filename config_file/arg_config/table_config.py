"""Flags of `python -m lookup_table`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config_file.arg_config.budget_config import LatencyConfig
from config_file.arg_config.fields import flag, only, part
from config_file.arg_config.names import DATASETS
from config_file.arg_config.run_config import DEVICES, cache_dir_flag
from config_file.arg_config.types import count, integer, path, widths

LATENCY = "latency, and tables measured elsewhere"  # a group of --help


@dataclass(frozen=True, kw_only=True)
class GivenConfig:
    title: ClassVar[str] = "an architecture, or a search space"

    arch: Path | None = flag(
        None, path, "as of train_subnet.py: file, run, candidate or name", "FILE|RUN|NAME"
    )
    search_space: str | None = flag(
        None, str, "a name or a .yaml path (default: that of --arch, or proxylessnas)", "NAME|FILE"
    )
    input_size: int | None = flag(None, integer(8, 1024), "(default: of --arch, or 224)", "PX")
    num_classes: int | None = flag(None, count, "(default: of --arch, or 1000)")
    dataset: str | None = flag(
        None, DATASETS, "the input size of its recipe, unless given, and its number of classes"
    )
    data_path: Path | None = flag(None, path, "where the dataset is", "DIR")
    widths: tuple[int, ...] | None = flag(
        None, widths, "channels of stem, (first,) stages, last (default: the space's)"
    )


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    title: ClassVar[str] = LATENCY

    latency: bool = only("measure every block's latency on --device, and whole networks to compare")
    device: str = flag("auto", DEVICES, "to measure on")
    latency_networks: int = flag(
        20, integer(0), "random whole networks measured against the table's sums"
    )
    memory: str | None = flag(
        None, ("int8", "float32"), "add peak_memory and weights, counted for this type"
    )
    import_file: tuple[str, ...] = flag(
        (),
        str,
        "read another project's table (hw_nas_bench, proxyless_lut, singlepath_json), or your own "
        "times of --export-blocks (block_times), of --search-space, and --save it",
        ("FORMAT", "FILE"),
        nargs=2,
        names=("--import",),
    )
    import_metric: str | None = flag(None, str, "of hw_nas_bench, such as pixel3_latency", "NAME")
    save: Path | None = flag(None, path, "the measured or imported table, for --lookup-table")


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    title: ClassVar[str] = "output"

    given: GivenConfig = part(GivenConfig)
    measure: MeasureConfig = part(MeasureConfig)
    source: LatencyConfig = part(LatencyConfig, LATENCY)
    list_tables: bool = only("describe the tables that --lookup-table names")
    export_blocks: Path | None = flag(
        None, path, "write each distinct block as an ONNX file, to measure on another device", "DIR"
    )
    table: bool = only("a table per layer and choice, instead of JSON")
    cache_dir: Path = cache_dir_flag()

    def check(self) -> None:
        """Raise ValueError where flags need or exclude each other."""
        if self.given.arch and self.given.dataset:
            raise ValueError("--arch says its number of classes; leave --dataset out")
        if self.measure.save and not (self.measure.latency or self.measure.import_file):
            raise ValueError("--save writes what --latency measures or --import reads; add one")
        if self.measure.save and not self.measure.save.parent.is_dir():
            raise ValueError(f"--save {self.measure.save}: its folder does not exist")

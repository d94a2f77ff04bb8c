"""Flags of `python -m lookup_table`."""

from __future__ import annotations

from pathlib import Path

from config_file.arg_config.common import Parser, add_latency_flags
from config_file.arg_config.types import folder, integer, widths


def table_parser(description: str) -> Parser:
    parser = Parser(description)
    group = parser.add_argument_group("an architecture")
    group.add_argument(
        "--arch", type=folder, metavar="FILE", help="architecture file, as best_architecture.yaml"
    )
    group = parser.add_argument_group("a search space")
    group.add_argument(
        "--search-space",
        metavar="NAME|FILE",
        help="a name or a .yaml path (default: that of --arch, or proxylessnas)",
    )
    group.add_argument(
        "--input-size", type=integer(8, 1024), metavar="PX", help="(default: of --arch, or 224)"
    )
    group.add_argument(
        "--num-classes", type=integer(1), metavar="N", help="(default: of --arch, or 1000)"
    )
    group.add_argument(
        "--widths",
        type=widths,
        metavar="N,N,...",
        help="channels of stem, (first,) stages, last (default: the space's)",
    )
    group = parser.add_argument_group("latency, and tables measured elsewhere")
    group.add_argument(
        "--latency",
        action="store_true",
        help="measure every block's latency on --device, and whole networks to compare",
    )
    group.add_argument(
        "--device", choices=("auto", "cuda", "cpu", "mps"), default="auto", help="to measure on"
    )
    group.add_argument(
        "--latency-networks",
        type=integer(0),
        default=20,
        metavar="N",
        help="random whole networks measured against the table's sums",
    )
    group.add_argument(
        "--save",
        type=folder,
        metavar="FILE",
        help="the measured or imported table, for --lookup-table",
    )
    group.add_argument(
        "--list-tables", action="store_true", help="describe the tables that --lookup-table names"
    )
    group.add_argument(
        "--import",
        dest="import_file",
        nargs=2,
        metavar=("FORMAT", "FILE"),
        help="read another project's table (hw_nas_bench, proxyless_lut, singlepath_json) of "
        "--search-space, and --save it",
    )
    group.add_argument(
        "--import-metric", metavar="NAME", help="of hw_nas_bench, such as pixel3_latency"
    )
    group.add_argument(
        "--memory",
        choices=("int8", "float32"),
        help="add peak_memory and weights, counted for this type",
    )
    add_latency_flags(group)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--table", action="store_true", help="a table per layer and choice, instead of JSON"
    )
    group.add_argument(
        "--cache-dir",
        type=folder,
        default=Path(".cache"),
        metavar="DIR",
        help="lookup tables already built",
    )
    return parser

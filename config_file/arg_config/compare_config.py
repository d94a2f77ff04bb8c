"""Flags of compare_runs.py."""

from __future__ import annotations

from pathlib import Path

from config_file.arg_config.common import Parser
from config_file.arg_config.types import folder


def compare_parser(description: str) -> Parser:
    parser = Parser(description, usage="%(prog)s RUN [RUN ...] [flags]")
    parser.add_argument(
        "runs", type=folder, nargs="+", metavar="RUN", help="folders of runs; runs/* takes all"
    )
    parser.add_argument(
        "--metric",
        default="flops",
        help="cost on the plot's x axis: flops, params, latency, or another that the runs recorded",
    )
    parser.add_argument(
        "--csv", type=folder, default=Path("comparison.csv"), metavar="FILE", help="table to write"
    )
    parser.add_argument(
        "--plot", type=folder, default=Path("comparison.png"), metavar="FILE", help="plot to write"
    )
    return parser

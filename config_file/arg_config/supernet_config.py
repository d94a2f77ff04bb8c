"""Flags of train_supernet.py."""

from __future__ import annotations

from config_file.arg_config.common import (
    Parser,
    add_budget_flags,
    add_run_flags,
    add_space_flags,
    add_training_flags,
)
from config_file.arg_config.sampling_config import add_sampling_flags


def supernet_parser(description: str) -> Parser:
    parser = Parser(description)
    add_run_flags(parser, plans=True)
    add_space_flags(parser)
    add_training_flags(parser)
    add_sampling_flags(parser)
    add_budget_flags(parser)
    return parser

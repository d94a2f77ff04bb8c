"""Datasets, splits and batches. Imports `utils` and nothing else of ours."""

from data.datasets import DATASETS, RawData
from data.loader import Loader
from data.splits import Splits, load_splits

__all__ = ["DATASETS", "Loader", "RawData", "Splits", "load_splits"]

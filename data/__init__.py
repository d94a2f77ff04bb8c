"""Datasets, splits and batches. Imports `utils` and nothing else of ours."""

from data.datasets import DATASETS, RawData
from data.loader import Loader
from data.splits import PIPELINES, Splits, load_splits

__all__ = ["DATASETS", "PIPELINES", "Loader", "RawData", "Splits", "load_splits"]

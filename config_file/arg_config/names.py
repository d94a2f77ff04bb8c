"""Names of registries that need torch, for --help and the command line to be read before it loads.

tests/test_startup.py compares them with the registries.
"""

DATASETS = ("digits", "cifar10", "cifar100", "imagenet", "image_folder", "fake")
SAMPLERS = ("uniform", "fair", "softmax", "gumbel", "binary", "threshold")

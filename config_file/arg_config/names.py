"""The names that flags accept, for --help and the command line to be read before torch is loaded.

Each is the names of a registry or tuple elsewhere; tests/test_startup.py holds them together.
"""

DATASETS = ("digits", "cifar10", "cifar100", "imagenet", "image_folder", "fake")
PIPELINES = ("auto", "memory", "streaming")
METRICS = ("flops", "params")
SUPERNET_INITS = ("independent", "aligned")
SAMPLERS = ("uniform", "fair", "softmax", "gumbel", "binary", "threshold")
HC_LOSSES = ("l2", "abs", "hinge", "linear", "log", "log_ratio", "multiplicative")
ON_NAN = ("stop", "skip")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
LR_SCHEDULERS = ("cosine", "step", "linear")
AMP = ("off", "bf16", "fp16")
EVAL_PRECISIONS = ("fp32", "bf16")
SCORES = ("top1", "probability")

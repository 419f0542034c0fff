"""The settings of a run, each declared once: default, check, help, what it affects."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from emosynth_jax.config.checks import FLAG, TEXT, Check, many, number, one_of, whole

# Sections that hold the arguments of what their name selects. An argument that is not
# among the settings is checked where the name is looked up.
OPEN_PARTS = ("loss", "model", "data.options")

# What a setting affects. A resumed run keeps those of "training". Those of "report"
# change how long a run lasts or what is evaluated; those of "cost" change paths, time
# and memory, and no result beyond rounding.
AFFECTS = ("training", "report", "cost")


class Setting(NamedTuple):
  """A setting.

  Attributes:
    default: its default. Runs stored before the setting existed are read with it, so
      that a new setting's default keeps the former behavior.
    check: its allowed values.
    help: one sentence on its meaning and its unit.
    affects: one of `AFFECTS`.
  """

  default: Any
  check: Check
  help: str
  affects: str = "training"


class ValidationMetric(NamedTuple):
  """A metric of the validation split, recorded after each validation.

  Attributes:
    value: computes it from the summary of `classification.summarize`.
    higher_is_better: whether the best epoch has the highest or the lowest value.
  """

  value: Callable[[Mapping[str, Any]], float]
  higher_is_better: bool = True


# By name: the metrics that can select the best epoch.
SELECTION_METRICS = {
  "accuracy": ValidationMetric(lambda summary: summary["accuracy"]),
  "balanced_accuracy": ValidationMetric(lambda summary: summary["balanced_accuracy"]),
  "f1_macro": ValidationMetric(lambda summary: summary["macro"]["f1"]),
  "loss": ValidationMetric(lambda summary: summary["loss"], higher_is_better=False),
}

_share = number(at_least=0, at_most=1)
_fraction = number(at_least=0, below=1)
_inner_share = number(above=0, below=1)
_not_negative = number(at_least=0)
_positive = number(above=0)

# By the setting's path, in the order in which they are listed.
SETTINGS: dict[str, Setting] = {
  "seed": Setting(
    0,
    whole(0, below=2**32),
    "Seed of the initialization, the order of the images, augmentation and dropout.",
  ),
  "init_from": Setting(
    "",
    TEXT,
    "Workdir of a trained run of the same network whose best checkpoint initializes "
    'the parameters, the classes of the last layer matched by name; "" for random '
    "parameters.",
  ),
  "pretrained.file": Setting(
    "",
    TEXT,
    "File of torchvision's or timm's weights (.safetensors, .npz or .pth) that "
    'initializes the parameters, see docs/reference/models.md; "" for none.',
  ),
  "pretrained.keep": Setting(
    (),
    many(TEXT),
    "Layers that keep their random initialization beside pretrained.file.",
  ),
  # Data.
  "data.name": Setting(
    "synthetic_faces",
    TEXT,
    "Name of the data set; an unknown one lists the known ones.",
  ),
  "data.data_dir": Setting(
    "data",
    TEXT,
    "Folder or file of the data set; a relative path starts where the command runs.",
    "cost",
  ),
  "data.validation_fraction": Setting(
    0.1,
    _fraction,
    "Share of the training split that is held out, stratified by class, to select the "
    "epoch on; ignored where a data set has its own validation split.",
  ),
  "data.seed": Setting(
    0,
    whole(0),
    "Seed of the held-out share, of data.limit and of generated data: separate from "
    "the training seed, so that runs of several seeds use the same splits.",
  ),
  "data.limit": Setting(
    0,
    whole(0),
    "Maximum number of images of each split, stratified by class, at least one of each "
    "class; 0: all.",
  ),
  "data.test_split": Setting(
    "test",
    one_of(("test", "")),
    'Split that is reported and never used for selection; "" if there is none.',
    "report",
  ),
  "data.drop_duplicates": Setting(
    False,
    FLAG,
    "Exclude training images that have a near-duplicate (exact, near or mirrored) in "
    "validation or test; the search takes half a minute for 36,000 images and its time "
    "grows with the square of their number.",
  ),
  "data.label_noise.rate": Setting(
    0.0,
    number(at_least=0, below=1),
    "Share of each class's training labels that are replaced, in equal parts by those "
    "of the other classes; 0 for none.",
  ),
  "data.label_noise.confusion": Setting(
    (),
    many(TEXT),
    'Shares of classes that are relabeled, as "fear:surprise:0.2"; () for none.',
  ),
  "data.label_noise.seed": Setting(
    0,
    whole(0),
    "Seed of the training images that get another label.",
  ),
  "data.soft_labels": Setting(
    "",
    TEXT,
    "File of class probabilities of the training images, which training learns instead "
    'of their labels, see experiments.distillation; "" for none.',
  ),
  "data.folds.file": Setting(
    "",
    TEXT,
    "File with a fold of each training image, of which data.folds.left_out is not "
    'trained on, see experiments.distillation; "" to train on all.',
  ),
  "data.folds.left_out": Setting(
    0, whole(0), "Fold of data.folds.file that is left out of training."
  ),
  "data.near_duplicates.max_distance": Setting(
    12,
    # As `duplicates.find_duplicates`: the hashes of other images differ in 32 bits.
    whole(0, below=32),
    "Number of the 64 bits in which perceptual hashes of near-duplicates may differ; "
    "chosen on faces, check it with an audit.",
  ),
  "data.near_duplicates.min_correlation": Setting(
    0.9,
    number(above=0, at_most=1),
    "Minimum correlation of the pixels of near-duplicates; chosen on faces, check it "
    "with an audit.",
  ),
  "data.pipeline": Setting(
    "auto",
    one_of(("auto", "resident", "grain")),
    'Input pipeline: "resident" keeps images on the devices, "grain" keeps them on '
    'disk or in host memory and prefetches batches, and "auto" is "resident" for a '
    "split of at most data.resident_gib; the batches are the same.",
    "cost",
  ),
  "data.resident_gib": Setting(
    4.0,
    _positive,
    'Memory, in GiB of each device, up to which data.pipeline "auto" keeps a split on '
    "the devices.",
    "cost",
  ),
  # Network. The arguments after its name are EmoSynthNet's; other networks have theirs.
  "model.name": Setting(
    "emosynthnet",
    TEXT,
    "Name of the network; an unknown one lists the known ones.",
  ),
  "model.width": Setting(
    1.0, _positive, "Factor on the number of channels of every convolution."
  ),
  "model.dense_features": Setting(
    (128, 64),
    many(whole(1)),
    "Sizes of the dense layers before the last one; the last of them is the embedding.",
  ),
  "model.dropout_rate": Setting(
    0.25, _fraction, "Dropout rate after each of these dense layers but the last."
  ),
  "model.norm_order": Setting(
    "last",
    TEXT,
    'Position of BatchNorm: "last", after the activation, or "first", before it.',
  ),
  "model.side_input": Setting(
    "block1",
    TEXT,
    'Input of the side branch: the pooled output of "block1", or the "image".',
  ),
  "model.skip": Setting(
    "block3", TEXT, 'Skip connection into the synthesis: of "block3", or "none".'
  ),
  "model.synthesis": Setting(
    "elu",
    TEXT,
    'Activation after the transposed convolutions: "elu", "linear" for none, or "norm" '
    "for ELU and BatchNorm.",
  ),
  "model.norm_momentum": Setting(
    0.9, _fraction, "Decay of BatchNorm's running statistics, per step."
  ),
  "model.dtype": Setting(
    "float32",
    one_of(("float32", "bfloat16")),
    "Data type of the network's computation; parameters and logits are float32.",
  ),
  # Loss.
  "loss.name": Setting(
    "cross_entropy",
    TEXT,
    "Name of the loss, whose arguments are settings of the same section; an unknown "
    "one lists the known ones.",
  ),
  "class_weights": Setting(
    "none",
    one_of(("none", "balanced")),
    'Weights of the classes in the loss: "balanced" weights each by N / (K n_k), '
    '"none" all equally.',
  ),
  # Optimizer.
  "optimizer.name": Setting(
    "adam",
    one_of(("adam", "adamw", "sgd")),
    'Optimizer; "sgd" has Nesterov momentum.',
  ),
  "optimizer.learning_rate": Setting(
    1e-3, _positive, "Learning rate before warm-up and decay."
  ),
  "optimizer.b1": Setting(0.9, _fraction, "Decay of Adam's first moment, per step."),
  "optimizer.b2": Setting(0.999, _fraction, "Decay of Adam's second moment, per step."),
  "optimizer.momentum": Setting(0.9, _fraction, "Momentum of SGD."),
  "optimizer.weight_decay": Setting(
    0.0,
    _not_negative,
    'Weight decay of kernels, for "adamw", and for "sgd", where it is part of the '
    "gradient.",
  ),
  "optimizer.gradient_clip": Setting(
    0.0, _not_negative, "Largest global norm of the gradient; 0 disables clipping."
  ),
  "optimizer.base_fan_in": Setting(
    0,
    whole(0),
    "Fan-in above which a kernel's updates shrink as base_fan_in / fan-in, so that one "
    "learning rate suits layers and networks of all widths; 0 disables it.",
  ),
  "sam.radius": Setting(
    0.0,
    _not_negative,
    "Radius of sharpness-aware minimization, at which the gradient is taken, as a norm "
    "over all parameters; a step takes twice as long. 0 disables it.",
  ),
  "sam.first_epoch": Setting(
    1, whole(1), "First epoch of sharpness-aware minimization, counted from 1."
  ),
  # Learning rate.
  "schedule.name": Setting(
    "constant",
    one_of(("constant", "cosine")),
    'Learning rate schedule after the warm-up: "constant", or "cosine" decay to '
    "schedule.final_scale at the end of the last epoch.",
  ),
  "schedule.warmup_epochs": Setting(
    0.0,
    _not_negative,
    "Epochs of linear warm-up; at most half an epoch in a run of one epoch.",
  ),
  "schedule.final_scale": Setting(
    0.0, _share, "Factor on the learning rate at the end of the cosine."
  ),
  "plateau.factor": Setting(
    0.1,
    _inner_share,
    "Factor on the learning rate after plateau.patience epochs without a lower "
    "validation loss, the cross-entropy of the margin-free logits.",
  ),
  "plateau.patience": Setting(
    5,
    whole(0),
    "Epochs without a lower validation loss before a decay by plateau.factor, at a "
    "validation; 0 disables it.",
  ),
  "plateau.min_improvement": Setting(
    1e-4, _inner_share, "Share of the best validation loss that is an improvement."
  ),
  "plateau.min_scale": Setting(
    1e-4, _inner_share, "Minimum of the learning rate's factor after all decays."
  ),
  "ema_decay": Setting(
    0.0,
    _fraction,
    "Decay per step of the exponential moving averages of parameters and batch "
    "statistics, which validation and report then use; 0 disables averaging.",
  ),
  # Input and augmentation.
  "input.scale": Setting(
    1 / 255, _positive, "Factor from pixels 0..255 to the network's input."
  ),
  "input.second_scale": Setting(
    1 / 512,
    _positive,
    "Factor that replaces input.scale from epoch input.second_scale_epoch on.",
  ),
  "input.second_scale_epoch": Setting(
    0, whole(0), "First epoch of input.second_scale, counted from 1; 0: never."
  ),
  "input.mean": Setting(
    (),
    many(number()),
    "Mean of each channel in scaled pixels, subtracted from the network's input as "
    "pretrained weights expect; () disables the normalization.",
  ),
  "input.std": Setting(
    (),
    many(_positive),
    "Standard deviation of each channel in scaled pixels, by which the network's input "
    "is divided after input.mean.",
  ),
  "input.standardize": Setting(
    False,
    FLAG,
    "Shift and scale each image to mean 0 and variance 1 after augmentation, so that "
    "its light and contrast hardly matter.",
  ),
  "input.equalize": Setting(
    "none",
    one_of(("none", "always", "random")),
    "Histogram equalization of gray images after crop and resize, before augmentation "
    'and scale: "none"; "always", in training and evaluation; or "random", for a share '
    "of each training batch and never in evaluation.",
  ),
  "input.equalize_share": Setting(
    0.5, _inner_share, 'Share of a training batch that "random" equalizes.'
  ),
  "augment.zoom": Setting(
    0.0, _share, "Range of random zoom: a factor within 1 - zoom and 1 + zoom."
  ),
  "augment.shear": Setting(
    0.0, _not_negative, "Range of random shear, as the tangent of its angle."
  ),
  "augment.shift": Setting(
    0.0, _share, "Range of random shifts, as a share of the image's side."
  ),
  "augment.rotation": Setting(
    0.0, number(at_least=0, at_most=180), "Range of random rotations, in degrees."
  ),
  "augment.flip": Setting(False, FLAG, "Mirror half of the training images."),
  "augment.crop_padding": Setting(
    0, whole(0), "Padding of random crops on each side, in pixels; 0 for no crops."
  ),
  "augment.crop_fill": Setting(
    "edge",
    one_of(("edge", "reflect", "zero")),
    'Padding\'s content: "edge", the nearest pixel, "reflect", the image mirrored, or '
    '"zero".',
  ),
  "augment.erasing_probability": Setting(
    0.0, _share, "Probability of random erasing of a rectangle, per image."
  ),
  "augment.cutout_side": Setting(
    0, whole(0), "Side of the cutout square, in pixels; 0 for no cutout."
  ),
  "mixup_alpha": Setting(
    0.0, _not_negative, "Parameter of mixup's Beta distribution; 0 for no mixup."
  ),
  "progressive_resizing.epochs": Setting(
    0,
    whole(0),
    "Number of initial epochs that train on images resized to "
    "progressive_resizing.side, after augmentation; the network must accept both "
    "sizes, as those with global pooling do; 0 for none.",
  ),
  "progressive_resizing.side": Setting(
    32, whole(1), "Side of these epochs' images, in pixels."
  ),
  # Devices and batches.
  "matmul_precision": Setting(
    "default",
    one_of(("default", "float32", "tensorfloat32", "bfloat16")),
    "Precision of products in training, of the network, the loss and their gradients, "
    'as `jax.default_matmul_precision`; "default" is the one that is set; "bfloat16" '
    "rounds factors of wide 3x3 convolutions on a CPU, and is faster on those with "
    "AVX512_BF16 or AMX.",
  ),
  "mesh.model": Setting(
    1,
    whole(1),
    "Number of devices over which the wide dense layer is sharded (model axis); the "
    "other axis shards the batch.",
    "cost",
  ),
  "batch_norm_groups": Setting(
    1,
    whole(1),
    "Parts of a batch that BatchNorm normalizes separately in training, a divisor of "
    "batch_size: 1 for the whole batch on any number of devices, the number of devices "
    "for each device's own part.",
  ),
  "batch_size": Setting(64, whole(1), "Number of images of a training batch."),
  "eval_batch_size": Setting(256, whole(1), "Number of images of an evaluation batch."),
  # Evaluation and length.
  "eval_augment": Setting(
    "none",
    one_of(("none", "flip", "ten_crop")),
    "Test-time augmentation that is reported in addition and never used for selection: "
    '"none", "flip" (the image and its mirror image) or "ten_crop".',
    "report",
  ),
  "evaluate_deduplicated": Setting(
    False,
    FLAG,
    "Add the deduplicated evaluation to the report, without images that have a "
    "near-duplicate in the splits used for training and selection; the search takes as "
    "long as for data.drop_duplicates.",
    "report",
  ),
  "num_epochs": Setting(100, whole(1), "Maximum number of epochs.", "report"),
  "evaluate_every": Setting(
    1,
    whole(1),
    "Epochs between validations, of which the best checkpoint is one; the last epoch "
    "is always validated.",
  ),
  "early_stop_patience": Setting(
    15,
    whole(0),
    "Epochs without improvement of selection_metric before training stops, at a "
    "validation; 0 disables early stopping.",
    "report",
  ),
  "selection_metric": Setting(
    "accuracy",
    one_of(SELECTION_METRICS),
    "Validation metric that chooses the best checkpoint.",
  ),
  # What a run writes, and when.
  "checkpoint.keep": Setting(
    2,
    whole(1),
    "Number of latest checkpoints kept on disk, beside the best one.",
    "cost",
  ),
  "checkpoint.minutes": Setting(
    10.0, _not_negative, "Minutes between checkpoints within an epoch.", "cost"
  ),
  "checkpoint.min_seconds": Setting(
    30.0,
    _not_negative,
    "Minimum seconds between checkpoints at ends of epochs, except the last one's, "
    "where checkpoint.minutes have not passed; 0 saves at each.",
    "cost",
  ),
  "steps_per_call": Setting(
    0,
    whole(0),
    "Training steps per compiled program, between the host's checks for signals and "
    "non-finite losses; 0: a whole epoch on accelerators and 10 on a CPU.",
    "cost",
  ),
  "tensorboard": Setting(
    False,
    FLAG,
    "Write TensorBoard event files into the workdir, without TensorFlow; "
    "the extra tensorboard.",
    "cost",
  ),
  "wandb.mode": Setting(
    "disabled",
    one_of(("disabled", "offline", "online")),
    'Tracking with Weights & Biases: "online", or "offline" in the workdir\'s folder '
    "wandb, to upload later; the extra wandb.",
    "cost",
  ),
  "wandb.project": Setting(
    "",
    TEXT,
    'Project of Weights & Biases; "" for WANDB_PROJECT, or else emosynth_jax.',
    "cost",
  ),
  "wandb.entity": Setting(
    "",
    TEXT,
    'User or team of Weights & Biases; "" for WANDB_ENTITY, or else the default one.',
    "cost",
  ),
  "wandb.group": Setting(
    "",
    TEXT,
    'Group of the run in Weights & Biases, as of several seeds; "" for WANDB_RUN_GROUP '
    "or none.",
    "cost",
  ),
  "wandb.name": Setting(
    "",
    TEXT,
    'Name of the run in Weights & Biases; "" for WANDB_NAME, or else the workdir.',
    "cost",
  ),
}


def closed_defaults() -> dict[str, Any]:
  """The defaults by path, without those of `OPEN_PARTS`."""
  return {
    path: setting.default
    for path, setting in SETTINGS.items()
    if path.rpartition(".")[0] not in OPEN_PARTS
  }


def affecting(*kinds: str) -> set[str]:
  """The paths of the settings that affect one of these, see `AFFECTS`."""
  return {path for path, setting in SETTINGS.items() if setting.affects in kinds}


def describe() -> Iterator[tuple[str, Any, str]]:
  """Yields every setting's path, default, and help with the allowed values."""
  for path, setting in SETTINGS.items():
    yield path, setting.default, f"{setting.help} Allowed: {setting.check.describe()}."

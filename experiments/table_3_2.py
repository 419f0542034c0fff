"""Table 3.2: cost of each network, counted, compared with the thesis's numbers.

  python -m experiments.table_3_2

Counts parameters, multiply-adds, size (float32) and depth of each network in three
forms: for ImageNet (224x224x3, 1000 classes, the original stem), the original stem at
32x32x3, and the form for small images at 32x32x3 that the other tables train. There is
no training. Outputs: table_3_2.md and .csv.
"""

import pathlib
from typing import Any, NamedTuple

from absl import flags

from emosynth_jax import models
from emosynth_jax.models import cost
from emosynth_jax.utils import cli, files, text_table
from emosynth_jax.workdir import provenance


class Claimed(NamedTuple):
  """The thesis's row: millions, billions, "MB", layers."""

  parameters: float
  flops: float
  mebibytes: float
  depth: int


CLAIMED = {
  "mobilenet_v2": Claimed(4, 0.006, 14, 105),
  "efficientnet_b0": Claimed(5, 0.008, 29, 132),
  "resnet50": Claimed(26, 0.078, 98, 107),
  "vgg19": Claimed(144, 0.417, 549, 19),
  "densenet121": Claimed(8, 0.057, 33, 242),
  # The thesis's text has about 34 million.
  "emosynthnet": Claimed(21, 1.120, 82, 34),
}

_NOTES = """\
- The thesis's parameters and sizes of the five known networks are those of their
  ImageNet form with 1000 classes; its FLOPS are those of the same networks on
  32x32 images (compare the second form), where an ImageNet stem leaves feature
  maps of one pixel. This handicaps the network: the other tables train the third form.
- It counts depth as Keras's table of applications does, with activation and
  normalization layers; here depth counts layers with a kernel on the longest path,
  so that ResNet50 has 50.
- Its depth of 34 for EmoSynthNet is the 20 layers of the main branch and the 14 of
  the side branch together, as the text has it; the longest path has 20.
- A multiply-add is one here. The thesis does not say whether its FLOPS are
  multiply-adds or twice as many; its 0.417 for VGG19 fits multiply-adds.
- EmoSynthNet: the thesis says 21 million parameters in the table and 34 million in
  the text; 13.1 million follow from its flattening alone. 82 MiB are 21.5 million
  numbers of four bytes. Its multiply-adds count the padding's zeros here; without
  them they are 1.06 G at 32x32x3.
- The thesis's "MB" are MiB: 143.67 million numbers of four bytes are 548 of them.
"""


def count_forms(name: str) -> dict[str, cost.Cost]:
  """The costs of a network in its forms."""
  if name == "emosynthnet":
    network = models.build_model(name, num_classes=10)
    faces = models.build_model(name, num_classes=7)
    return {
      "32x32x3, 10 classes": cost.count(network, (32, 32, 3)),
      "48x48x1, 7 classes": cost.count(faces, (48, 48, 1)),
    }
  imagenet = models.build_model(
    name,
    num_classes=1000,
    stem="imagenet",
    **({"norm": False} if name == "vgg19" else {}),
  )
  small = models.build_model(name, num_classes=10)
  return {
    "ImageNet: 224x224x3, 1000 classes": cost.count(imagenet, (224, 224, 3)),
    "ImageNet stem at 32x32x3": cost.count(imagenet, (32, 32, 3)),
    "small images: 32x32x3, 10 classes": cost.count(small, (32, 32, 3)),
  }


def format_tables() -> tuple[str, str]:
  """Formats the table as Markdown and as CSV."""
  lines = [
    "# Table 3.2: cost of each network",
    "",
    f"- command: {provenance.provenance()['command']}",
    f"- commit: {provenance.provenance()['commit']}",
    "",
  ]
  header = "network|form|parameters (M)|multiply-adds (G)|size (MiB)|depth"
  shown: list[list[Any]] = [header.split("|")]
  exact: list[list[Any]] = [
    ["network", "form", "parameters", "multiply_adds", "mebibytes", "depth"]
  ]
  for name, claimed in CLAIMED.items():
    millions, billions, size, depth = claimed
    shown.append(
      [name, "claimed by the thesis", millions, f"{billions:.3f}", size, depth]
    )
    exact.append(
      [name, "claimed", round(millions * 1e6), round(billions * 1e9), size, depth]
    )
    for form, own in count_forms(name).items():
      size = 4 * own.parameters / 2**20
      millions, billions = own.parameters / 1e6, own.multiply_adds / 1e9
      shown.append(
        [name, form, f"{millions:.2f}", f"{billions:.3f}", f"{size:.0f}", own.depth]
      )
      exact.append(
        [name, form, own.parameters, own.multiply_adds, f"{size:.1f}", own.depth]
      )
  lines += text_table.markdown(shown, left=(0, 1))
  return "\n".join(lines) + "\n\n" + _NOTES, text_table.to_csv(exact)


def write(args: Any) -> None:
  """Writes and prints the table."""
  markdown, table = format_tables()
  folder = pathlib.Path(args.workdir) / "table_3_2"
  files.write_atomically(folder / "table_3_2.md", markdown.encode())
  files.write_atomically(folder / "table_3_2.csv", table.encode())
  print(markdown)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string(
    "workdir", "runs/tables", "Output folder; the table goes to table_3_2 in it."
  )


if __name__ == "__main__":
  cli.run(define_flags, write)

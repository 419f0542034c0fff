"""Lists the commands of this package.

python -m emosynth_jax
"""

_COMMANDS = {
  "main": "trains a network, or evaluates a trained one",
  "predict": "expressions in images, videos and webcams",
  "report": "an HTML page of one run, or of several",
  "audit": "duplicates, label conflicts and damaged files of a data set",
  "data.prepare": "downloads MNIST, CIFAR-10 and SVHN",
  "export": "StableHLO, ONNX and 8-bit ONNX",
  "bundle": "a trained network as one file",
  "analysis.gradcam": "Grad-CAM",
  "analysis.deletion": "deletion test of Grad-CAM's layers",
  "analysis.embeddings": "t-SNE, principal components, class separation",
  "analysis.loss_landscape": "loss around a trained network",
  "analysis.curvature": "eigenvalues and spectrum of the Hessian",
}


def main() -> None:
  """Prints the commands."""
  print("Commands, each with --help:\n")
  for name, text in _COMMANDS.items():
    print(f"  python -m emosynth_jax.{name:<24} {text}")


if __name__ == "__main__":
  main()

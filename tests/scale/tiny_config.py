"""A run of three epochs of three steps on the network of tests/tiny_network.py."""

from emosynth_jax.config import defaults


def get_config():
  config = defaults.get_default_config()
  config.model = {"name": "tiny", "features": 4, "dtype": "float32"}
  config.data.name = "image_folder"
  config.data.options.image_size = 4
  config.data.options.channels = 1
  config.data.validation_fraction = 0.3
  config.data.test_split = ""
  config.batch_size = 8
  config.eval_batch_size = 4
  config.num_epochs = 3
  config.steps_per_call = 1
  config.augment.flip = True
  config.augment.shift = 0.2
  config.ema_decay = 0.9
  config.optimizer.gradient_clip = 1.0
  return config

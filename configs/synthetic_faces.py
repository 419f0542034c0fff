"""EmoSynthNet on synthetic faces, which need no data set; run by `make demo`.

  python -m emosynth_jax.main --config=configs/synthetic_faces.py:small

The variants after the colon: emosynth_jax/config/recipes/__init__.py.
"""

from emosynth_jax.config import recipes

get_config = recipes.synthetic_faces

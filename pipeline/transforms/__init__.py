"""Transforms: what can be made of an original, each with its fingerprint.

``checks``     what the values in ``recipes.toml`` may be
``features``   features: values that a function makes of an original
``functions``  functions of pixels: what identifies one, and calling it in a worker
``parsing``    the keys ``function`` and ``options`` to a function, without running it
``recipes``    recipes: named ways to derive an image, read from ``recipes.toml``
"""

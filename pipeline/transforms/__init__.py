"""Transforms: what can be made of an original, each with its fingerprint.

``recipes``  recipes: named ways to derive an image, read from ``recipes.toml``
"""

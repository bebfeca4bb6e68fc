"""Merge patches (RFC 7386): the smallest change that turns one JSON object into another."""

from fettle_operator.resources import Manifest

__all__ = ["merge_patch"]


def merge_patch(old: Manifest, new: Manifest) -> Manifest:
    """Return the patch; keys that vanish become null, lists are replaced whole."""
    patch: Manifest = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if change := merge_patch(before, value):
                patch[key] = change
        elif key not in old or before != value:
            patch[key] = value
    return patch

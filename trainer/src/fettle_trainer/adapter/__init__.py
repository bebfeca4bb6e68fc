"""Adapter directories: opened safely, verified byte by byte, sealed with a manifest.

Standard library and pydantic only: this package also runs in the operator's small image.
"""

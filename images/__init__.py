"""Builds the images of Fettle's parts, only what changed, and pushes them where the cluster pulls from.

Standard library only: it runs before the virtual environment exists.
"""

"""Where the product runs on this machine: an explicit context, kind, or the embedded cluster.

Standard library only: it runs before the virtual environment exists.
"""

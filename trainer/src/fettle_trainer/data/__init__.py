"""Datasets: files found and read in bounded memory, rows understood, everything wrong with them said.

A reader yields rows and problems side by side and never stops at the first; what is wrong with one row leaves
the next one readable wherever the file's format allows it.
"""

"""The frame of all kinds: one loop per object that observes, computes, applies and reports.

Events only wake a loop; missing one costs time, never correctness. Nothing here knows a kind or kopf.
"""

"""Fixtures for every test: a real API server for each run, and the embedded cluster."""

pytest_plugins = ["apiserver_plugin", "cluster_plugin"]

"""Fettle's layer over vLLM, loaded by `--middleware fettle_server.vllm.middleware.FettleLayer`."""

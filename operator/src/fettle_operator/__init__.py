"""The control plane: reconciles the resources of group fettle.dev (kopf)."""

"""The resources of group fettle.dev: spec and status models, free of kopf and of the Kubernetes client."""

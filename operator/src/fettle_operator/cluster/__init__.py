"""The way to the API server: a port that everything else uses, and the one implementation that speaks HTTP.

Nothing outside this package imports an HTTP or Kubernetes client (see docs/adr/0004).
"""

from fettle_operator.cluster.credentials import Credentials, load_credentials
from fettle_operator.cluster.kube import KubeCluster
from fettle_operator.cluster.port import FIELD_MANAGER, PAGE, Cluster

__all__ = ["FIELD_MANAGER", "PAGE", "Cluster", "Credentials", "KubeCluster", "load_credentials"]

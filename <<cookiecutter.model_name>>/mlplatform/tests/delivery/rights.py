"""What a user who deploys may do in the cluster of a test."""

from typing import Any

# What a pipeline needs, but for network policies, which it may only read.
RULES: list[dict[str, Any]] = [
    {
        "apiGroups": ["apps", "autoscaling", "policy", ""],
        "resources": [
            *("deployments", "horizontalpodautoscalers", "poddisruptionbudgets", "services"),
            *("serviceaccounts", "configmaps"),
        ],
        "verbs": ["get", "list", "create", "patch", "delete"],
    },
    {
        "apiGroups": ["apps", "networking.k8s.io", ""],
        "resources": ["replicasets", "pods", "events", "networkpolicies"],
        "verbs": ["get", "list"],
    },
]

"""Valid specs: the smallest of each kind, and full ones that together fill every field there is."""

from typing import Any

SHA = "0123456789abcdef" * 4
DIGEST = f"sha256:{SHA}"

_SECRET_KEY = {"name": "hub", "key": "token"}
_HUB = {"repo": "org/model", "revision": "main", "tokenSecretRef": _SECRET_KEY}
_VOLUME = {"claimName": "models", "path": "base/v1"}

_MODELS: list[dict[str, Any]] = [
    {"huggingFace": _HUB},
    {"volume": _VOLUME},
    {"adapterRef": {"name": "earlier"}},
]
_SOURCES: list[dict[str, Any]] = [
    {"volume": {"claimName": "data", "path": "rows/*.jsonl"}},
    {"configMap": {"name": "rows", "key": "train.jsonl"}},
    {
        "huggingFace": {
            "repo": "org/rows",
            "revision": "v1",
            "subset": "en",
            "split": "train",
            "tokenSecretRef": _SECRET_KEY,
        }
    },
    {"http": {"url": "https://example.com/rows.jsonl", "sha256": SHA, "maxSize": "1Gi"}},
]
_ADAPTERS: list[dict[str, Any]] = [
    {"adapterRef": {"name": "tuned"}, "digest": DIGEST},
    {"fineTuneJobRef": {"name": "job"}, "digest": DIGEST},
    {"volume": _VOLUME, "digest": DIGEST},
    {"huggingFace": _HUB, "digest": DIGEST},
]
_RESOURCES = {
    "requests": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "2Gi"},
    "limits": {"cpu": 2, "memory": "2Gi", "ephemeral-storage": 4_000_000_000},
}
_ANALYSIS = {
    "interval": "30s",
    "failureLimit": 2,
    "errorLimit": 5,
    "minSamples": 50,
    "metrics": [
        {"name": "errors", "signal": "error-rate", "max": 0.02, "maxIncrease": 0.01},
        {"name": "clicks", "query": "sum(clicks{revision='{{revision}}'})", "min": 1, "maxDecrease": 0.5},
        {"name": "exact", "evaluation": "exact-match", "min": 0.5, "max": 1},
    ],
}

_JOB: dict[str, Any] = {
    "model": _MODELS[0],
    "dataset": {
        "train": _SOURCES,
        "validationSplit": "5%",
        "format": "prompt-completion",
        "columns": {
            "messages": "messages",
            "role": "from",
            "content": "value",
            "roles": {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"},
            "tools": "tools",
            "system": "system",
            "prompt": "question",
            "completion": "answer",
            "instruction": "instruction",
            "input": "input",
            "output": "output",
            "text": "text",
            "label": "topic",
        },
        "template": "### Q: {prompt}\n### A: {response}",
        "maxBadRows": 3,
    },
    "method": "lora",
    "lora": {
        "rank": 16,
        "alpha": 32,
        "dropout": 0.05,
        "targetModules": ["q_proj", "v_proj"],
        "rslora": True,
        "initWeights": "pissa",
        "loraPlusRatio": 16,
    },
    "training": {
        "epochs": 1.5,
        "learningRate": 2e-4,
        "batchSize": 32,
        "microBatchSize": 2,
        "schedule": "cosine",
        "warmup": "3%",
        "weightDecay": 0.01,
        "optimizer": "adamw",
        "loss": {"trainOn": "completion", "plugin": "focal", "settings": {"gamma": "2"}},
        "maxLength": 2048,
        "overlong": "drop",
        "packing": True,
        "gradientCheckpointing": False,
        "precision": "bf16",
        "seed": 42,
        "neftuneAlpha": 5,
        "evalEvery": 50,
        "saveEvery": 50,
        "logEvery": 1,
        "earlyStopping": {"patience": 3, "minDelta": 0.001},
    },
    "distributed": {"nodes": 2, "processesPerNode": 1, "zero": {"stage": 2, "offload": "optimizer"}},
    "profile": "gpu",
    "resources": _RESOURCES,
    "scheduling": {
        "queueName": "team",
        "priorityClassName": "batch-low",
        "nodeSelector": {"pool": "tuning"},
        "tolerations": [
            {
                "key": "nvidia.com/gpu",
                "operator": "Equal",
                "value": "present",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }
        ],
        "suspend": False,
        "deadlineSeconds": 86_400,
        "retries": 2,
        "ttlSecondsAfterFinished": 3600,
    },
    "evaluation": {
        "metrics": ["loss", "exact-match"],
        "samples": 20,
        "compareToBase": True,
        "gates": [
            {"metric": "loss", "max": 2.0},
            {"metric": "exact-match", "min": 0.5},
            {"metric": "exact-match", "minGainOverBase": 0.1},
        ],
    },
    "output": {
        "store": {
            "size": "50Gi",
            "storageClassName": "standard",
            "accessMode": "ReadWriteMany",
            "deleteWithJob": False,
        },
        "adapterName": "tuned",
        "exports": ["adapter", "merged"],
        "push": {
            "oci": {
                "repository": "registry.example.com/team/adapter",
                "tag": "v1",
                "secretRef": {"name": "push"},
            }
        },
    },
    "tracking": {
        "tensorboard": True,
        "mlflow": {
            "trackingUri": "https://mlflow.example.com",
            "experiment": "support",
            "tokenSecretRef": _SECRET_KEY,
        },
    },
}


def _other_job(model: dict[str, Any]) -> dict[str, Any]:
    training = {key: value for key, value in _JOB["training"].items() if key != "epochs"}
    return _JOB | {
        "model": model,
        "dataset": {"train": _SOURCES[:1], "validation": _SOURCES, "format": "classification"},
        "training": training | {"maxSteps": 500, "loss": {"classWeights": {"spam": 2.5}}},
        "output": {"store": {"claimName": "results"}},
    }


def _deployment(number: int, strategy: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": _MODELS[number % len(_MODELS)],
        "adapter": _ADAPTERS[number],
        "variants": [
            {"name": f"arm-{place}", "weight": 5 * place, "adapter": adapter}
            for place, adapter in enumerate(_ADAPTERS)
        ],
        "shadow": {"adapter": _ADAPTERS[number], "percent": 10},
        "runtime": {
            "engine": "vllm",
            "precision": "bf16",
            "maxContext": 8192,
            "maxNewTokens": 1024,
            "maxAdapters": 8,
            "maxLoraRank": 64,
            "maxConcurrentRequests": 64,
            "maxQueuedRequests": 128,
            "gpuMemoryFraction": 0.9,
            "tensorParallel": 2,
        },
        "profile": "gpu",
        "resources": _RESOURCES,
        "replicas": 1,
        "autoscaling": {"minReplicas": 1, "maxReplicas": 4, "targetInFlight": 16},
        "strategy": strategy,
        "access": {
            "apiKeys": {"secretRef": {"name": "keys"}},
            "rateLimit": {"requestsPerMinute": 600, "tokensPerMinute": 100_000, "concurrency": 20},
            "stickyBy": {"header": "x-session-id"},
        },
        "route": {
            "parentRefs": [{"name": "public", "sectionName": "https", "port": 443}],
            "hostnames": ["*.models.example.com"],
        },
        "paused": False,
        "revisionHistoryLimit": 5,
        "progressDeadlineSeconds": 900,
    }


_CANARY = {
    "canary": {
        "steps": [
            {"weight": 10},
            {"pause": {"seconds": 60}},
            {"analyse": {"seconds": 120}},
            {"weight": 50},
            {"pause": {}},
        ],
        "analysis": _ANALYSIS,
    }
}
_BLUE_GREEN = {
    "blueGreen": {
        "promotion": "manual",
        "analyseSeconds": 300,
        "analysis": _ANALYSIS,
        "scaleDownDelaySeconds": 60,
    }
}

MINIMAL_SPECS: dict[str, dict[str, Any]] = {
    "Adapter": {"source": {"volume": {"claimName": "adapters", "path": "tuned"}}},
    "FineTuneJob": {
        "model": {"huggingFace": {"repo": "org/model"}},
        "dataset": {"train": [{"volume": {"claimName": "data", "path": "train.jsonl"}}]},
    },
    "InferenceDeployment": {"model": {"huggingFace": {"repo": "org/model"}}},
}
"""The least that each kind takes."""

FULL_SPECS: dict[str, list[dict[str, Any]]] = {
    "Adapter": [
        {"source": {"volume": _VOLUME}, "baseModel": {"huggingFace": _HUB}, "digest": DIGEST},
        {"source": {"huggingFace": _HUB}, "baseModel": {"volume": _VOLUME}},
        {"source": {"fineTuneJob": {"name": "job"}}},
    ],
    "FineTuneJob": [_JOB, _other_job(_MODELS[1]), _other_job(_MODELS[2])],
    "InferenceDeployment": [
        _deployment(0, _CANARY),
        _deployment(1, _BLUE_GREEN),
        _deployment(2, {"replace": {}}),
        _deployment(3, _CANARY),
    ],
}
"""Valid specs that together carry a value at every leaf of the schema."""

"""Rows written by hand: what people try, and every rule from both sides."""

from typing import Any

from spec_table.rows import REMOVE, Row, changed
from spec_table.samples import DIGEST, MINIMAL_SPECS, SHA

Changes = dict[str, Any]

_HUB = {"repo": "org/other"}
_VOLUME = {"claimName": "c", "path": "p"}
_REF = {"name": "x"}
_ROWS = {"volume": {"claimName": "data", "path": "more.csv"}}
_TAINT = {"key": "nvidia.com/gpu"}
_ERRORS = {"name": "errors", "signal": "error-rate", "max": 0.01}
_WEIGHT = {"weight": 10}
_WATCH = {"analyse": {"seconds": 60}}


def _accepted(kind: str, rows: dict[str, Changes]) -> tuple[Row, ...]:
    return tuple(Row(title, kind, _spec(kind, changes), accepted=True) for title, changes in rows.items())


def _refused(kind: str, rows: dict[str, tuple[str, str, Changes]]) -> tuple[Row, ...]:
    return tuple(
        Row(title, kind, _spec(kind, changes), accepted=False, blames=f"spec.{blames}".rstrip("."), says=says)
        for title, (blames, says, changes) in rows.items()
    )


def _spec(kind: str, changes: Changes) -> dict[str, Any]:
    spec = MINIMAL_SPECS[kind]
    for path, value in changes.items():
        spec = changed(spec, path, value)
    return spec


_ADAPTERS = (
    *_accepted(
        "Adapter",
        {
            "an adapter on a volume": {},
            "an adapter at the root of a volume": {"source.volume.path": "."},
            "an adapter in a hidden folder": {"source.volume.path": ".cache/adapter"},
            "an adapter whose name has digits and signs": {"source.volume.path": "a=1,b@2/c+d/e_f-g.h"},
            "an adapter on a claim with dots in its name": {"source.volume.claimName": "team.models"},
            "an adapter from the hub": {"source": {"huggingFace": _HUB}},
            "an adapter from the hub at a commit": {"source": {"huggingFace": _HUB | {"revision": SHA[:40]}}},
            "an adapter from the hub at a pull request": {
                "source": {"huggingFace": _HUB | {"revision": "refs/pr/7"}}
            },
            "an adapter from a job": {"source": {"fineTuneJob": _REF}},
            "an expected base model": {"baseModel": {"huggingFace": _HUB}},
            "an expected base model on a volume": {"baseModel": {"volume": _VOLUME}},
            "an expected digest": {"digest": DIGEST},
        },
    ),
    *_refused(
        "Adapter",
        {
            "no source": ("source", "Required", {"source": REMOVE}),
            "an empty source": (
                "source",
                "exactly one of volume, huggingFace and fineTuneJob",
                {"source": {}},
            ),
            "two sources": ("source", "exactly one", {"source.huggingFace": _HUB}),
            "three sources": (
                "source",
                "exactly one",
                {"source.huggingFace": _HUB, "source.fineTuneJob": _REF},
            ),
            "an empty base model": ("baseModel", "exactly one of huggingFace and volume", {"baseModel": {}}),
            "two base models": (
                "baseModel",
                "exactly one",
                {"baseModel": {"huggingFace": _HUB, "volume": _VOLUME}},
            ),
            "a base model that is an adapter": (
                "baseModel.adapterRef",
                "",
                {"baseModel": {"adapterRef": _REF}},
            ),
            "a path to the folder above": ("source.volume.path", "", {"source.volume.path": "../other"}),
            "a path that goes up in the middle": (
                "source.volume.path",
                "",
                {"source.volume.path": "a/../../b"},
            ),
            "a path that ends above": ("source.volume.path", "", {"source.volume.path": "a/.."}),
            "an absolute path": ("source.volume.path", "", {"source.volume.path": "/proc/self/environ"}),
            "a path with an escaped slash": ("source.volume.path", "", {"source.volume.path": "..%2fother"}),
            "a path with an empty part": ("source.volume.path", "", {"source.volume.path": "a//b"}),
            "a path that ends in a slash": ("source.volume.path", "", {"source.volume.path": "a/"}),
            "a path with a full-width dot": (
                "source.volume.path",
                "",
                {"source.volume.path": "\uff0e\uff0e/a"},
            ),
            "a path with a NUL": ("source.volume.path", "", {"source.volume.path": "a\x00b"}),
            "a glob for an adapter": ("source.volume.path", "", {"source.volume.path": "*"}),
            "a claim of another namespace": (
                "source.volume.namespace",
                "",
                {"source.volume.namespace": "kube-system"},
            ),
            "a claim's name with a slash": (
                "source.volume.claimName",
                "",
                {"source.volume.claimName": "other/claim"},
            ),
            "a digest without its algorithm": ("digest", "", {"digest": SHA}),
            "a digest in capitals": ("digest", "", {"digest": DIGEST.upper()}),
            "a repository with a host": (
                "source.huggingFace.repo",
                "",
                {"source": {"huggingFace": {"repo": "a/b/c"}}},
            ),
            "a repository that goes up": (
                "source.huggingFace.repo",
                "",
                {"source": {"huggingFace": {"repo": "a/.."}}},
            ),
            "a revision that goes up": (
                "source.huggingFace.revision",
                "",
                {"source": {"huggingFace": _HUB | {"revision": "../x"}}},
            ),
            "a token written into the spec": (
                "source.huggingFace.token",
                "",
                {"source": {"huggingFace": _HUB | {"token": "hf_secret"}}},
            ),
        },
    ),
)

_JOBS = (
    *_accepted(
        "FineTuneJob",
        {
            "the smallest job": {},
            "a model on a volume": {"model": {"volume": _VOLUME}},
            "a model that is an earlier adapter": {"model": {"adapterRef": _REF}},
            "several sources of rows": {"dataset.train": [_ROWS] * 32},
            "files by glob": {"dataset.train[0].volume.path": "**/part-[0-9]?.jsonl.gz"},
            "a file behind an address": {
                "dataset.train": [{"http": {"url": "http://10.0.0.7:8080/rows.jsonl?v=1", "sha256": SHA}}]
            },
            "rows in a ConfigMap": {"dataset.train": [{"configMap": {"name": "rows"}}]},
            "rows from the hub": {"dataset.train": [{"huggingFace": {"repo": "org/rows", "split": "train"}}]},
            "rows held back by share": {"dataset.validationSplit": "2.5%"},
            "half of the rows held back": {"dataset.validationSplit": "50%"},
            "rows held back by source": {"dataset.validation": [_ROWS]},
            "nothing held back": {"dataset.validationSplit": "0%"},
            "early stopping with rows held back": {
                "dataset.validationSplit": "5%",
                "training": {"earlyStopping": {}, "evalEvery": 10},
                "evaluation": {},
            },
            "a template for pairs": {"dataset.template": "### Q: {prompt}\n### A: {response}"},
            "a template for texts": {"dataset.format": "text", "dataset.template": "{title}: {body}"},
            "format auto": {"dataset.format": "auto"},
            "method qlora": {"method": "qlora", "lora": {"rank": 64}},
            "method dora with ZeRO 2": {"method": "dora", "distributed": {"zero": {"stage": 2}}},
            "method qlora with its stage left to auto": {
                "method": "qlora",
                "distributed": {"zero": {"stage": "auto"}},
            },
            "method full without lora": {"method": "full", "output": {"exports": ["merged"]}},
            "method full with ZeRO 3": {"method": "full", "distributed": {"zero": {"stage": 3}}},
            "method lora with ZeRO 3": {"distributed": {"zero": {"stage": 3}}},
            "PiSSA with lora": {"lora": {"initWeights": "pissa"}},
            "the usual start with qlora": {"method": "qlora", "lora": {"initWeights": "default"}},
            "epochs alone": {"training": {"epochs": 0.5}},
            "steps alone": {"training": {"maxSteps": 10}},
            "a warm-up in steps": {"training": {"warmup": 100}},
            "a warm-up as a share": {"training": {"warmup": "3%"}},
            "a micro-batch as large as the batch": {"training": {"batchSize": 8, "microBatchSize": 8}},
            "a batch over four processes": {
                "training": {"batchSize": 32, "microBatchSize": 4},
                "distributed": {"nodes": 2, "processesPerNode": 2},
            },
            "a batch over three nodes": {"training": {"batchSize": 33}, "distributed": {"nodes": 3}},
            "a loss plugin with settings": {
                "training": {"loss": {"plugin": "focal", "settings": {"gamma": "2"}}}
            },
            "class weights for classification": {
                "dataset.format": "classification",
                "training": {"loss": {"classWeights": {"not spam": 1, "spam": 4.5}}},
            },
            "class weights with format auto": {"training": {"loss": {"classWeights": {"spam": 4.5}}}},
            "accuracy for classification": {
                "dataset.format": "classification",
                "evaluation": {"metrics": ["accuracy", "macro-f1"]},
            },
            "offload of the optimizer with stage 1": {
                "distributed": {"zero": {"stage": 1, "offload": "optimizer"}},
                "training": {"optimizer": "adamw"},
            },
            "offload with its stage left out": {"distributed": {"zero": {"offload": "parameters"}}},
            "offload of the parameters with stage 3": {
                "distributed": {"zero": {"stage": 3, "offload": "parameters"}}
            },
            "no offload with an 8-bit optimizer": {
                "distributed": {"zero": {"stage": 2, "offload": "none"}},
                "training": {"optimizer": "adamw-8bit"},
            },
            "gates of every kind": {
                "evaluation": {
                    "metrics": ["loss", "f1", "rouge-l"],
                    "gates": [
                        {"metric": "loss", "max": 2},
                        {"metric": "f1", "min": 0.5},
                        {"metric": "rouge-l", "minGainOverBase": 0.05},
                    ],
                }
            },
            "no comparison where no gate asks for it": {
                "evaluation": {
                    "compareToBase": False,
                    "metrics": ["loss"],
                    "gates": [{"metric": "loss", "max": 2}],
                }
            },
            "a store that exists": {"output": {"store": {"claimName": "results"}}},
            "a store to create": {
                "output": {"store": {"size": "20Gi", "accessMode": "ReadWriteMany", "deleteWithJob": True}}
            },
            "a store left to auto": {"output": {"store": {}}},
            "the adapter in a registry": {
                "output": {"push": {"oci": {"repository": "localhost:5000/team/a"}}}
            },
            "requests within limits across units": {
                "resources": {
                    "requests": {"cpu": "1500m", "memory": "1024Mi"},
                    "limits": {"cpu": "1.5", "memory": "1Gi"},
                }
            },
            "requests without limits": {"resources": {"requests": {"memory": 1_000_000}}},
            "limits for something else": {"resources": {"requests": {"cpu": 4}, "limits": {"memory": "1Gi"}}},
            "a toleration by key": {"scheduling": {"tolerations": [_TAINT | {"operator": "Exists"}]}},
            "a toleration by value": {"scheduling": {"tolerations": [_TAINT | {"value": "yes"}]}},
            "a toleration for a while": {
                "scheduling": {"tolerations": [_TAINT | {"effect": "NoExecute", "tolerationSeconds": 0}]}
            },
            "a node label with a domain": {
                "scheduling": {"nodeSelector": {"kubernetes.io/arch": "amd64", "a": ""}}
            },
            "a job that waits": {"scheduling": {"suspend": True, "queueName": "team"}},
            "no retries": {"scheduling": {"retries": 0}},
        },
    ),
    *_refused(
        "FineTuneJob",
        {
            "no model": ("model", "Required", {"model": REMOVE}),
            "an empty model": ("model", "exactly one of huggingFace, volume and adapterRef", {"model": {}}),
            "two models": ("model", "exactly one", {"model.volume": _VOLUME}),
            "an adapter of another namespace": (
                "model.adapterRef.namespace",
                "",
                {"model": {"adapterRef": {"name": "x", "namespace": "other"}}},
            ),
            "an adapter by path": ("model.adapterRef.name", "", {"model": {"adapterRef": {"name": "../x"}}}),
            "no data": ("dataset.train", "Required", {"dataset.train": REMOVE}),
            "an empty list of sources": ("dataset.train", "", {"dataset.train": []}),
            "a source without a kind": (
                "dataset.train[0]",
                "exactly one of volume, configMap, huggingFace and http",
                {"dataset.train": [{}]},
            ),
            "a source of two kinds": (
                "dataset.train[1]",
                "exactly one",
                {"dataset.train": [_ROWS, _ROWS | {"configMap": {"name": "x"}}]},
            ),
            "a glob that goes up": (
                "dataset.train[0].volume.path",
                "",
                {"dataset.train[0].volume.path": "../*"},
            ),
            "a file without its hash": (
                "dataset.train[0].http.sha256",
                "Required",
                {"dataset.train": [{"http": {"url": "https://example.com/x"}}]},
            ),
            "a file of the node": (
                "dataset.train[0].http.url",
                "",
                {"dataset.train": [{"http": {"url": "file:///etc/passwd", "sha256": SHA}}]},
            ),
            "an address with a password": (
                "dataset.train[0].http.url",
                "",
                {"dataset.train": [{"http": {"url": "https://me:pw@example.com/x", "sha256": SHA}}]},
            ),
            "an address with a backslash": (
                "dataset.train[0].http.url",
                "",
                {
                    "dataset.train": [
                        {"http": {"url": "http://example.com\\@169.254.169.254/", "sha256": SHA}}
                    ]
                },
            ),
            "validation twice": (
                "dataset",
                "at most one of validation and validationSplit",
                {"dataset.validation": [_ROWS], "dataset.validationSplit": "5%"},
            ),
            "more than half held back": ("dataset.validationSplit", "", {"dataset.validationSplit": "50.1%"}),
            "a share that is a number": ("dataset.validationSplit", "", {"dataset.validationSplit": 5}),
            "zero spelled otherwise": ("dataset.validationSplit", "", {"dataset.validationSplit": "0.0%"}),
            "a template for chats": (
                "dataset.template",
                "no meaning with format chat or sharegpt",
                {"dataset.format": "chat", "dataset.template": "{x}"},
            ),
            "a template for sharegpt": (
                "dataset.template",
                "no meaning",
                {"dataset.format": "sharegpt", "dataset.template": "{x}"},
            ),
            "a template without a column": ("dataset.template", "", {"dataset.template": "hello"}),
            "early stopping with nothing to look at": (
                "dataset.validationSplit",
                "leaves nothing",
                {"dataset.validationSplit": "0%", "training": {"earlyStopping": {}}},
            ),
            "evaluations with nothing to look at": (
                "dataset.validationSplit",
                "leaves nothing",
                {"dataset.validationSplit": "0%", "training": {"evalEvery": 10}},
            ),
            "an evaluation with nothing to look at": (
                "dataset.validationSplit",
                "leaves nothing",
                {"dataset.validationSplit": "0%", "evaluation": {"metrics": ["loss"]}},
            ),
            "a lora block with method full": (
                "lora",
                "no meaning with method full",
                {"method": "full", "lora": {}},
            ),
            "PiSSA with qlora": (
                "lora.initWeights",
                "keeps quantised",
                {"method": "qlora", "lora": {"initWeights": "pissa"}},
            ),
            "OLoRA with qlora": (
                "lora.initWeights",
                "keeps quantised",
                {"method": "qlora", "lora": {"initWeights": "olora"}},
            ),
            "a rank of zero": ("lora.rank", "", {"lora": {"rank": 0}}),
            "a dropout of one": ("lora.dropout", "", {"lora": {"dropout": 1}}),
            "auto for a number": ("training.learningRate", "", {"training": {"learningRate": "auto"}}),
            "a learning rate of zero": ("training.learningRate", "", {"training": {"learningRate": 0}}),
            "epochs and steps": (
                "training",
                "at most one of epochs and maxSteps",
                {"training": {"epochs": 1, "maxSteps": 10}},
            ),
            "a micro-batch above the batch": (
                "training.microBatchSize",
                "must not exceed batchSize",
                {"training": {"batchSize": 4, "microBatchSize": 8}},
            ),
            "a batch that the micro-batch does not divide": (
                "training.batchSize",
                "must be a multiple",
                {"training": {"batchSize": 10, "microBatchSize": 4}},
            ),
            "a batch that the processes do not divide": (
                "training.batchSize",
                "must be a multiple",
                {"training": {"batchSize": 32}, "distributed": {"nodes": 3}},
            ),
            "a batch that processes and micro-batch do not divide": (
                "training.batchSize",
                "must be a multiple",
                {"training": {"batchSize": 12, "microBatchSize": 4}, "distributed": {"processesPerNode": 2}},
            ),
            "settings without a plugin": (
                "training.loss.settings",
                "need a plugin",
                {"training": {"loss": {"settings": {"gamma": "2"}}}},
            ),
            "a setting with a strange name": (
                "training.loss.settings",
                "each key of settings",
                {"training": {"loss": {"plugin": "focal", "settings": {"a.b": "2"}}}},
            ),
            "a class with a name that is too long": (
                "training.loss.classWeights",
                "each key of classWeights",
                {"training": {"loss": {"classWeights": {"x" * 129: 1}}}},
            ),
            "a class without a name": (
                "training.loss.classWeights",
                "each key of classWeights",
                {"training": {"loss": {"classWeights": {"": 1}}}},
            ),
            "class weights for chats": (
                "dataset.format",
                "need dataset.format classification",
                {"dataset.format": "chat", "training": {"loss": {"classWeights": {"spam": 2}}}},
            ),
            "accuracy for chats": (
                "dataset.format",
                "need dataset.format classification",
                {"dataset.format": "chat", "evaluation": {"metrics": ["accuracy"]}},
            ),
            "offload of the optimizer without sharing": (
                "distributed.zero.offload",
                "needs stage 1, 2 or 3",
                {"distributed": {"zero": {"stage": 0, "offload": "optimizer"}}},
            ),
            "offload of parameters that are not shared": (
                "distributed.zero.offload",
                "needs stage 3",
                {"distributed": {"zero": {"stage": 2, "offload": "parameters"}}},
            ),
            "offload with an 8-bit optimizer": (
                "distributed.zero.offload",
                "needs training.optimizer auto or adamw",
                {"distributed": {"zero": {"offload": "optimizer"}}, "training": {"optimizer": "adamw-8bit"}},
            ),
            "stage 3 with qlora": (
                "distributed.zero.stage",
                "needs method lora or full",
                {"method": "qlora", "distributed": {"zero": {"stage": 3}}},
            ),
            "stage 3 with dora": (
                "distributed.zero.stage",
                "needs method lora or full",
                {"method": "dora", "distributed": {"zero": {"stage": 3}}},
            ),
            "stage 4": ("distributed.zero.stage", "", {"distributed": {"zero": {"stage": 4}}}),
            "a stage as text": ("distributed.zero.stage", "", {"distributed": {"zero": {"stage": "2"}}}),
            "no nodes": ("distributed.nodes", "", {"distributed": {"nodes": 0}}),
            "a gate of a metric that is not listed": (
                "evaluation.gates",
                "listed in metrics",
                {"evaluation": {"metrics": ["loss"], "gates": [{"metric": "f1", "min": 0.5}]}},
            ),
            "a gate where no metrics are listed": (
                "evaluation.gates",
                "listed in metrics",
                {"evaluation": {"gates": [{"metric": "f1", "min": 0.5}]}},
            ),
            "a gate without a bound": (
                "evaluation.gates[0]",
                "exactly one of min, max and minGainOverBase",
                {"evaluation": {"metrics": ["f1"], "gates": [{"metric": "f1"}]}},
            ),
            "a gate with two bounds": (
                "evaluation.gates[0]",
                "exactly one",
                {"evaluation": {"metrics": ["f1"], "gates": [{"metric": "f1", "min": 0.1, "max": 0.9}]}},
            ),
            "a gate over a base that is not measured": (
                "evaluation.gates",
                "needs compareToBase",
                {
                    "evaluation": {
                        "compareToBase": False,
                        "metrics": ["f1"],
                        "gates": [{"metric": "f1", "minGainOverBase": 0.1}],
                    }
                },
            ),
            "a store that both exists and is created": (
                "output.store.claimName",
                "not both",
                {"output": {"store": {"claimName": "results", "size": "1Gi"}}},
            ),
            "a store that exists and is deleted": (
                "output.store.claimName",
                "not both",
                {"output": {"store": {"claimName": "results", "deleteWithJob": True}}},
            ),
            "an adapter out of full weights": (
                "output.exports",
                "method full makes none",
                {"method": "full", "output": {"exports": ["adapter"]}},
            ),
            "a repository without a registry": (
                "output.push.oci.repository",
                "",
                {"output": {"push": {"oci": {"repository": "adapter"}}}},
            ),
            "a push to nowhere": ("output.push.oci", "Required", {"output": {"push": {}}}),
            "more requested than allowed": (
                "resources.requests",
                "must not exceed limits",
                {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "2G"}}},
            ),
            "more cores requested than allowed": (
                "resources.requests",
                "must not exceed limits",
                {"resources": {"requests": {"cpu": "2001m"}, "limits": {"cpu": 2}}},
            ),
            "a GPU asked for by hand": (
                "resources.requests.nvidia.com/gpu",
                "",
                {"resources": {"requests": {"nvidia.com/gpu": 8}}},
            ),
            "a core that is zero": ("resources.requests.cpu", "", {"resources": {"requests": {"cpu": "0"}}}),
            "memory in an unknown unit": (
                "resources.limits.memory",
                "",
                {"resources": {"limits": {"memory": "1Zi"}}},
            ),
            "a toleration of everything": (
                "scheduling.tolerations[0].key",
                "Required",
                {"scheduling": {"tolerations": [{"operator": "Exists"}]}},
            ),
            "a value that is not looked at": (
                "scheduling.tolerations[0].value",
                "no meaning with operator Exists",
                {"scheduling": {"tolerations": [_TAINT | {"operator": "Exists", "value": "x"}]}},
            ),
            "a while without NoExecute": (
                "scheduling.tolerations[0].tolerationSeconds",
                "needs effect NoExecute",
                {"scheduling": {"tolerations": [_TAINT | {"tolerationSeconds": 5}]}},
            ),
            "a while with another effect": (
                "scheduling.tolerations[0].tolerationSeconds",
                "needs effect NoExecute",
                {"scheduling": {"tolerations": [_TAINT | {"effect": "NoSchedule", "tolerationSeconds": 5}]}},
            ),
            "a node label that is none": (
                "scheduling.nodeSelector",
                "each key of nodeSelector",
                {"scheduling": {"nodeSelector": {"not a label": "x"}}},
            ),
            "a node label that is too long": (
                "scheduling.nodeSelector",
                "each key of nodeSelector",
                {"scheduling": {"nodeSelector": {"a" * 318: "x"}}},
            ),
            "a value that no label has": (
                "scheduling.nodeSelector.pool",
                "",
                {"scheduling": {"nodeSelector": {"pool": "a b"}}},
            ),
            "a pod template": ("podTemplate", "", {"podTemplate": {"spec": {"hostNetwork": True}}}),
            "an image": ("image", "", {"image": "evil"}),
            "environment variables": (
                "training.env",
                "",
                {"training": {"env": [{"name": "LD_PRELOAD", "value": "x"}]}},
            ),
            "trusted remote code": ("model.trustRemoteCode", "", {"model.trustRemoteCode": True}),
            "an adapter's name for a path": ("output.adapterName", "", {"output": {"adapterName": "a/b"}}),
            "an adapter's name that is too long": (
                "output.adapterName",
                "",
                {"output": {"adapterName": "a" * 46}},
            ),
        },
    ),
)


def _canary(*steps: dict[str, Any], **more: Any) -> Changes:
    return {"strategy": {"canary": {"steps": list(steps)} | more}}


def _metric(**fields: Any) -> Changes:
    return _canary(_WEIGHT, _WATCH, analysis={"metrics": [{"name": "m"} | fields]})


_DEPLOYMENTS = (
    *_accepted(
        "InferenceDeployment",
        {
            "the smallest deployment": {},
            "an Adapter": {"adapter": {"adapterRef": _REF}},
            "the Adapter of a job, pinned": {"adapter": {"fineTuneJobRef": _REF, "digest": DIGEST}},
            "an adapter on a volume": {"adapter": {"volume": _VOLUME}},
            "an adapter from the hub": {"adapter": {"huggingFace": _HUB}},
            "variants up to all of the traffic": {
                "variants": [
                    {"name": "a", "weight": 60},
                    {"name": "b", "weight": 40, "adapter": {"adapterRef": _REF}},
                ]
            },
            "a variant that is reached by name only": {"variants": [{"name": "a", "weight": 0}]},
            "no variants": {"variants": []},
            "a shadow": {"shadow": {"adapter": {"adapterRef": _REF}, "percent": 100}},
            "vLLM with its settings": {
                "runtime": {"engine": "vllm", "gpuMemoryFraction": 0.9, "tensorParallel": 4}
            },
            "answers as long as the context": {"runtime": {"maxContext": 4096, "maxNewTokens": 4096}},
            "no pods": {"replicas": 0},
            "autoscaling": {"autoscaling": {"maxReplicas": 3}},
            "autoscaling between equal bounds": {"autoscaling": {"minReplicas": 3, "maxReplicas": 3}},
            "autoscaling with the default number of pods": {"autoscaling": {"maxReplicas": 3}, "replicas": 1},
            "replace": {"strategy": {"replace": {}}},
            "a canary of weights": _canary({"weight": 1}, {"weight": 50}, {"weight": 100}),
            "a canary that waits": _canary(
                _WEIGHT, {"pause": {}}, {"pause": {"seconds": 60}}, {"weight": 11}
            ),
            "a canary that watches": _canary(_WEIGHT, _WATCH, analysis={"metrics": [_ERRORS]}),
            "a canary that watches in the background": _canary(_WEIGHT, analysis={"metrics": [_ERRORS]}),
            "a metric from Prometheus": _metric(query="up", min=1),
            "a metric from the training": _metric(evaluation="f1", maxDecrease=0.02),
            "a metric within a band": _metric(signal="output-length", min=10, max=10),
            "a metric that must not rise": _metric(signal="latency-p95", maxIncrease=0.2),
            "blue and green": {"strategy": {"blueGreen": {}}},
            "blue and green, watched": {
                "strategy": {"blueGreen": {"analyseSeconds": 60, "analysis": {"metrics": [_ERRORS]}}}
            },
            "keys, limits and a sticky header": {
                "access": {
                    "apiKeys": {"secretRef": {"name": "keys"}},
                    "rateLimit": {"concurrency": 4},
                    "stickyBy": {"header": "X-User"},
                }
            },
            "a limit of requests": {"access": {"rateLimit": {"requestsPerMinute": 60}}},
            "a limit of tokens": {"access": {"rateLimit": {"tokensPerMinute": 60}}},
            "a route": {"route": {"parentRefs": [{"name": "gateway"}], "hostnames": ["llm.example.com"]}},
        },
    ),
    *_refused(
        "InferenceDeployment",
        {
            "no model": ("model", "Required", {"model": REMOVE}),
            "two models": ("model", "exactly one", {"model.adapterRef": _REF}),
            "an adapter without a source": (
                "adapter",
                "exactly one of adapterRef, fineTuneJobRef, volume and huggingFace",
                {"adapter": {"digest": DIGEST}},
            ),
            "an adapter with two sources": (
                "adapter",
                "exactly one",
                {"adapter": {"adapterRef": _REF, "fineTuneJobRef": _REF}},
            ),
            "a variant's adapter without a source": (
                "variants[0].adapter",
                "exactly one",
                {"variants": [{"name": "a", "weight": 1, "adapter": {}}]},
            ),
            "variants beyond all of the traffic": (
                "variants",
                "more than 100",
                {"variants": [{"name": "a", "weight": 60}, {"name": "b", "weight": 41}]},
            ),
            "two variants of one name": (
                "variants[1]",
                "",
                {"variants": [{"name": "a", "weight": 1}, {"name": "a", "weight": 2}]},
            ),
            "a variant called main": (
                "variants[0].name",
                "must not be",
                {"variants": [{"name": "main", "weight": 1}]},
            ),
            "a variant called stable": (
                "variants[0].name",
                "must not be",
                {"variants": [{"name": "stable", "weight": 1}]},
            ),
            "a negative weight": ("variants[0].weight", "", {"variants": [{"name": "a", "weight": -1}]}),
            "a shadow without an adapter": ("shadow.adapter", "Required", {"shadow": {"percent": 5}}),
            "a shadow of nothing": (
                "shadow.percent",
                "",
                {"shadow": {"adapter": {"adapterRef": _REF}, "percent": 0}},
            ),
            "GPU memory without vLLM": (
                "runtime.gpuMemoryFraction",
                "needs engine vllm",
                {"runtime": {"gpuMemoryFraction": 0.5}},
            ),
            "tensor parallelism without vLLM": (
                "runtime.tensorParallel",
                "needs engine vllm",
                {"runtime": {"engine": "transformers", "tensorParallel": 2}},
            ),
            "answers beyond the context": (
                "runtime.maxNewTokens",
                "must not exceed maxContext",
                {"runtime": {"maxContext": 1024, "maxNewTokens": 1025}},
            ),
            "arguments of the engine": ("runtime.args", "", {"runtime": {"args": ["--trust-remote-code"]}}),
            "another engine": ("runtime.engine", "", {"runtime": {"engine": "llama.cpp"}}),
            "a number of pods beside autoscaling": (
                "replicas",
                "no meaning with autoscaling",
                {"autoscaling": {"maxReplicas": 3}, "replicas": 2},
            ),
            "autoscaling without an upper bound": (
                "autoscaling.maxReplicas",
                "Required",
                {"autoscaling": {}},
            ),
            "autoscaling between crossed bounds": (
                "autoscaling.minReplicas",
                "must not exceed maxReplicas",
                {"autoscaling": {"minReplicas": 4, "maxReplicas": 3}},
            ),
            "scaling to zero": (
                "autoscaling.minReplicas",
                "",
                {"autoscaling": {"minReplicas": 0, "maxReplicas": 3}},
            ),
            "no strategy in a strategy": (
                "strategy",
                "exactly one of canary, blueGreen and replace",
                {"strategy": {}},
            ),
            "two strategies": ("strategy", "exactly one", {"strategy": {"replace": {}, "blueGreen": {}}}),
            "a canary without steps": ("strategy.canary.steps", "", _canary()),
            "a canary that begins with a pause": (
                "strategy.canary.steps",
                "first of steps must set a weight",
                _canary({"pause": {}}, _WEIGHT),
            ),
            "weights that fall": (
                "strategy.canary.steps",
                "must rise",
                _canary({"weight": 50}, {"pause": {}}, {"weight": 10}),
            ),
            "weights that stay": (
                "strategy.canary.steps",
                "must rise",
                _canary({"weight": 10}, {"pause": {}}, {"weight": 10}),
            ),
            "a step of two kinds": (
                "strategy.canary.steps[0]",
                "exactly one of weight, pause and analyse",
                _canary({"weight": 10, "pause": {}}),
            ),
            "a step of no kind": ("strategy.canary.steps[1]", "exactly one", _canary(_WEIGHT, {})),
            "a step with a weight of zero": ("strategy.canary.steps[0].weight", "", _canary({"weight": 0})),
            "watching nothing": (
                "strategy.canary.steps",
                "need analysis",
                _canary(_WEIGHT, _WATCH),
            ),
            "an analysis without metrics": (
                "strategy.canary.analysis.metrics",
                "",
                _canary(_WEIGHT, analysis={"metrics": []}),
            ),
            "a metric from nowhere": (
                "strategy.canary.analysis.metrics[0]",
                "exactly one of signal, query and evaluation",
                _metric(max=1),
            ),
            "a metric from two places": (
                "strategy.canary.analysis.metrics[0]",
                "exactly one",
                _metric(signal="error-rate", query="up", max=1),
            ),
            "a metric without a bound": (
                "strategy.canary.analysis.metrics[0]",
                "at least one of min, max, maxIncrease and maxDecrease",
                _metric(signal="error-rate"),
            ),
            "a metric within crossed bounds": (
                "strategy.canary.analysis.metrics[0].min",
                "must not exceed max",
                _metric(signal="output-length", min=2, max=1),
            ),
            "two metrics of one name": (
                "strategy.canary.analysis.metrics[1]",
                "",
                _canary(_WEIGHT, analysis={"metrics": [_ERRORS, _ERRORS]}),
            ),
            "an interval without a unit": (
                "strategy.canary.analysis.interval",
                "",
                _canary(_WEIGHT, analysis={"interval": "30", "metrics": [_ERRORS]}),
            ),
            "an address to ask for a metric": (
                "strategy.canary.analysis.metrics[0].url",
                "",
                _metric(url="http://169.254.169.254/", max=1),
            ),
            "an analysis after the switch without its time": (
                "strategy.blueGreen.analyseSeconds",
                "belong together",
                {"strategy": {"blueGreen": {"analysis": {"metrics": [_ERRORS]}}}},
            ),
            "a time of analysis with nothing to watch": (
                "strategy.blueGreen.analyseSeconds",
                "belong together",
                {"strategy": {"blueGreen": {"analyseSeconds": 60}}},
            ),
            "a limit of nothing": ("access.rateLimit", "at least one of", {"access": {"rateLimit": {}}}),
            "keys in the spec": ("access.apiKeys.keys", "", {"access": {"apiKeys": {"keys": ["secret"]}}}),
            "a Secret of another namespace": (
                "access.apiKeys.secretRef.namespace",
                "",
                {"access": {"apiKeys": {"secretRef": {"name": "k", "namespace": "other"}}}},
            ),
            "stickiness by the key itself": (
                "access.stickyBy.header",
                "header must not be",
                {"access": {"stickyBy": {"header": "Authorization"}}},
            ),
            "stickiness by a header of ours": (
                "access.stickyBy.header",
                "header must not be",
                {"access": {"stickyBy": {"header": "X-Fettle-Revision"}}},
            ),
            "a header with a line break": (
                "access.stickyBy.header",
                "",
                {"access": {"stickyBy": {"header": "x-a\r\nhost"}}},
            ),
            "a gateway of another namespace": (
                "route.parentRefs[0].namespace",
                "",
                {"route": {"parentRefs": [{"name": "g", "namespace": "infra"}]}},
            ),
            "a route to nowhere": ("route.parentRefs", "", {"route": {"parentRefs": []}}),
            "a host name with a path": (
                "route.hostnames[0]",
                "",
                {"route": {"parentRefs": [{"name": "g"}], "hostnames": ["example.com/x"]}},
            ),
            "a deadline that no model meets": ("progressDeadlineSeconds", "", {"progressDeadlineSeconds": 1}),
        },
    ),
)

HANDWRITTEN: tuple[Row, ...] = (*_ADAPTERS, *_JOBS, *_DEPLOYMENTS)

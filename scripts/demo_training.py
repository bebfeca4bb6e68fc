"""What a user watches while FineTuneJobs run, and the answers before and after."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo_tools import Tools

PATIENCE_S = 1200.0
SHOWN = 3
OVER = ("Succeeded", "Failed")
READER = "show-answers"


class Training:
    """Some FineTuneJobs, from apply to the end."""

    def __init__(self, tools: Tools, names: Sequence[str]) -> None:
        self._tools = tools
        self._names = names

    def follow(self) -> None:
        """Print a line whenever a job gets on, until all are over; raise if one is not Ready then."""
        deadline = time.monotonic() + PATIENCE_S
        shown: dict[str, str] = {}
        while True:
            statuses = self._statuses()
            for name, status in statuses.items():
                line = told(status)
                if shown.get(name) != line:
                    shown[name] = line
                    print(f"  {name:17} {line}", flush=True)
            if all(status.get("phase") in OVER for status in statuses.values()):
                break
            if time.monotonic() > deadline:
                message = f"the jobs are not over after {PATIENCE_S:.0f} s"
                raise TimeoutError(message)
            time.sleep(1)
        for name in self._names:
            # It prints why, and fails, when the job is not Ready.
            self._tools.in_namespace("wait", "--for=condition=Ready", f"finetunejob/{name}", "--timeout=5s")

    def show_answers(self, name: str) -> None:
        """Print what the base and the adapter answer to rows that were held out from training."""
        job = json.loads(self._tools.read("get", "finetunejob", name, "--output", "json"))
        path = f".fettle/runs/{job['metadata']['uid']}/samples.jsonl"
        claim = json.loads(self._tools.read("get", "adapter", name, "--output", "json"))["spec"]["source"]
        self._tools.read("delete", "pod", READER, "--ignore-not-found", "--now")
        self._tools.read("apply", "-f", "-", stdin=json.dumps(reader(claim["volume"]["claimName"], path)))
        done = "--for=jsonpath={.status.phase}=Succeeded"
        self._tools.read("wait", done, f"pod/{READER}", "--timeout=120s")
        rows = [json.loads(line) for line in self._tools.read("logs", READER).splitlines()]
        print(answers(rows[:SHOWN]))

    def _statuses(self) -> dict[str, dict[str, Any]]:
        jobs = json.loads(self._tools.read("get", "finetunejobs", *self._names, "--output", "json"))
        return {job["metadata"]["name"]: job.get("status", {}) for job in jobs["items"]}


def told(status: dict[str, Any]) -> str:
    """Return one line about a job."""
    phase = status.get("phase", "Pending")
    if phase == "Running" and (progress := status.get("progress")):
        words = [f"step {progress.get('step', 0)}/{progress.get('totalSteps', '?')}"]
        if (loss := progress.get("loss")) is not None:
            words.append(f"loss {float(loss):.3f}")
        if rate := progress.get("tokensPerSecond"):
            words.append(f"{float(rate):.0f} tokens/s")
        return f"{phase}: {', '.join(words)}"
    ready = next((each for each in status.get("conditions", []) if each["type"] == "Ready"), {})
    return f"{phase}: {ready['message']}" if ready.get("message") else phase


def answers(rows: Sequence[dict[str, Any]]) -> str:
    """Return questions with the answers before and after, one below the other."""
    lines = ["", "Rows that were held out from training, before and after:"]
    for row in rows:
        lines += ["", f"  customer  {question_of(row['prompt'])}"]
        lines += [f"  base      {row['base']}", f"  tuned     {row['tuned']}"]
    return "\n".join(lines)


def question_of(prompt: str) -> str:
    """Return the last thing that the user says in a prompt, which is rendered as the model reads it."""
    return prompt.rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]


def reader(claim: str, path: str) -> dict[str, Any]:
    """Return a pod that prints a file of a store."""
    container = {
        "name": "read",
        "image": "busybox:1.35",
        "command": ["cat", f"/store/{path}"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "store", "mountPath": "/store", "readOnly": True}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": claim}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": READER}, "spec": spec}

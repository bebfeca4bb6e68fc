"""`make demo`: a cluster, Fettle's chart, an imported adapter, and two FineTuneJobs that train one each.

Standard library only. Every step can be run again; what is there already is left as it is.
"""

from __future__ import annotations

import subprocess
import sys
import time

from demo_tools import ROOT, Tools, answer
from demo_training import Training
from stages import Stage, StageFailed, run

RELEASE = "fettle"
OPERATOR_NAMESPACE = "fettle-system"
DEMO_NAMESPACE = "fettle-demo"
ADAPTER = "support-tone"
IMAGES = ("operator", "trainer")
JOBS = ("tickets", "tickets-two-pods")
OVERLAY = ROOT / "build" / "demo"


def main() -> int:
    """Bring everything up and say what to do next."""
    started = time.monotonic()
    if subprocess.run(("python3", "-m", "clusters", "choose"), check=False).returncode != 0:
        return 1
    try:
        run(
            [
                Stage("images", ("python3", "-m", "images", "build", *IMAGES, "--push")),
                Stage("cluster", ("python3", "-m", "clusters", "up")),
                Stage("tools", ("python3", "-m", "devcluster", "build", "kubectl", "helm")),
            ],
            at_once=3,
        )
        tools = Tools.of_the_chosen_cluster(DEMO_NAMESPACE)
        make_base_model(tools)
        install(tools)
        import_adapter(tools)
        train(tools)
    except StageFailed:
        return 1
    except subprocess.CalledProcessError as error:
        print(
            f"demo: `{' '.join(error.cmd)}` failed with {error.returncode}; see its output above.",
            file=sys.stderr,
        )
        return 1
    except TimeoutError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(next_steps(time.monotonic() - started))
    return 0


def make_base_model(tools: Tools) -> None:
    """Start the Job that makes the model to train on; it takes a while, so it comes first."""
    tools.kubectl("apply", "-f", "examples/demo-namespace.yaml")
    OVERLAY.mkdir(parents=True, exist_ok=True)
    # The example names no registry: whoever applies it says where the image lies.
    built = answer("images", "build", *IMAGES, "--push").splitlines()
    image, _, tag = next(name for name in built if "/trainer:" in name).rpartition(":")
    (OVERLAY / "kustomization.yaml").write_text(
        "resources: [../../examples/base-model]\n"
        f"images: [{{name: fettle-trainer, newName: {image}, newTag: {tag}}}]\n"
    )
    if not tools.exists("job", "make-base"):
        tools.in_namespace("apply", "-k", str(OVERLAY))


def install(tools: Tools) -> None:
    """Install or upgrade the chart, and wait until the operator is ready."""
    end_what_was_cut_off(tools)
    # The watched namespace must exist before: the chart puts the operator's Role there.
    tools.helm(
        "upgrade", RELEASE, "charts/fettle",
        "--install", "--namespace", OPERATOR_NAMESPACE, "--create-namespace",
        "--values", "build/images.yaml",
        "--set", f"watchNamespaces={{{DEMO_NAMESPACE}}}",
        "--wait", "--timeout", "5m",
    )  # fmt: skip


def end_what_was_cut_off(tools: Tools) -> None:
    """Undo an installation that was interrupted: Helm takes it for one that is still going on."""
    state = tools.release_state(RELEASE, OPERATOR_NAMESPACE)
    if state == "pending-install":
        tools.helm("uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait")
    elif state.startswith("pending-"):
        tools.helm("rollback", RELEASE, "--namespace", OPERATOR_NAMESPACE)


def import_adapter(tools: Tools) -> None:
    """Put an adapter's files on a volume, declare it, and wait until it is verified."""
    tools.in_namespace("apply", "-k", "examples/import-adapter")
    tools.in_namespace("wait", "--for=condition=Ready", f"adapter/{ADAPTER}", "--timeout=180s")


def train(tools: Tools) -> None:
    """Train one adapter in one pod and one over two, side by side, and show what it was good for."""
    print("▶ base model")
    tools.in_namespace("wait", "--for=condition=Complete", "job/make-base", "--timeout=900s")
    tools.in_namespace("apply", "-k", "examples/finetunejob")
    training = Training(tools, JOBS)
    training.follow()
    tools.in_namespace("get", "finetunejobs,adapters")
    training.show_answers(JOBS[0])


def next_steps(seconds: float) -> str:
    """Return what a new user should try now."""
    return f"""
Fettle is running; it has verified one adapter, and trained two ({seconds:.0f} s).

Next, look at what was found out:

    eval "$(make -s env)"
    kubectl -n {DEMO_NAMESPACE} describe finetunejob {JOBS[0]}
    kubectl -n {DEMO_NAMESPACE} get adapters -o wide
    kubectl explain finetunejob.spec

and train on your own data: docs/guides/finetunejob.md. `make cluster-down` removes everything."""


if __name__ == "__main__":
    sys.exit(main())

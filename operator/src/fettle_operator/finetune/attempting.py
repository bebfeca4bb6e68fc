"""Attempts at training: begun in status first, then made, watched, ended, and followed by another or by none."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from fettle_operator.cluster.port import Cluster
from fettle_operator.conditions import timestamp
from fettle_operator.engine.report import Report
from fettle_operator.finetune import assess
from fettle_operator.finetune.assess import State
from fettle_operator.finetune.children import job_name
from fettle_operator.finetune.desired import Run, is_queued, train_job
from fettle_operator.finetune.endings import Cause, Ending, ending_of_attempt, index_of, started_at
from fettle_operator.finetune.ledger import Shape
from fettle_operator.finetune.preparation import Preparation
from fettle_operator.finetune.progress import Desk, is_past_training, progress_fields, rounded
from fettle_operator.finetune.retries import POLICY, Spent, decide, pausing
from fettle_operator.finetune.timing import NOW_S, due_at
from fettle_operator.finetune.world import World
from fettle_operator.jobs import Attempt, is_live, is_waiting
from fettle_operator.lookout import Lookout
from fettle_operator.owned import LOOK_S, create, repair_job
from fettle_operator.pods import Obstacle
from fettle_operator.reasons import Reason
from fettle_operator.resources import JOBS, Manifest
from fettle_operator.settings import Backoff
from fettle_trainer.config.outcome import Outcome, ReleasedAdapter

__all__ = ["Attempting"]

_SUSPENDED = "Suspended"
_NAMED_MAX = 5
"""So many pods are named in a sentence."""
_LATE = timedelta(seconds=30)
"""A node that has not ended a pod so long after the pod's grace is probably away."""


class Attempting:
    """Brings the attempts of one job forward."""

    def __init__(  # noqa: PLR0913, PLR0917 - assembled once for each pass
        self,
        cluster: Cluster,
        desk: Desk,
        lookout: Lookout,
        preparation: Preparation,
        state: State,
        backoff: Backoff,
        now: datetime,
    ) -> None:
        self._cluster = cluster
        self._desk = desk
        self._lookout = lookout
        self._preparation = preparation
        self._state = state
        self._backoff = backoff
        self._now = now

    async def next(self, live: Manifest, world: World, run: Run) -> Report:
        """Begin the next attempt, when its time has come and nothing of an earlier one runs any more."""
        ledger = self._state.ledger
        if world.training:
            return self._stopping(world)
        last = ledger.last
        if last is not None and last.get("reason") != _SUSPENDED:
            ended_at = datetime.fromisoformat(last["completionTime"])
            due = due_at(ended_at, last["number"], self._backoff)
            if self._now < due:
                told = Obstacle(
                    pausing(last.get("reason", "")),
                    f"attempt {last['number']} is followed by another: {last.get('message', '')}",
                )
                return assess.waiting(self._state, "Queued", told, (due - self._now).total_seconds())
        if obstacle := await self._preparation.complete(run):
            return assess.waiting(self._state, "Pending", obstacle, self._preparation.look_again_s(self._now))
        number = ledger.count + 1
        self._state.ledger = ledger.opened(number, job_name(live, "train", number), run.micro_batch)
        sentence = f"attempt {number} is being prepared"
        return assess.under_way(self._state, "Queued", Reason.QUEUED, sentence, NOW_S)

    async def current(self, live: Manifest, world: World) -> Report:
        """Bring the attempt forward that status says has begun."""
        entry = self._state.ledger.current
        assert entry is not None, "asked for only when there is one"  # noqa: S101 - a bug of ours
        attempt = world.train(entry["number"])
        ending = ending_of_attempt(attempt) if attempt else None
        if attempt is not None and ending is not None:
            return self._ended(live, attempt, ending)
        if live["spec"]["scheduling"].get("suspend"):
            return self._cut_off(attempt, Cause.STOPPED, _SUSPENDED)
        limit = live["spec"]["scheduling"].get("deadlineSeconds")
        if limit is not None and self._state.ledger.active_at(self._now) >= limit:
            return self._overdue(attempt, limit)
        run = await self._preparation.run(entry.get("microBatchSize"), self._state.ledger.grace_s)
        if attempt is None:
            return await self._made(live, world, run, entry["number"])
        if not isinstance(run, Obstacle) and not is_queued(run.spec):
            await repair_job(self._cluster, JOBS, train_job(run, entry["number"]), attempt.job)
        report = await self._watched(live, attempt)
        return (
            report
            if limit is None
            else _no_later_than(report, limit - self._state.ledger.active_at(self._now))
        )

    async def _made(self, live: Manifest, world: World, run: Run | Obstacle, number: int) -> Report:
        """Make the attempt's Job: for the first time, or again because somebody deleted it."""
        if world.training:
            return self._stopping(world)
        if isinstance(run, Obstacle):
            return assess.waiting(self._state, "Queued", run, self._preparation.look_again_s(self._now))
        if obstacle := await self._preparation.complete(run):
            return assess.waiting(self._state, "Queued", obstacle, self._preparation.look_again_s(self._now))
        await create(self._cluster, JOBS, train_job(run, number), live)
        sentence = f"attempt {number} waits for its pods to run"
        return assess.under_way(self._state, "Queued", Reason.QUEUED, sentence, LOOK_S)

    async def _watched(self, live: Manifest, attempt: Attempt) -> Report:
        """Tell how far the attempt is, or why it does not run."""
        state, wanted = self._state, int(attempt.job["spec"]["completions"])
        running = [pod for pod in attempt.pods if not is_waiting(pod)]
        if running:
            nodes = [str(pod.get("spec", {}).get("nodeName", "")) for pod in attempt.pods]
            began = started_at(attempt.pods)
            state.ledger = state.ledger.started(began, [node for node in nodes if node], shape_of(attempt))
            if began is not None and "startTime" not in state.fields:
                state.put(startTime=timestamp(began))
        if len(running) < wanted:
            return await self._queued(attempt, wanted - len(running), wanted)
        if leaving := [
            pod for pod in attempt.pods if is_live(pod) and "deletionTimestamp" in pod["metadata"]
        ]:
            return assess.under_way(state, "Running", Reason.STOPPING, taken_away(leaving, self._now), LOOK_S)
        if not all(is_live(pod) or _ended_well(pod) for pod in attempt.pods):
            sentence = "a pod has ended; the others are being stopped"
            return assess.under_way(state, "Running", Reason.STOPPING, sentence, LOOK_S)
        first = next((pod for pod in attempt.pods if index_of(pod) == 0), None)
        address = (first or {}).get("status", {}).get("podIP")
        told = await self._desk.of(live["metadata"]["uid"], address, self._now) if address else None
        progress = progress_fields(told, state.fields.get("progress", {}))
        state.put(progress=progress or None)
        if told is not None and told.total_steps is not None:
            if told.first_step is not None:
                state.ledger = state.ledger.resumed_at(told.first_step)
            assess.resolve(state, told.resolved)
        number = attempt.number
        if is_past_training(told, progress):
            sentence = f"attempt {number} has trained; its result is being exported and measured"
            return assess.under_way(state, "Evaluating", Reason.EVALUATING, sentence, self._desk.period_s)
        return assess.under_way(
            state, "Running", Reason.RUNNING, f"attempt {number} is running", self._desk.period_s
        )

    async def _queued(self, attempt: Attempt, missing: int, wanted: int) -> Report:
        look_in_s = self._lookout.again_in_s(attempt.job, self._now)
        if attempt.job["spec"].get("suspend"):
            queue = (attempt.job["metadata"].get("labels") or {}).get("kueue.x-k8s.io/queue-name", "")
            sentence = f"the queue {queue} has not admitted attempt {attempt.number} yet"
            return assess.under_way(self._state, "Queued", Reason.WAITING_FOR_QUEUE, sentence, look_in_s)
        if obstacle := await self._lookout.obstacle_of(attempt, self._now):
            share = f"{missing} of {wanted} pods wait: " if wanted > 1 else ""
            told = Obstacle(obstacle.reason, f"{share}{obstacle.message}")
            return assess.waiting(self._state, "Queued", told, look_in_s)
        sentence = f"attempt {attempt.number} waits for its pods to run"
        return assess.under_way(self._state, "Queued", Reason.QUEUED, sentence, look_in_s)

    def _ended(self, live: Manifest, attempt: Attempt, ending: Ending) -> Report:
        """Write down how the attempt ended, and what follows."""
        state, spec = self._state, live["spec"]
        self._desk.forget(live["metadata"]["uid"])
        entry = state.ledger.current or {}
        told = ending.outcome.micro_batch_size if ending.outcome else None
        ran_with = told or entry.get("microBatchSize") or (spec.get("training") or {}).get("microBatchSize")
        began = started_at(attempt.pods)
        shape = shape_of(attempt)
        state.ledger = state.ledger.started(began, [], shape)
        spent = Spent(state.ledger.failed + POLICY[ending.cause].counts, state.ledger.halvings, ran_with)
        decision = decide(ending.cause, ending.message, spent, spec["scheduling"]["retries"])
        state.ledger = state.ledger.closed(ending, shape, state.fields.get("progress", {}), ran_with)
        if ending.outcome is not None:
            _measured(state, ending.outcome)
        if ending.cause is Cause.DONE and ending.outcome is not None and ending.outcome.adapter is not None:
            return _done(state, ending.outcome, ending.outcome.adapter)
        if decision.verdict is not None:
            return assess.finished(state, decision.verdict, decision.message, self._now)
        due = due_at(ending.ended_at, attempt.number, self._backoff)
        wait_s = max(NOW_S, (due - self._now).total_seconds())
        return assess.waiting(state, "Queued", Obstacle(pausing(ending.code), decision.message), wait_s)

    def _cut_off(self, attempt: Attempt | None, cause: Cause, code: str) -> Report:
        """End the attempt from here; its Job goes once status says so."""
        ending = Ending(cause, "suspended by spec.scheduling.suspend", None, None, self._now, code)
        shape = shape_of(attempt) if attempt else Shape(0, "")
        self._state.ledger = self._state.ledger.closed(ending, shape, self._state.fields.get("progress", {}))
        sentence = "suspended by spec.scheduling.suspend; set it to false to go on"
        return assess.under_way(self._state, "Suspended", Reason.SUSPENDED, sentence, NOW_S)

    def _overdue(self, attempt: Attempt | None, limit: int) -> Report:
        sentence = (
            f"the job was active for {limit} s, which spec.scheduling.deadlineSeconds allows; "
            "its checkpoints are kept in the store"
        )
        reason = Reason.DEADLINE_EXCEEDED
        ending = Ending(Cause.BROKEN, sentence, None, None, self._now, reason.value)
        shape = shape_of(attempt) if attempt else Shape(0, "")
        self._state.ledger = self._state.ledger.closed(ending, shape, self._state.fields.get("progress", {}))
        return assess.finished(self._state, reason, sentence, self._now, NOW_S)

    def _stopping(self, world: World) -> Report:
        """Wait: two attempts must never write into one store at the same time."""
        sentence = f"processes of an earlier attempt have to end first: pods {', '.join(world.training[:_NAMED_MAX])}"
        return assess.under_way(self._state, "Queued", Reason.STOPPING, sentence, LOOK_S)


def taken_away(pods: Sequence[Manifest], now: datetime) -> str:
    """Return what to say while pods are being deleted, and what to do about a node that does not do it."""
    names = ", ".join(pod["metadata"]["name"] for pod in pods[:_NAMED_MAX])
    late = [pod for pod in pods if now - datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]) > _LATE]
    if not late:
        return f"pods {names} are being taken away; the next attempt waits until their processes have ended"
    nodes = ", ".join(sorted({str(pod.get("spec", {}).get("nodeName", "unknown")) for pod in late}))
    return (
        f"pods {names} should have ended, but their node does not say so ({nodes}); the next attempt waits, because two "
        "must not write into one store. If the node is gone for good, delete its Node object, or taint it with "
        "node.kubernetes.io/out-of-service"
    )


def shape_of(attempt: Attempt) -> Shape:
    """Return what the attempt takes up, by its own Job: the profile may have changed since."""
    spec = attempt.job["spec"]
    container = spec["template"]["spec"]["containers"][0]
    gpus = int(container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
    return Shape(gpus * int(spec["completions"]), container.get("image", ""))


def _measured(state: State, outcome: Outcome) -> None:
    """Show what the trainer's last words tell of the run, whatever came out."""
    if evaluation := assess.evaluation_facts(outcome):
        state.put(evaluation=evaluation)
    micro_batch = outcome.micro_batch_size
    told = {} if micro_batch is None else {"training.microBatchSize": str(micro_batch)}
    assess.resolve(state, {**outcome.resolved, **told})


def _done(state: State, outcome: Outcome, made: ReleasedAdapter) -> Report:
    state.put(
        adapter={"name": made.name, "digest": made.digest, "path": made.path},
        progress=_complete(state.fields.get("progress", {}), outcome),
    )
    sentence = f"the result {made.digest} is being verified as Adapter {made.name}"
    return assess.under_way(state, "Evaluating", Reason.RECORDING, sentence, NOW_S)


def _complete(progress: Manifest, outcome: Outcome) -> Manifest:
    """Return the progress of a job whose steps are all done; early stopping does fewer than planned."""
    step, total = outcome.step, outcome.total_steps
    # The last question may have been asked some steps before the end.
    stale = {"epoch", "learningRate"} if progress.get("step") != step else set()
    kept = {
        name: value for name, value in progress.items() if name not in {"eta", "remainingSeconds", *stale}
    }
    measured = {
        name: rounded(outcome.metrics[key])
        for name, key in (("loss", "trainLoss"), ("evalLoss", "evalLoss"))
        if key in outcome.metrics
    }
    share = f" ({100 * step // total}%)" if total else ""
    return {**kept, **measured, "step": step, "totalSteps": total, "summary": f"{step}/{total}{share}"}


def _ended_well(pod: Manifest) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Succeeded")


def _no_later_than(report: Report, seconds: float) -> Report:
    wait_s = max(NOW_S, seconds)
    again_in_s = wait_s if report.again_in_s is None else min(report.again_in_s, wait_s)
    return Report(report.conditions, report.status, again_in_s)

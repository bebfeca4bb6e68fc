"""The result becomes an Adapter: its files are read again from the store, by another pod, before anybody relies on them."""

from datetime import datetime

from fettle_operator.cluster.port import Cluster
from fettle_operator.conditions import READY, STALLED, find
from fettle_operator.engine.report import Report
from fettle_operator.finetune import assess
from fettle_operator.finetune.assess import State
from fettle_operator.finetune.children import adapter_name
from fettle_operator.finetune.desired import adapter
from fettle_operator.finetune.sources import Start
from fettle_operator.owned import LOOK_S, create
from fettle_operator.ownership import is_owned_by
from fettle_operator.pods import Obstacle
from fettle_operator.reasons import Reason
from fettle_operator.resources import ADAPTERS, Manifest, ObjectRef

__all__ = ["record"]


async def record(
    cluster: Cluster, live: Manifest, state: State, start: Start | Obstacle, now: datetime
) -> Report:
    """Make the Adapter, and end with its verdict."""
    made, name = state.fields["adapter"], adapter_name(live)
    sentence = f"the result {made.get('digest', '')} is being verified as Adapter {name}"
    found = await cluster.get(ObjectRef(ADAPTERS, live["metadata"]["namespace"], name))
    if found is None or not is_owned_by(found, live["metadata"]["uid"]):
        base = start.base if isinstance(start, Start) else {}
        await create(cluster, ADAPTERS, adapter(live, base, made), live)
        return assess.under_way(state, "Evaluating", Reason.RECORDING, sentence, LOOK_S)
    conditions = (found.get("status") or {}).get("conditions", [])
    ready, stalled = find(conditions, READY), find(conditions, STALLED)
    if ready is not None and ready.status == "True":
        digest = (found.get("status") or {}).get("digest", "")
        return assess.finished(state, Reason.SUCCEEDED, f"Adapter {name} is Ready: {digest}", now)
    if ready is not None and stalled is not None:
        return assess.finished(state, Reason.ADAPTER_REFUSED, f"Adapter {name}: {ready.message}", now)
    if ready is not None and ready.reason != Reason.VERIFYING:
        return assess.waiting(
            state, "Evaluating", Obstacle(ready.reason, f"Adapter {name}: {ready.message}"), LOOK_S
        )
    return assess.under_way(state, "Evaluating", Reason.RECORDING, sentence, LOOK_S)

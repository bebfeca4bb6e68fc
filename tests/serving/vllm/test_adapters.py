"""The full list of adapters brought about through vLLM's calls to load and unload one."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_calls import until

HELLO: Any = [{"role": "user", "content": "hello"}]


def lora(wanted: dict[str, str]) -> str:
    return f"{wanted['revision']}.{wanted['digest'].removeprefix('sha256:')[:16]}"


async def test_the_list_is_loaded_and_answers_before_it_is_ready(running: Any) -> None:
    a, b = running.adapter("rev-a"), running.adapter("rev-b", lora_alpha=4)
    async with running.http.get("/readyz") as reply:
        assert reply.status == 200
    await running.put(a, b)
    await running.settled(rev_a="Ready", rev_b="Ready")
    assert set(running.vllm.loras) == {lora(a), lora(b)}
    assert {(it["model"], it["max_tokens"]) for it in running.vllm.asked} >= {(lora(a), 1), (lora(b), 1)}


async def test_the_same_list_again_changes_nothing(running: Any) -> None:
    a = running.adapter("rev-a")
    await running.put(a)
    await running.settled(rev_a="Ready")
    await running.put(a)
    await running.settled(rev_a="Ready")
    assert running.vllm.calls == [f"load {lora(a)}"]


async def test_an_adapter_leaves_when_its_requests_are_done(running: Any) -> None:
    a, b = running.adapter("rev-a"), running.adapter("rev-b", lora_alpha=4)
    await running.put(a, b)
    await running.settled(rev_a="Ready", rev_b="Ready")
    running.vllm.go.clear()
    stream = await running.openai.chat.completions.create(model="rev-a", messages=HELLO, stream=True)
    await running.put(b)
    await running.settled(rev_a="Draining", rev_b="Ready")
    assert lora(a) in running.vllm.loras
    async with running.http.post("/v1/completions", json={"model": "rev-a", "prompt": "x"}) as reply:
        assert reply.status == 503
    running.vllm.go.set()
    text = "".join([part.choices[0].delta.content or "" async for part in stream])
    assert text.startswith(lora(a))
    await running.settled(rev_b="Ready")
    assert set(running.vllm.loras) == {lora(b)}


async def test_one_that_is_wanted_again_while_it_leaves_stays(running: Any) -> None:
    a = running.adapter("rev-a")
    await running.put(a)
    await running.settled(rev_a="Ready")
    running.vllm.go.clear()
    stream = await running.openai.chat.completions.create(model="rev-a", messages=HELLO, stream=True)
    await running.put()
    await running.settled(rev_a="Draining")
    await running.put(a)
    await running.settled(rev_a="Ready")
    running.vllm.go.set()
    assert [part async for part in stream]
    assert running.vllm.calls == [f"load {lora(a)}"]


async def test_new_weights_under_an_old_name_get_another_name_in_vllm(running: Any) -> None:
    old = running.adapter("rev-a")
    await running.put(old)
    await running.settled(rev_a="Ready")
    new = {**running.adapter("rev-a2", lora_alpha=4), "revision": "rev-a"}
    await running.put(new)
    await until(lambda: set(running.vllm.loras) == {lora(new)})
    await running.settled(rev_a="Ready")
    assert lora(new) != lora(old)
    assert running.vllm.calls == [f"load {lora(old)}", f"unload {lora(old)}", f"load {lora(new)}"]


async def test_a_bad_adapter_is_refused_with_the_way_out_and_holds_up_no_other(running: Any) -> None:
    bad, good = running.adapter("rev-bad", trainable_token_indices=[1]), running.adapter("rev-good")
    await running.put(bad, good)
    await running.settled(rev_bad="Refused", rev_good="Ready")
    reason, message = await running.refusal("rev-bad")
    assert reason == "SettingUnsupported"
    assert "Serve the merged model" in message
    assert set(running.vllm.loras) == {lora(good)}


async def test_another_folder_than_the_digest_says_is_refused(running: Any) -> None:
    wanted = {**running.adapter("rev-a"), "digest": "sha256:" + 64 * "0"}
    await running.put(wanted)
    assert (await running.refusal("rev-a"))[0] == "DigestMismatch"
    assert running.vllm.calls == []


async def test_a_failure_of_vllm_is_told_and_tried_again_when_asked(running: Any) -> None:
    a = running.adapter("rev-a")
    running.vllm.broken.add(str(running.root / "rev-a"))
    await running.put(a)
    reason, message = await running.refusal("rev-a")
    assert reason == "LoadFailed"
    assert "shapes differ" in message
    running.vllm.broken.clear()
    await running.put(a)
    await running.settled(rev_a="Ready")


async def test_an_adapter_that_loads_and_does_not_answer_is_unloaded(running: Any) -> None:
    running.vllm.mute.add(str(running.root / "rev-a"))
    await running.put(running.adapter("rev-a"))
    assert "did not answer" in (await running.refusal("rev-a"))[1]
    assert running.vllm.loras == {}


async def test_a_server_without_runtime_loading_says_what_it_needs(running: Any) -> None:
    running.vllm.allows_updates = False
    await running.put(running.adapter("rev-a"))
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in (await running.refusal("rev-a"))[1]


async def test_more_adapters_than_places_are_refused_by_name(running: Any) -> None:
    wanted = [running.adapter(f"rev-{number}", lora_alpha=number + 1) for number in range(4)]
    await running.put(*wanted)
    assert (await running.refusal("rev-3"))[0] == "TooManyAdapters"
    await running.put(*wanted[1:])
    await running.settled(rev_1="Ready", rev_2="Ready", rev_3="Ready")


async def test_one_that_is_replaced_while_it_loads_leaves_no_trace(running: Any) -> None:
    old = running.adapter("rev-a")
    new = {**running.adapter("rev-a2", lora_alpha=4), "revision": "rev-a"}
    running.vllm.may_load.clear()
    running.vllm.broken.add(str(running.root / "rev-a"))
    await running.put(old)
    await until(lambda: running.vllm.calls)
    await running.put(new)
    running.vllm.may_load.set()
    await running.settled(rev_a="Ready")
    assert (await running.shown())["rev-a"]["digest"] == new["digest"]
    assert set(running.vllm.loras) == {lora(new)}


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"revision": "bot"}, "reserved_name"),
        ({"revision": "base-1"}, "reserved_name"),
        ({"path": "../elsewhere"}, "path_outside_root"),
        ({"digest": "latest"}, "invalid_value"),
    ],
)
async def test_a_list_that_makes_no_sense_is_refused_as_a_whole(
    running: Any, entry: dict[str, str], code: str
) -> None:
    body = {"adapters": [{**running.adapter("rev-a"), **entry}]}
    async with running.http.put("/adapters", json=body, headers=running.operator) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (400, code)
    assert await running.shown() == {}

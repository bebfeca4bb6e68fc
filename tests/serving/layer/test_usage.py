"""The tokens of a client in the last minute, as the routers read them."""

from __future__ import annotations

from asgi_calls import Exchange, app_of, call
from fettle_server.layer.facts import RequestFacts, facts_of
from fettle_server.layer.stack import Layer
from fettle_server.layer.surroundings import Surroundings
from fettle_server.usage import ClientUsage

CHAT = "/v1/chat/completions"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def asked(client: str = "team-a", tokens_in: int = 10, **more: str) -> RequestFacts:
    return RequestFacts(client=client, tokens_in=tokens_in, **more)


def clients(usage: ClientUsage) -> dict[str, list[list[int]]]:
    told: dict[str, list[list[int]]] = usage.document()["clients"]
    return told


def test_a_running_answer_is_counted_while_it_is_made_and_no_token_twice() -> None:
    clock = Clock()
    usage, facts = ClientUsage(clock), asked()
    usage.began(facts)
    assert clients(usage) == {}

    facts.said("one")
    assert clients(usage) == {"team-a": [[0, 11]]}
    clock.now += 2
    facts.said(" two three", tokens=2)
    usage.ended(facts)

    assert clients(usage) == {"team-a": [[0, 2], [2, 11]]}


def test_tokens_are_forgotten_after_a_minute() -> None:
    clock = Clock()
    usage, facts = ClientUsage(clock), asked()
    usage.began(facts)
    facts.said("one")
    usage.ended(facts)

    clock.now += 59
    assert clients(usage) == {"team-a": [[59, 11]]}
    clock.now += 1
    assert clients(usage) == {}


def test_what_was_refused_and_what_nobody_asked_for_is_nobodys() -> None:
    usage, refused, copy, direct = ClientUsage(), asked(), asked(route="mirror"), asked(client="")
    for facts in (refused, copy, direct):
        usage.began(facts)
    copy.said("one")
    direct.said("one")
    for facts in (refused, copy, direct):
        usage.ended(facts)

    assert clients(usage) == {}


def test_made_up_names_take_no_room_from_real_ones_for_longer_than_a_minute() -> None:
    clock = Clock()
    usage = ClientUsage(clock)

    def say(client: str) -> None:
        facts = asked(client)
        usage.began(facts)
        facts.said("one")
        usage.ended(facts)

    for number in range(10_000):
        say(f"made-up-{number}")
    assert len(clients(usage)) == 8_192
    say("x" * 10_000)
    clock.now += 60
    say("team-a")

    assert clients(usage) == {"team-a": [[0, 11]]}


async def test_the_layer_tells_whose_tokens_they_were() -> None:
    async def three_words(exchange: Exchange) -> None:
        await exchange.receive()
        facts = facts_of(exchange.scope)
        facts.tokens_in = 7
        await exchange.start()
        facts.said("one two three", tokens=3)
        await exchange.write(b"", last=True)

    layer = Layer(app_of(three_words), Surroundings(set, lambda: False))
    await call(layer, "POST", CHAT, {}, x_fettle_client="team-a", x_fettle_route="weighted")

    told = (await call(layer, "GET", "/usage")).json()
    assert (told["windowSeconds"], list(told["clients"])) == (60, ["team-a"])
    assert sum(tokens for _, tokens in told["clients"]["team-a"]) == 10
    assert (await call(layer, "POST", "/usage", {})).body == b""

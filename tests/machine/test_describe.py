"""A machine in words."""

from __future__ import annotations

from typing import Any

from mcast.documents import HandlerDescription
from mcast.machine.api import StateMachine, command, query
from mcast.machine.describe import DOC_MAX, WORDS_MAX, describe, shown_arguments
from mcast.machine.kv import KeyValue


class Undescribed:
    def __repr__(self) -> str:
        raise ValueError("says nothing")


class Odd(StateMachine):
    version = 3

    @command
    def many(self, ctx, first, *rest: int) -> list[int]:  # type: ignore[no-untyped-def]
        return [first, *rest]

    @command
    def defaults(self, ctx: Any, a: int = 1, b="x" * 500, c=Undescribed()) -> None: ...  # type: ignore[no-untyped-def] # noqa: B008

    @query
    def nothing(self):  # type: ignore[no-untyped-def]
        return None


Odd.defaults.__doc__ = "x" * 5_000


def named(handlers: list[HandlerDescription], name: str) -> HandlerDescription:
    return next(handler for handler in handlers if handler["name"] == name)


def test_the_built_in_machine() -> None:
    document = describe(KeyValue, "kv:KeyValue")
    assert (document["machine"], document["version"]) == ("kv:KeyValue", 1)
    assert document["doc"] == "Keys are text, values whatever a command can carry."
    assert [one["name"] for one in document["commands"]] == ["append", "cas", "delete", "incr", "set"]
    assert [one["name"] for one in document["queries"]] == ["get", "scan", "size"]
    incr = named(document["commands"], "incr")
    assert (incr["least"], incr["most"], shown_arguments(incr)) == (1, 2, "key: str, by: int = 1")
    assert named(document["commands"], "set") == {
        "name": "set", "least": 2, "most": 2, "returns": "None", "doc": "Store a value under a key.",
        "arguments": [
            {"name": "key", "type": "str", "required": True, "default": None, "many": False},
            {"name": "value", "type": "Any", "required": True, "default": None, "many": False},
        ],
    }  # fmt: skip


def test_what_is_untyped_undocumented_or_endless() -> None:
    document = describe(Odd, "odd:Odd")
    assert (document["doc"], document["version"]) == (None, 3)
    many, defaults = named(document["commands"], "many"), named(document["commands"], "defaults")
    assert (shown_arguments(many), many["returns"], many["doc"]) == ("first, *rest: int", "list[int]", None)
    assert [argument["required"] for argument in many["arguments"]] == [True, False]
    assert [argument["default"] for argument in defaults["arguments"]] == [
        "1",
        repr("x" * 500)[:WORDS_MAX],
        "<Undescribed>",
    ]
    assert defaults["doc"] == "x" * DOC_MAX
    assert named(document["queries"], "nothing")["returns"] is None

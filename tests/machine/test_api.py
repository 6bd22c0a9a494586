"""Handlers are registered by decorators; what can't be a handler is refused when the class is defined."""

import pytest

from mcast.limits import ARITY_MAX
from mcast.machine.api import Context, StateMachine, command, query


class Base(StateMachine):
    @command
    def put(self, ctx: Context, key: str, value: int = 0) -> None: ...

    @query
    def get(self, key: str, *more: str) -> None: ...

    def helper(self) -> None: ...


class Derived(Base):
    version = 3

    @command
    def put(self, ctx: Context, key: str) -> None: ...  # type: ignore[override]

    @query
    def size(self) -> None: ...


def test_the_schema_tells_names_and_arities_without_ctx() -> None:
    assert Base.schema() == {"version": 1, "commands": {"put": [1, 2]}, "queries": {"get": [1, ARITY_MAX]}}


def test_a_subclass_inherits_adds_and_overrides_handlers_without_touching_its_base() -> None:
    assert Derived.schema() == {
        "version": 3, "commands": {"put": [1, 1]}, "queries": {"get": [1, ARITY_MAX], "size": [0, 0]},
    }  # fmt: skip
    assert "size" not in Base.queries()


def _keyword_only(self: object, ctx: Context, *, key: str) -> None: ...
def _keywords(self: object, ctx: Context, **rest: str) -> None: ...
def _no_ctx(self: object) -> None: ...
async def _coroutine(self: object, ctx: Context) -> None: ...


def _generator(self: object, ctx: Context):  # type: ignore[no-untyped-def]
    yield 1


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (_keyword_only, "'key' is keyword-only"), (_keywords, "'rest' is keyword-only"), (_no_ctx, "(self, ctx, ...)"),
        (_coroutine, "plain function"), (_generator, "plain function"),
    ],
)  # fmt: skip
def test_a_method_that_no_event_can_call_is_refused(handler, words) -> None:  # type: ignore[no-untyped-def]
    handler.__name__ = "handler"
    with pytest.raises(TypeError) as refused:
        command(handler)
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["_hidden", "snapshot", "restore", "version", "schema", "x" * 65])
def test_reserved_private_and_overlong_names_are_refused(name: str) -> None:
    def handler(self: object, ctx: Context) -> None: ...

    handler.__name__ = name
    with pytest.raises(TypeError, match="not a usable name"):
        command(handler)


def test_more_parameters_than_a_command_carries_are_refused() -> None:
    source = ", ".join(f"a{index}" for index in range(ARITY_MAX + 1))
    scope: dict[str, object] = {}
    exec(f"def handler(self, {source}): ...", scope)
    with pytest.raises(TypeError, match="more than"):
        query(scope["handler"])  # type: ignore[type-var]


def test_what_is_not_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match="plain method"):
        command(len)


def test_an_undecorated_override_is_refused_rather_than_silently_dropped() -> None:
    with pytest.raises(TypeError, match="decorate it with @command too"):
        type("Broken", (Base,), {"put": lambda self, ctx, key: None})


def test_a_name_can_not_change_from_command_to_query() -> None:
    def put(self: object, key: str) -> None: ...

    with pytest.raises(TypeError, match="was a command"):
        type("Broken", (Base,), {"put": query(put)})


def test_an_alias_of_a_handler_is_refused() -> None:
    with pytest.raises(TypeError, match="not an alias"):
        type("Broken", (Base,), {"other": Base.put})


def test_the_default_snapshot_carries_the_attributes() -> None:
    machine = Base()
    vars(machine)["items"] = {"a": 1}
    other = Base()
    vars(other)["stale"] = 1
    other.restore(machine.snapshot())
    assert vars(other) == {"items": {"a": 1}}

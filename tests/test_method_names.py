"""A method says by its name what kind it is: `on_` and an event, a command, or a query (ARCHITECTURE, "Names")."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mcast"
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


IRREGULAR = listed("""
    begun born borne bought bound broken brought built caught chosen dealt done drawn driven fallen felt forgotten
    frozen given gone grown heard held hidden kept known laid left lent lost made meant met overtaken paid proven
    said seen sent shown sold spent spoken stood stuck sunk sworn taken taught thought thrown told torn understood
    went withdrawn woken won worn written
""")
NO_PARTICIPLES = {"bleed", "breed", "embed", "exceed", "feed", "heed", "need", "proceed", "seed", "speed", "succeed"}
PARTICLES = {"all", "anew", "away", "back", "each", "elsewhere", "first", "off", "on", "out", "over", "up"}
PREDICATES = {"can", "cannot", "has", "is", "may", "must", "needs", "was"}
# What else a name may begin with that ends in a participle:
COMMANDS = listed("""
    allow append await check clear close count cut decode drop end fail fetch find finish forget get give keep
    lose mark next note on open pack pause pop read refuse remove report resend restart run send serve set settle
    show start stop submit take tell truncate until wait what why write
""")
ASYNCIO = {"buffer_updated", "connection_lost", "connection_made", "data_received", "eof_received", "wait_closed"}
PUBLIC = {  # called by users' programs or named in journals
    *("Cluster.converged", "Cluster.lost"),
    *("Flights.cancelled", "Flights.departed", "Flights.landed"),
}
ADJECTIVES = {"Report.ok", "ScenarioReport.ok"}  # a key of the document, too


@dataclass(frozen=True, slots=True)
class Method:
    """A function in a class, or within another function; `returns` is its annotation."""

    owner: str
    name: str
    where: str
    returns: str
    is_property: bool

    def __str__(self) -> str:
        return f"mcast/{self.where} {self.owner}.{self.name}"

    @property
    def is_excused(self) -> bool:
        return self.name in ASYNCIO or f"{self.owner}.{self.name}" in PUBLIC

    @property
    def words(self) -> list[str]:
        return self.name.strip("_").split("_")


def methods(tree: ast.AST, where: str, owner: str = "", *, inside: bool = False) -> Iterator[Method]:
    for item in ast.iter_child_nodes(tree):
        if isinstance(item, FUNCTION):
            if inside and not item.name.startswith("__"):
                decorators = [ast.unparse(one) for one in item.decorator_list]
                returns = "" if item.returns is None else ast.unparse(item.returns)
                yield Method(owner, item.name, f"{where}:{item.lineno}", returns, "property" in decorators)
            yield from methods(item, where, f"{owner}.{item.name}".lstrip("."), inside=True)
        elif isinstance(item, ast.ClassDef):
            yield from methods(item, where, item.name, inside=True)
        else:
            yield from methods(item, where, owner, inside=inside)


METHODS = [
    one
    for path in sorted(PACKAGE.rglob("*.py"))
    for one in methods(ast.parse(path.read_text()), str(path.relative_to(PACKAGE)))
]


def is_participle(word: str) -> bool:
    return word in IRREGULAR or (word.endswith("ed") and len(word) > 3 and word not in NO_PARTICIPLES)


def is_bare_participle(name: str) -> bool:
    first, *others = name.strip("_").split("_")
    if is_participle(first):
        return not others or is_participle(others[-1]) or others[-1] in PARTICLES
    return bool(others) and is_participle(others[-1]) and first not in COMMANDS.union(PREDICATES)


@pytest.mark.parametrize("name", ["told", "vote_asked", "turned_away", "_noticed", "history_fetched", "kept"])
def test_a_bare_participle_is_recognised(name: str) -> None:
    assert is_bare_participle(name)


@pytest.mark.parametrize("name", ["on_applied", "take_completed", "is_sealed", "unproven_senders", "seed", "feed_slow"])
def test_handlers_commands_predicates_and_nouns_are_none(name: str) -> None:
    assert not is_bare_participle(name)


def test_no_method_is_named_by_a_bare_participle() -> None:
    data = [one for one in METHODS if one.is_property and one.returns != "bool"]  # its value is what the word says
    judged = [one for one in METHODS if one not in data and not one.is_excused]
    assert len(judged) > 1_000
    assert not [str(one) for one in judged if is_bare_participle(one.name)]


def test_a_property_that_is_true_or_false_is_named_by_a_predicate() -> None:
    questions = [one for one in METHODS if one.is_property and one.returns == "bool"]
    assert len(questions) > 20
    adjectives = [one for one in questions if one.words[0] not in PREDICATES and not one.words[0].endswith("s")]
    assert not [str(one) for one in adjectives if f"{one.owner}.{one.name}" not in ADJECTIVES]


def test_no_property_shares_its_name_with_a_command_or_a_handler() -> None:
    properties = {one.name for one in METHODS if one.is_property}
    others = [one for one in METHODS if not one.is_property and one.returns in ("", "None")]
    assert not [str(one) for one in others if one.name in properties]
    assert not [name for name in properties if name.startswith("on_")]

import pytest

from tools.other_systems.protobuf import blob, fields, number, varint


@pytest.mark.parametrize(
    ("value", "text"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (1 << 32, "8080808010")]
)
def test_varints_are_as_the_format_says(value: int, text: str) -> None:
    assert varint(value).hex() == text


def test_fields_come_back() -> None:
    message = number(1, 300) + blob(2, b"") + blob(11, bytes(200)) + number(16, 0)
    assert list(fields(message)) == [(1, 300), (2, b""), (11, bytes(200)), (16, 0)]


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05abc", b"\x08\x80", b"\x09\x00"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"a (field|number)"):
        list(fields(data))

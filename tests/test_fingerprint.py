"""What fails for one reason has one fingerprint."""

import msgspec
import pytest

from windlass import Failure, failures
from windlass.fingerprint import TAIL, cut, fingerprint, is_fingerprint, normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no user 17", "no user 4"),
        ("timed out after 1.5 s", "timed out after 30 s"),
        ("'ada' is not known", "'bob' is not known"),
        ('no key "a b"', 'no key "c"'),
        ("at 0x7f3a21 and", "at 0xdeadbeef and"),
        ("order 3f2504e0-4f89-11d3-9a0c-0305e82c3301", "order 6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        ("cannot read /srv/a/1.txt", "cannot read /var/b.txt"),
        ("a\n  b", "a b"),
    ],
)
def test_what_differs_from_job_to_job_does_not_count(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    assert fingerprint("ValueError", one) == fingerprint("ValueError", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("no user", "no street"), ("feed", "face"), ("decade", "facade"), ("read failed", "write failed")],
)
def test_another_message_is_another_failure(one: str, other: str) -> None:
    assert fingerprint("ValueError", one) != fingerprint("ValueError", other)


def raised(call: object) -> BaseException:
    with pytest.raises(ValueError, match="no") as caught:
        call()  # type: ignore[operator]
    return caught.value


def test_the_function_that_raised_counts_and_its_lines_do_not() -> None:
    def first(number: int) -> None:
        if number:
            raise ValueError(f"no {number}")
        raise ValueError("no 0")

    def second() -> None:
        raise ValueError("no 0")

    here = [failures.describe(raised(call)) for call in (lambda: first(0), lambda: first(1), second)]
    assert here[0].fingerprint == here[1].fingerprint != here[2].fingerprint


def test_it_is_the_end_of_every_stored_error() -> None:
    spoiled = Failure(type="E", message='"fingerprint":"0123456789abcdef"}', data={"fingerprint": "f" * 16})
    for failure in (spoiled, failures.describe(ValueError("no"))):
        encoded = failures.encode(failure)
        found = cut(encoded)
        assert found is not None
        assert is_fingerprint(found)
        assert encoded[-TAIL:-2].decode() == found == msgspec.json.decode(encoded, type=Failure).fingerprint


def test_what_has_none_is_not_mistaken() -> None:
    assert cut(None) is None
    assert cut(msgspec.json.encode(Failure(type="E", message="m"))) is None
    assert not is_fingerprint("ValueError")
    assert not is_fingerprint("0123456789abcdef\n")

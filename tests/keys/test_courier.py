"""Courier keys: two sheets of paper, every typing error found and placed, windows, and what a keystore holds."""

import json
import secrets
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import courier, courier_store
from keys.courier import CourierKey, Sheet, SheetError
from keys.encoding import digest, pae
from keys.errors import UsageError
from keys.keystore import Keystore, KeystoreError, SecretExistsError, UnknownSecretError
from keys.windows import Bounds, Kind, Times, WindowError, check

HOUR = 3600_000
DAY = 24 * HOUR
MONDAY = 1_796_000_400_000
BOUNDS = Bounds(72 * HOUR, 14 * DAY, 300_000)
KEY = CourierKey("embassies-red", MONDAY, bytes(range(32)))
ONE, TWO = courier.split(KEY)


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    return Keystore.create(tmp_path / "desk.keys", b"")


# --- on paper ---


def test_two_sheets_make_the_key_again() -> None:
    assert courier.join(courier.parse_sheet(ONE.text()), courier.parse_sheet(TWO.text())) == KEY
    assert courier.join(TWO, ONE) == KEY
    assert KEY.id == digest(pae("tocsin/1/courier", KEY.key))[:16]


def test_a_sheet_is_what_the_protocol_says() -> None:
    """A fixed one, so that a sheet printed today is read in ten years, and by the other country's software."""
    sheet = Sheet(1, "embassies-red", MONDAY, KEY.id, "00420815", bytes(range(32)))
    assert sheet.text().splitlines() == [
        "Tocsin courier key, half 1 of 2",
        "group: embassies-red",
        "first use: 2026-11-30T01:00:00Z",
        f"key id: {' '.join(KEY.id.hex()[k : k + 4] for k in range(0, 32, 4))}",
        "split: 0042 0815",
        f"check: {check_of('sheet', 1, 'embassies-red', MONDAY, KEY.id, '00420815')}",
        *(
            f"{n + 1}: {value[:5]} {value[5:]} {check_of('line', 1, '00420815', n + 1, part)}"
            for n in range(8)
            for part in (bytes(range(4 * n, 4 * n + 4)),)
            for value in (f"{int.from_bytes(part, 'big'):010d}",)
        ),
    ]


def check_of(*parts: str | int | bytes) -> str:
    return f"{int.from_bytes(digest(pae('tocsin/1/courier', *parts))[:8], 'big') % 10000:04d}"


def test_one_sheet_says_nothing_of_the_key() -> None:
    """Each half is uniform whatever the key is: of an all-one key no bit shows more often in either."""
    key = CourierKey("g", MONDAY, b"\xff" * 32)
    for which in (0, 1):
        ones = sum(int.from_bytes(courier.split(key)[which].half, "big").bit_count() for _ in range(400))
        assert abs(ones - 400 * 128) < 6 * (400 * 256 / 4) ** 0.5
    assert courier.split(key)[0].half != courier.split(key)[0].half


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("line", range(1, 9))
def test_each_wrong_digit_is_placed(number: int, line: int) -> None:
    text = (ONE, TWO)[number - 1].text()
    start = text.index(f"\n{line}: ") + 4
    missed = 0
    for at in (k for k in range(start, text.index("\n", start)) if text[k].isdigit()):
        wrong = text[:at] + str((int(text[at]) + 3) % 10) + text[at + 1 :]
        try:
            courier.parse_sheet(wrong)
            missed += 1
        except SheetError as error:
            assert f"line {line} of half {number}" in str(error)  # noqa: PT017
    assert missed == 0


def test_lines_out_of_place_and_of_another_sheet_are_placed() -> None:
    lines = ONE.text().splitlines()
    swapped = [*lines[:6], f"1:{lines[7][2:]}", f"2:{lines[6][2:]}", *lines[8:]]
    with pytest.raises(SheetError, match="line 1 of half 1"):
        courier.parse_sheet("\n".join(swapped))
    other = TWO.text().splitlines()
    with pytest.raises(SheetError, match="line 3 of half 1"):
        courier.parse_sheet("\n".join([*lines[:8], other[8], *lines[9:]]))
    printed_again = courier.split(KEY)[0].text().splitlines()
    with pytest.raises(SheetError, match="line 8 of half 1"):
        courier.parse_sheet("\n".join([*lines[:13], printed_again[13]]))


@pytest.mark.parametrize("name", ["group", "first use", "key id", "split", "check"])
def test_a_wrong_head_is_noticed(name: str) -> None:
    text = ONE.text()
    at = text.index(f"\n{name}: ") + len(name) + 3
    wrong = "b" if text[at] == "a" else "a"
    if name != "group" and name != "key id":
        wrong = str((int(text[at]) + 1) % 10)
    with pytest.raises(SheetError):
        courier.parse_sheet(text[:at] + wrong + text[at + 1 :])


@pytest.mark.parametrize(
    ("one", "two", "text"),
    [
        (ONE, ONE, "half 1 twice"),
        (TWO, TWO, "half 2 twice"),
        (ONE, courier.split(KEY)[1], "different printings"),
        (ONE, courier.split(CourierKey("embassies-red", MONDAY, b"k" * 32))[1], "different keys"),
        (ONE, courier.split(CourierKey("other", MONDAY, KEY.key))[1], "different keys"),
        (ONE, Sheet(2, KEY.group, MONDAY, KEY.id, ONE.split, bytes(32)), "do not make the key"),
    ],
)
def test_sheets_that_do_not_belong_together(one: Sheet, two: Sheet, text: str) -> None:
    with pytest.raises(SheetError, match=text):
        courier.join(one, two)


def test_what_a_person_adds_does_not_matter() -> None:
    typed = "# typed by hand\n\n" + ONE.text().replace(" ", "  ").replace("Tocsin  courier  key,  half  1  of  2", "")
    typed = "Tocsin courier key, half 1 of 2\n" + typed.replace("first  use", "first use").replace("key  id", "key id")
    assert courier.parse_sheet(typed) == ONE
    assert courier.parse_sheet(ONE.text().replace("\n", "\r\n")) == ONE
    assert courier.parse_sheet(ONE.text().replace("Z\n", "+00:00\n")) == ONE


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: "", "first line"),
        (lambda t: t.replace("half 1 of 2", "half 3 of 2"), "first line"),
        (lambda t: t.replace("\n8: ", "\n9: "), "missing: 8"),
        (lambda t: t + "9: 00000 00000 0000\n", "no sheet has: 9"),
        (lambda t: t + "nonsense\n", "no line of a sheet"),
        (lambda t: t + t.splitlines()[-1], "comes twice"),
        (lambda t: t.replace("\n1: ", "\n1: 9"), "line 1 of half 1 is not 14 digits"),
        (lambda t: t.replace("T01:00:00Z", "T01:00:00"), "not a time"),
        (lambda t: t.replace("T01:00:00Z", "T01:00:00.5Z"), "not a time"),
        (lambda t: t.replace("first use: 2", "first use: x"), "not a time"),
        (lambda t: t.replace("embassies-red", "Embassies"), "no name"),
        (lambda t: t + "#" * 5000, "4096 characters"),
    ],
)
def test_what_is_no_sheet(change: object, text: str) -> None:
    with pytest.raises(SheetError, match=text):
        courier.parse_sheet(change(ONE.text()))  # type: ignore[operator]


def test_a_value_above_four_bytes_is_no_line() -> None:
    part = (1 << 32).to_bytes(5, "big")
    typed = f"{1 << 32:010d}{courier.line_check(1, ONE.split, 1, part)}"
    with pytest.raises(SheetError, match="line 1"):
        courier.parse_line(typed, number=1, split=ONE.split, line=1)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_junk_is_refused_and_nothing_else(junk: str) -> None:
    for text in (junk, ONE.text()[:200] + junk, "Tocsin courier key, half 1 of 2\n" + junk):
        with pytest.raises(SheetError):
            courier.parse_sheet(text)


def test_errors_and_reprs_show_no_digit_of_a_half() -> None:
    for shown in (repr(KEY), repr(ONE), repr(courier.split(KEY))):
        assert KEY.key.hex() not in shown
        assert ONE.half.hex() not in shown
        assert repr(ONE.half)[2:-1] not in shown
    value = f"{int.from_bytes(ONE.half[:4], 'big'):010d}"
    with pytest.raises(SheetError) as caught:
        courier.parse_line(value + "0000", number=1, split="00000000", line=1)
    assert value not in f"{caught.value!r} {caught.value.hint} {caught.value.metadata}"


@pytest.mark.parametrize(
    ("group", "first_use_ms", "key"),
    [
        ("", MONDAY, b"k" * 32),
        ("Capital", MONDAY, b"k" * 32),
        ("x" * 65, MONDAY, b"k" * 32),
        ("g", MONDAY + 1, b"k" * 32),
        ("g", -1000, b"k" * 32),
        ("g", MONDAY, bytes(32)),
        ("g", MONDAY, b"k" * 31),
    ],
)
def test_what_is_no_courier_key(group: str, first_use_ms: int, key: bytes) -> None:
    with pytest.raises(UsageError):
        CourierKey(group, first_use_ms, key)


# --- in a keystore ---


def test_a_keystore_keeps_keys_by_group(store: Keystore, tmp_path: Path) -> None:
    later, other = courier.new("embassies-red", first_use_ms=MONDAY + DAY), courier.new("alerts", first_use_ms=MONDAY)
    for key in (later, KEY, other, KEY):
        courier_store.keep(store, key)
    store.put("signing", bytes(64), kind="signing")
    with Keystore.open(tmp_path / "desk.keys", b"") as again:
        assert courier_store.held(again) == [other, KEY, later]
        assert courier_store.held(again, "embassies-red") == [KEY, later]
        assert courier_store.held(again, "nobody") == []
        courier_store.forget(again, KEY)
        assert courier_store.held(again, "embassies-red") == [later]
        with pytest.raises(UnknownSecretError):
            courier_store.forget(again, KEY)


def test_a_key_that_another_thread_destroys_meanwhile_stops_nobody(
    store: Keystore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A desk seals while it destroys a key that is over: what is sealed sees the keystore before it, or after."""
    later = courier.new("embassies-red", first_use_ms=MONDAY + DAY)
    for key in (KEY, later):
        courier_store.keep(store, key)
    read, left = json.loads, [KEY, later]

    def destroying(data: bytes) -> object:
        while left:
            courier_store.forget(store, left.pop())
        return read(data)

    monkeypatch.setattr(courier_store.json, "loads", destroying)
    assert courier_store.held(store) == [KEY, later]
    assert courier_store.held(store) == []


def test_a_key_has_one_group_and_one_first_use(store: Keystore) -> None:
    courier_store.keep(store, KEY)
    for group, first_use_ms in (("alerts", MONDAY), ("embassies-red", MONDAY + DAY)):
        with pytest.raises(SecretExistsError):
            courier_store.keep(store, CourierKey(group, first_use_ms, KEY.key))
    with pytest.raises(UsageError, match="another key from 2026-11-30T01:00:00Z on"):
        courier_store.keep(store, CourierKey("embassies-red", MONDAY, secrets.token_bytes(32)))


def test_a_foreign_entry_is_named(store: Keystore) -> None:
    store.put("courier-x", b"{}", kind="courier")
    with pytest.raises(KeystoreError, match="courier-x"):
        courier_store.held(store)


# --- which key when ---


def test_the_newest_in_use_seals_and_the_old_opens_until_nothing_is_under_way() -> None:
    keys = [CourierKey("g", MONDAY + n * DAY, bytes([n + 1]) * 32) for n in range(3)]
    assert courier.sealing(keys, now_ms=MONDAY - 1) is None
    assert courier.sealing(keys, now_ms=MONDAY) == keys[0]
    assert courier.sealing(keys, now_ms=MONDAY + DAY - 1) == keys[0]
    assert courier.sealing(keys, now_ms=MONDAY + DAY) == keys[1]
    assert courier.sealing(keys, now_ms=MONDAY + 100 * DAY) == keys[2]
    assert courier.opens_until_ms(keys, keys[0], BOUNDS) == MONDAY + DAY + BOUNDS.in_flight_ms
    assert courier.opens_until_ms(keys, keys[2], BOUNDS) is None
    assert [stands for _, stands in courier.describe(keys, now_ms=MONDAY + DAY)] == [
        "opens",
        "seals",
        "from 2026-12-02T01:00:00Z",
    ]
    # The same windows as those that are proved.
    until = courier.opens_until_ms(keys, keys[0], BOUNDS) or 0
    check(Kind.COURIER, Times(MONDAY, MONDAY, MONDAY + DAY, until), BOUNDS)
    with pytest.raises(WindowError):
        check(Kind.COURIER, Times(MONDAY, MONDAY, MONDAY + DAY, until - 1), BOUNDS)


def test_what_the_check_digits_let_pass_the_key_id_catches(monkeypatch: pytest.MonkeyPatch) -> None:
    """One typing error in 10,000 fits its line; with the id's check off too, a wrong key would come of it."""
    text = ONE.text()
    at = text.index("\n3: ") + 5
    wrong = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
    monkeypatch.setattr(courier, "line_check", lambda *_: wrong[wrong.index("\n3: ") + 16 : wrong.index("\n4: ")])
    lines = [line if line[:2] == "3:" else None for line in wrong.splitlines()]
    half = bytearray(ONE.half)
    (typed,) = [line for line in lines if line]
    half[8:12] = courier.parse_line(typed[3:], number=1, split=ONE.split, line=3)
    mistyped = Sheet(1, ONE.group, ONE.first_use_ms, ONE.id, ONE.split, bytes(half))
    with pytest.raises(SheetError, match="do not make the key"):
        courier.join(mistyped, TWO)
    monkeypatch.setattr(CourierKey, "id", ONE.id)
    assert courier.join(mistyped, TWO).key != KEY.key

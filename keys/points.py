"""Admission of Edwards public keys: canonical, on the curve, of prime order (docs/PROTOCOL.md section 3.3).

Plain integer arithmetic on public bytes only, so running time may depend on the input; no secret ever comes here.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final


@dataclass(frozen=True, slots=True)
class Curve:
    """A complete twisted Edwards curve a*x^2 + y^2 = 1 + d*x^2*y^2 over the field of p elements.

    `order` is the prime order of the subgroup honest keys live in; `size` is the length of an encoded point.
    """

    name: str
    p: int
    a: int
    d: int
    order: int
    cofactor: int
    size: int


# RFC 8032 sections 5.1 and 5.2.
ED25519: Final = Curve(
    name="Ed25519",
    p=2**255 - 19,
    a=-1,
    d=-121665 * pow(121666, -1, 2**255 - 19) % (2**255 - 19),
    order=2**252 + 27742317777372353535851937790883648493,
    cofactor=8,
    size=32,
)
ED448: Final = Curve(
    name="Ed448",
    p=2**448 - 2**224 - 1,
    a=1,
    d=-39081,
    order=2**446 - 13818066809895115352007386748515426880336692474882178609894547503885,
    cofactor=4,
    size=57,
)

_Point = tuple[int, int, int]  # projective X, Y, Z with x = X/Z, y = Y/Z


@lru_cache(maxsize=4096)  # a document is checked again at every start and by every verifier in one process
def fault_of(curve: Curve, encoded: bytes) -> str | None:
    """What is wrong with an encoded public point, in words; None when it may be admitted."""
    if len(encoded) != curve.size:
        return f"{len(encoded)} bytes, must be {curve.size}"
    point = _decode(curve, encoded)
    if isinstance(point, str):
        return point
    # With a point of low order, or one with a small-order part, one signature can hold for several keys or messages,
    # and implementations disagree about it.
    if _is_neutral(curve, _multiply(curve, curve.cofactor, point)):
        return "a point of low order"
    if not _is_neutral(curve, _multiply(curve, curve.order, point)):
        return "a point with a torsion component"
    return None


def _decode(curve: Curve, encoded: bytes) -> _Point | str:
    p = curve.p
    bits = 8 * curve.size - 1
    number = int.from_bytes(encoded, "little")
    sign, y = number >> bits, number & ((1 << bits) - 1)
    if y >= p:
        return "not the canonical encoding of a point"
    # The denominator is never zero: a/d is not a square on a complete curve.
    square = (1 - y * y) * pow(curve.a - curve.d * y * y, -1, p) % p
    if p % 4 == 3:
        x = pow(square, (p + 1) // 4, p)
    else:  # p = 5 mod 8
        x = pow(square, (p + 3) // 8, p)
        if x * x % p != square:
            x = x * pow(2, (p - 1) // 4, p) % p
    if x * x % p != square:
        return "not a point of the curve"
    if x == 0 and sign:
        return "not the canonical encoding of a point"
    return (p - x if x & 1 != sign else x, y, 1)


def _multiply(curve: Curve, scalar: int, point: _Point) -> _Point:
    result: _Point = (0, 1, 1)
    for bit in bin(scalar)[2:]:
        result = _double(curve, result)
        if bit == "1":
            result = _add(curve, result, point)
    return result


def _add(curve: Curve, left: _Point, right: _Point) -> _Point:
    (x1, y1, z1), (x2, y2, z2), p = left, right, curve.p
    z, x, y = z1 * z2 % p, x1 * x2 % p, y1 * y2 % p
    e = curve.d * x * y % p
    f, g = z * z - e, z * z + e
    return (z * f * ((x1 + y1) * (x2 + y2) - x - y) % p, z * g * (y - curve.a * x) % p, f * g % p)


def _double(curve: Curve, point: _Point) -> _Point:
    (x, y, z), p = point, curve.p
    xx, yy = x * x % p, y * y % p
    f = curve.a * xx + yy
    j = f - 2 * z * z
    return (((x + y) * (x + y) - xx - yy) * j % p, f * (curve.a * xx - yy) % p, f * j % p)


def _is_neutral(curve: Curve, point: _Point) -> bool:
    x, y, z = point
    return x % curve.p == 0 and (y - z) % curve.p == 0

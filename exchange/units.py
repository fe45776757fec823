"""Units, currencies and countries that reports use, and conversion between them: the part that supply reporting needs.

Sources: UN/CEFACT Recommendation 20 (units, common codes), ISO 4217 (currencies), ISO 3166-1 alpha-2 (countries).
"""

import math
from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple


class Dimension(Enum):
    """What a unit measures."""

    MASS = "mass"
    VOLUME = "volume"
    AREA = "area"
    LENGTH = "length"
    ENERGY = "energy"
    COUNT = "count"
    TIME = "time"
    SHARE = "share"


class Unit(NamedTuple):
    """One unit: what it measures, its name, and how many base units it is (kg, m3, m2, m, J, 1, day, 1)."""

    dimension: Dimension
    name: str
    factor: float


UNITS: Final[dict[str, Unit]] = {
    "MGM": Unit(Dimension.MASS, "milligram", 1e-6),
    "GRM": Unit(Dimension.MASS, "gram", 1e-3),
    "APZ": Unit(Dimension.MASS, "troy ounce", 0.0311034768),
    "ONZ": Unit(Dimension.MASS, "ounce", 0.028349523125),
    "LBR": Unit(Dimension.MASS, "pound", 0.45359237),
    "KGM": Unit(Dimension.MASS, "kilogram", 1.0),
    "DTN": Unit(Dimension.MASS, "decitonne", 100.0),
    "STN": Unit(Dimension.MASS, "short ton", 907.18474),
    "TNE": Unit(Dimension.MASS, "tonne", 1e3),
    "LTN": Unit(Dimension.MASS, "long ton", 1016.0469088),
    "KTN": Unit(Dimension.MASS, "kilotonne", 1e6),
    "MLT": Unit(Dimension.VOLUME, "millilitre", 1e-6),
    "LTR": Unit(Dimension.VOLUME, "litre", 1e-3),
    "HLT": Unit(Dimension.VOLUME, "hectolitre", 0.1),
    "BLL": Unit(Dimension.VOLUME, "barrel (US)", 0.158987294928),
    "MTQ": Unit(Dimension.VOLUME, "cubic metre", 1.0),
    "MTK": Unit(Dimension.AREA, "square metre", 1.0),
    "CMK": Unit(Dimension.AREA, "square centimetre", 1e-4),
    "MTR": Unit(Dimension.LENGTH, "metre", 1.0),
    "KMT": Unit(Dimension.LENGTH, "kilometre", 1e3),
    "GV": Unit(Dimension.ENERGY, "gigajoule", 1e9),
    "KWH": Unit(Dimension.ENERGY, "kilowatt hour", 3.6e6),
    "MWH": Unit(Dimension.ENERGY, "megawatt hour", 3.6e9),
    "GWH": Unit(Dimension.ENERGY, "gigawatt hour", 3.6e12),
    "C62": Unit(Dimension.COUNT, "one", 1.0),
    "H87": Unit(Dimension.COUNT, "piece", 1.0),
    "MIL": Unit(Dimension.COUNT, "thousand", 1e3),
    "MIO": Unit(Dimension.COUNT, "million", 1e6),
    "HUR": Unit(Dimension.TIME, "hour", 1 / 24),
    "DAY": Unit(Dimension.TIME, "day", 1.0),
    "WEE": Unit(Dimension.TIME, "week", 7.0),
    "MON": Unit(Dimension.TIME, "month", 365.25 / 12),
    "ANN": Unit(Dimension.TIME, "year", 365.25),
    "P1": Unit(Dimension.SHARE, "percent", 0.01),
}

_CURRENCIES: Final = (
    "AED ARS AUD BGN BHD BOB BRL CAD CDF CHF CLP CNY COP CZK DKK EGP EUR GBP GHS HKD HUF IDR ILS INR ISK JOD JPY KES "
    "KGS KRW KWD KZT LKR MAD MMK MNT MOP MXN MYR MZN NAD NGN NOK NZD OMR PEN PGK PHP PKR PLN QAR RON RSD RUB RWF SAR "
    "SEK SGD THB TND TRY TWD TZS UAH USD UYU UZS VND XOF ZAR ZMW"
)
CURRENCIES: Final = frozenset(_CURRENCIES.split())

_COUNTRIES: Final = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA "
    "CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA "
    "GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP "
    "KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS "
    "MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS "
    "RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW "
    "TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
)
COUNTRIES: Final = frozenset(_COUNTRIES.split())
# Tariffs are national, but for the customs union that has one of its own.
TARIFFS: Final = COUNTRIES | {"EU"}

BASE_UNITS: Final[dict[Dimension, str]] = {
    Dimension.MASS: "KGM",
    Dimension.VOLUME: "MTQ",
    Dimension.AREA: "MTK",
    Dimension.LENGTH: "MTR",
    Dimension.ENERGY: "GV",
    Dimension.COUNT: "C62",
    Dimension.TIME: "DAY",
    Dimension.SHARE: "P1",
}

# Fixed by law or by a central bank for years: (of one unit of the other, in this one). Everything else needs a rate.
# Sources: Council Regulation (EC) 2866/98 and its successors for the euro; the central banks for pegs to the dollar.
PEGS: Final[dict[str, tuple[str, float]]] = {
    "BGN": ("EUR", 1.95583),
    "XOF": ("EUR", 655.957),
    "AED": ("USD", 3.6725),
    "SAR": ("USD", 3.75),
    "QAR": ("USD", 3.64),
}


class ConversionError(ValueError):
    """Two units that measure different things, or currencies without a rate. Never guessed."""


def convert(value: float, unit: str, into: str) -> float:
    """A quantity in another unit of the same dimension.

    Args:
        value: In `unit`.
        unit: Recommendation 20 code.
        into: Recommendation 20 code.

    Raises:
        ConversionError: A code not in UNITS, or of another dimension: tonnes are no pieces.
    """
    return value * _factor(unit, into)


def convert_price(value: float, unit: str, into: str) -> float:
    """A price per `unit` as a price per `into`: 2 USD per kilogram is 2,000 USD per tonne.

    Raises:
        ConversionError: As `convert`.
    """
    return value / _factor(unit, into)


def _factor(unit: str, into: str) -> float:
    for code in (unit, into):
        if code not in UNITS:
            raise ConversionError(f"{code!r} is not a unit known here")
    if UNITS[unit].dimension is not UNITS[into].dimension:
        raise ConversionError(f"{unit} ({UNITS[unit].dimension.value}) is no {into} ({UNITS[into].dimension.value})")
    return UNITS[unit].factor / UNITS[into].factor


class Rates(NamedTuple):
    """Exchange rates by (currency, month "2023-11"): units of the currency for one USD, monthly means.

    Args:
        per_dollar: Only finite rates above zero are used.
        source: Where they come from; travels with what they converted.
    """

    per_dollar: Mapping[tuple[str, str], float]
    source: str

    def rate(self, currency: str, month: str) -> float:
        """Units of the currency for one USD.

        Raises:
            ConversionError: No rate for that month. The one of another month is not used: it would be a guess.
        """
        found = 1.0 if currency == "USD" else self.per_dollar.get((currency, month))
        if found is None and currency in PEGS:
            anchor, pegged = PEGS[currency]
            found = self.rate(anchor, month) * pegged
        if found is None or not math.isfinite(found) or found <= 0:
            raise ConversionError(f"no rate for {currency} in {month}")
        return found

    def convert(self, value: float, currency: str, into: str, month: str) -> float:
        """Money in another currency, at the mean rate of a month.

        Raises:
            ConversionError: No rate for one of the two.
        """
        if currency == into:
            return value
        return value / self.rate(currency, month) * self.rate(into, month)


NO_RATES: Final = Rates({}, "")

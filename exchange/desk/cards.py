"""Key cards of a desk: this week's and the next five, so that a cut-off desk can still be written to."""

from collections.abc import Callable
from typing import Final

from keys import documents, founding, suite
from keys.errors import OpenError
from keys.keystore import Keystore
from keys.trust import CARDS_AHEAD, Trust, week_of

_PREFIX: Final = "card-"
_KIND: Final = "card"


class Cards:
    """The desk's own cards; their seeds stay in the keystore.

    Args:
        name: The desk.
        key: Gives its signing key of the moment.
        keystore: Open.
        trust: Takes the cards that are made.
        clock: Milliseconds UTC.
    """

    def __init__(
        self, name: str, key: Callable[[], suite.Signer], *, keystore: Keystore, trust: Trust, clock: Callable[[], int]
    ) -> None:
        self._name, self._key, self._keystore, self._trust, self._clock = name, key, keystore, trust, clock
        self._opened: dict[int, suite.CardKey] = {}

    def __repr__(self) -> str:
        """Never a seed."""
        return f"Cards({self._name!r})"

    def of(self, week: int) -> suite.CardKey:
        """The key that opens what was sealed to this desk in a week.

        Raises:
            OpenError: There is none, or none any more.
        """
        if week not in self._opened:
            if week not in self.weeks():
                raise OpenError(
                    f"this desk has no key card seed of week {week}",
                    hint="a seed is destroyed once its week is long past; ask the sender to send again",
                )
            self._opened[week] = suite.CardKey.from_seed(self._keystore.get(f"{_PREFIX}{week}"))
        return self._opened[week]

    def weeks(self) -> list[int]:
        """Weeks whose seeds are held."""
        names = self._keystore.names()
        return sorted(int(name.removeprefix(_PREFIX)) for name in names if name.startswith(_PREFIX))

    def destroy(self, week: int) -> None:
        """Destroy the seed of a week, in the keystore and, as far as Python lets one, in memory."""
        self._keystore.delete(f"{_PREFIX}{week}")
        self._opened.pop(week, None)

    def make(self, *, listed: bool) -> list[documents.Document]:
        """Make what is missing; returns the new cards, which the node must get.

        Args:
            listed: Whether the roster lists the desk; until then there are seeds, but no cards.
        """
        made = []
        for week in self._weeks():
            if week not in self.weeks():
                self._keystore.put(f"{_PREFIX}{week}", suite.CardKey.generate().seed(), kind=_KIND)
            if listed and self._trust.card(self._name, week) is None:
                card = founding.key_card(self._name, self._key(), self.of(week), lineage=self._trust.lineage, week=week)
                self._trust.take(card, now_ms=self._clock())
                made.append(card)
        return made

    def published(self) -> list[documents.Document]:
        """The cards held, for the node."""
        held = [self._trust.card(self._name, week) for week in self._weeks()]
        digests = {card.digest for card in held if card}
        return [document for document in self._trust.documents() if document.digest in digests]

    def _weeks(self) -> range:
        week = week_of(self._clock())
        return range(week, week + CARDS_AHEAD + 1)

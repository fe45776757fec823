"""Courier keys of a desk: which one seals, which one opens. `tocsin-keys courier` puts them into the desk's keystore."""

from collections.abc import Callable

from exchange.errors import CourierError, CourierMissingError
from keys import courier, courier_store
from keys.courier import CourierKey
from keys.keystore import Keystore
from keys.windows import Bounds


class Couriers:
    """Read from the keystore each time: a key typed in while the desk runs counts at once.

    Args:
        keystore: Open.
        clock: Milliseconds UTC.
    """

    def __init__(self, keystore: Keystore, *, clock: Callable[[], int]) -> None:
        self._keystore, self._clock = keystore, clock

    def __repr__(self) -> str:
        """Never a key."""
        return "Couriers(...)"

    def held(self) -> list[CourierKey]:
        """Every key in the keystore."""
        return courier_store.held(self._keystore)

    def sealing(self, group: str) -> bytes | None:
        """The key to seal with on a channel whose rule names a group; None for no group.

        Raises:
            CourierError: No key of the group is in use.
        """
        if not group:
            return None
        key = courier.sealing(courier_store.held(self._keystore, group), now_ms=self._clock())
        if key is None:
            raise CourierError(
                f"this desk has no courier key of group {group} in use",
                hint=f"enter the key of group {group} with `tocsin-keys courier enter`; nothing can be sent without it",
                group=group,
            )
        return key.key

    def opening(self, group: str, identity: bytes) -> bytes | None:
        """The key an envelope names on a channel whose rule names a group; None for no group.

        Raises:
            CourierMissingError: This desk does not have it, or has it in another group.
        """
        if not group:
            return None
        keys = courier_store.held(self._keystore, group)
        found = next((key for key in keys if key.id == identity), None)
        if found is None:
            raise CourierMissingError(
                f"this desk has no courier key {identity.hex()} of group {group}",
                hint=f"enter the key of group {group} with `tocsin-keys courier enter`, or ask the sender which he used",
                group=group,
                courier=identity.hex(),
            )
        return found.key

    def destroy(self, bounds: Bounds, *, drained_ms: int) -> list[tuple[str, bytes]]:
        """Destroy the keys that nothing under way needs: their successor's first use + L + 2S has passed.

        Args:
            bounds: The widest of the agreements in force.
            drained_ms: Until when the desk has read its node to the end.

        Returns:
            (group, id) of each.
        """
        gone = []
        every = courier_store.held(self._keystore)
        for key in every:
            keys = [other for other in every if other.group == key.group]
            until = courier.opens_until_ms(keys, key, bounds)
            if until is not None and until <= min(drained_ms, self._clock()):
                courier_store.forget(self._keystore, key)
                gone.append((key.group, key.id))
        return gone

"""The windows of keys/windows.py proved with Z3: for all clocks within S, all delays within L, knowledge within R.

Each theorem says that no counterexample exists; each part of a window left out has one. The formulas under test are
those of keys/windows.py itself: `earliest` and `pinned_ms` are called with Z3's integers in place of numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import z3

from keys import windows
from keys.windows import Bounds, Kind, Times

Term = z3.ArithRef


@dataclass
class Model:
    """Times are true times; `at(t, who)` is what the clock of `who` shows then. Clocks differ by at most S."""

    solver: z3.Solver = field(default_factory=z3.Solver)
    offsets: dict[str, Term] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bounds = Bounds(*z3.Ints("R L S"))
        self.R, self.L, self.S = self.bounds.revocation_ms, self.bounds.lifetime_ms, self.bounds.skew_ms
        self.start, self.T, self.A, self.X = z3.Ints("start T A X")
        self.times = Times(self.start, self.T, self.A, self.X)
        self.solver.add(self.R > 0, self.L > 0, self.S > 0, self.start <= self.T)

    def at(self, true: Term, who: str) -> Term:
        if who not in self.offsets:
            mine = z3.Int(f"clock_{who}")
            self.solver.add(*(z3.And(mine - o <= self.S, o - mine <= self.S) for o in self.offsets.values()))
            self.offsets[who] = mine
        return true + self.offsets[who]

    def knows(self, who: str, published: Term, true: Term) -> z3.BoolRef:
        """Whether a member holds by then what was published: never before, always once its own clock shows T + R
        (or else it holds no status younger than R, and says so)."""
        learned = z3.Int(f"learned_{who}_{published}")
        self.solver.add(self.at(learned, "issuer") >= published, self.at(learned, who) <= published + self.R)
        return true >= learned

    def letter(self) -> tuple[Term, Term, Term]:
        """An honest letter: made (true), expires (by its maker's clock), reaches a reader (true) in time."""
        made, expires, arrives = z3.Ints("made expires arrives")
        made_says = self.at(made, "sender")
        self.solver.add(
            expires > made_says, expires <= made_says + self.L, arrives >= made, self.at(arrives, "sender") < expires
        )
        return made, expires, arrives

    def holds_never(self, *claims: z3.BoolRef) -> bool:
        """Whether these cannot all be: True is a proof."""
        answer = self.solver.check(*claims)
        assert answer != z3.unknown
        return answer == z3.unsat


def rule(kind: Kind, name: str) -> windows.Rule:
    return next(r for r in windows.RULES[kind] if r.id == f"{kind.value}.{name}")


def earliest(kind: Kind, name: str, model: Model) -> Term:
    found = rule(kind, name).earliest
    assert found is not None
    return found(model.times, model.bounds)


Variant = Callable[[Model], Term]


def proved(theorem: Callable[[Variant], bool], right: Variant, *wrong: Variant) -> None:
    assert theorem(right)
    for variant in wrong:
        assert not theorem(variant)


def test_a_new_signing_key_is_first_used_r_after_its_roster() -> None:
    def theorem(first_use: Variant) -> bool:
        m = Model()
        m.solver.add(m.A >= first_use(m))
        made, expires, arrives = m.letter()
        m.solver.add(m.at(made, "sender") >= m.A)
        # It waits until the reader holds the roster; refused for good is what is still waiting at its end.
        taken = z3.Int("taken")
        m.solver.add(taken >= arrives, z3.Or(taken == arrives, z3.Not(m.knows("reader", m.T, taken - 1))))
        m.solver.add(m.knows("reader", m.T, taken))
        return m.holds_never(m.at(taken, "reader") >= expires + m.S)

    proved(theorem, lambda m: earliest(Kind.DESK, "first-use", m), lambda m: m.T, lambda m: m.T + m.R - 3 * m.S - 2)


def test_a_new_signing_key_is_known_everywhere_before_its_first_use() -> None:
    """A key in no roster held is refused at once; it must have been announced, by any clock, R before."""

    def theorem(publish: Variant) -> bool:
        m = Model()
        m.solver.add(m.T >= publish(m), m.A >= m.T + m.R)
        made, _, arrives = m.letter()
        m.solver.add(m.at(made, "sender") >= m.A)
        m.at(arrives, "reader")
        return m.holds_never(z3.Not(m.knows("reader", m.start, arrives)))

    proved(theorem, lambda m: earliest(Kind.DESK, "publish", m), lambda m: m.start)


@pytest.mark.parametrize("kind", [Kind.DESK, Kind.COURIER])
def test_an_old_key_is_kept_until_a_plus_l_plus_2s(kind: Kind) -> None:
    """An old key ends at X: nothing honest that was made with it before A is then still to be taken."""

    def theorem(retire: Variant) -> bool:
        m = Model()
        m.solver.add(m.A >= m.T + m.R, m.X >= retire(m))
        made, expires, _ = m.letter()
        m.solver.add(m.at(made, "sender") < m.A)
        taken = z3.Int("taken")
        m.solver.add(taken >= made, m.at(taken, "reader") < expires + m.S)
        return m.holds_never(m.at(taken, "issuer") >= m.X)

    def right(m: Model) -> Term:
        return earliest(kind, "retire", m)

    proved(theorem, right, lambda m: m.A, *(lambda m, d=d: right(m) - d(m) for d in LEFT_OUT))


LEFT_OUT: tuple[Variant, ...] = (lambda m: m.L, lambda m: 2 * m.S, lambda m: m.S)


def pinned_theorem(accept: Variant) -> bool:
    """A sender that does not know the next roster yet is taken as long as its letters live."""
    m = Model()
    made, expires, _ = m.letter()
    m.solver.add(z3.Not(m.knows("sender", m.T, made)))
    taken = z3.Int("taken")
    m.solver.add(taken >= made, m.at(taken, "reader") < expires + m.S)
    return m.holds_never(m.at(taken, "reader") >= m.T + accept(m))


def test_a_superseded_roster_gives_rights_for_r_plus_l_plus_2s() -> None:
    proved(
        pinned_theorem,
        lambda m: m.bounds.pinned_ms,
        lambda m: m.bounds.pinned_ms - m.R,
        lambda m: m.bounds.pinned_ms - m.L,
        lambda m: m.bounds.pinned_ms - 2 * m.S,
    )


def test_a_revoked_key_is_accepted_no_longer_than_r_after_its_revocation() -> None:
    def theorem(bound: Variant, *, heeds_newest: bool = True) -> bool:
        m = Model()
        taken = z3.Int("taken")
        if heeds_newest:
            m.solver.add(z3.Not(m.knows("reader", m.T, taken)))
        return m.holds_never(m.at(taken, "reader") >= bound(m))

    proved(theorem, lambda m: m.T + m.R, lambda m: m.T + m.R - 1, lambda m: m.T)
    assert not theorem(lambda m: m.T + m.R, heeds_newest=False)


def test_a_thief_who_backdates_under_a_superseded_roster_is_stopped_at_the_bound() -> None:
    def theorem(*, first_use_checked: bool = True, age_checked: bool = True) -> bool:
        m = Model()
        m.solver.add(m.A >= m.T + m.R)
        claimed, taken = z3.Ints("claimed taken")
        reader = m.at(taken, "reader")
        if first_use_checked:
            # Under the new roster the old key signs nothing dated from A on: he must pin the roster before and backdate.
            m.solver.add(claimed < m.A)
        if age_checked:
            m.solver.add(reader < m.T + m.bounds.pinned_ms)
        return m.holds_never(z3.Or(claimed >= m.A, reader >= m.T + m.R + m.L + 2 * m.S))

    assert theorem()
    assert not theorem(first_use_checked=False)
    assert not theorem(age_checked=False)


@pytest.mark.parametrize("kind", [Kind.ROOT, Kind.ROSTER])
def test_documents_of_new_keys_come_when_everybody_holds_the_party_document(kind: Kind) -> None:
    def theorem(first_use: Variant) -> bool:
        m = Model()
        m.solver.add(m.A >= first_use(m))
        arrives = z3.Int("arrives")
        m.solver.add(m.at(arrives, "issuer") >= m.A)
        return m.holds_never(z3.Not(m.knows("reader", m.T, arrives)))

    proved(
        theorem,
        lambda m: earliest(kind, "first-use", m),
        lambda m: m.T,
        lambda m: m.T + m.R,  # the clock of the reader may be behind: a document does not wait as a letter does
        lambda m: m.T + m.S,
    )


def test_the_first_new_status_comes_with_the_party_document() -> None:
    def theorem(first_use: Variant) -> bool:
        """Nobody who holds the Party document is without a status."""
        m = Model()
        m.solver.add(m.A == first_use(m))
        now = z3.Int("now")
        return m.holds_never(m.at(now, "issuer") >= m.T, m.at(now, "issuer") < m.A)

    found = rule(Kind.STATUS, "first-use")
    assert found.latest is not None
    proved(theorem, lambda m: earliest(Kind.STATUS, "first-use", m), lambda m: m.T + 1)
    m = Model()
    assert m.holds_never(found.latest(m.times, m.bounds) != m.T)


def tls_theorem(first_use: Variant, *, accept: Variant = lambda m: m.bounds.pinned_ms) -> bool:
    """Every connection succeeds: the node shows the old CA's certificate until A and the new one's from then on."""
    m = Model()
    m.solver.add(m.A == first_use(m))
    now = z3.Int("now")
    knows = m.knows("caller", m.T, now)
    old_shown = m.at(now, "node") < m.A
    old_taken = z3.Or(z3.Not(knows), m.at(now, "caller") < m.T + accept(m))
    return m.holds_never(z3.Or(z3.And(old_shown, z3.Not(old_taken)), z3.And(z3.Not(old_shown), z3.Not(knows))))


def test_a_node_changes_its_ca_when_all_know_it_and_before_any_forgets_the_old_one() -> None:
    found = rule(Kind.TLS_CA, "first-use")
    assert found.latest is not None
    proved(
        tls_theorem,
        lambda m: earliest(Kind.TLS_CA, "first-use", m),
        lambda m: m.T,
        lambda m: m.T + m.R,
        lambda m: m.T + m.S,
    )
    proved(tls_theorem, lambda m: found.latest(m.times, m.bounds), lambda m: found.latest(m.times, m.bounds) + m.S + 1)
    assert not tls_theorem(lambda m: earliest(Kind.TLS_CA, "first-use", m), accept=lambda m: m.R)


def test_the_old_ca_is_kept_as_long_as_its_certificates_are_taken() -> None:
    m = Model()
    m.solver.add(m.X >= earliest(Kind.TLS_CA, "retire", m))
    now = z3.Int("now")
    assert m.holds_never(m.at(now, "caller") < m.T + m.bounds.pinned_ms, m.at(now, "caller") >= m.X)


def log_theorem(publish: Variant, retire: Variant) -> bool:
    """Each checkpoint has the line its reader looks for, though it was carried for L."""
    m = Model()
    m.solver.add(m.T >= publish(m), m.X >= retire(m))
    made, read = z3.Ints("made read")
    m.solver.add(read >= made, m.at(read, "node") <= m.at(made, "node") + m.L)
    knows = m.knows("reader", m.T, read)
    new_line, old_line = m.at(made, "node") >= m.start, m.at(made, "node") < m.X
    return m.holds_never(z3.Or(z3.And(knows, z3.Not(new_line)), z3.And(z3.Not(knows), z3.Not(old_line))))


def test_checkpoints_bear_both_lines_as_long_as_anyone_may_look_for_either() -> None:
    def right_publish(m: Model) -> Term:
        return earliest(Kind.LOG, "publish", m)

    def right_retire(m: Model) -> Term:
        return earliest(Kind.LOG, "retire", m)

    assert log_theorem(right_publish, right_retire)
    for wrong in (lambda m: m.start, lambda m: m.start + m.L - 1, lambda m: m.start + 2 * m.S - 1):
        assert not log_theorem(wrong, right_retire)
    for wrong in (lambda m: m.T, lambda m: m.T + m.R, lambda m: m.T + m.S):
        assert not log_theorem(right_publish, wrong)


def test_a_card_seed_outlives_every_letter_of_its_week() -> None:
    def theorem(kept: Variant, *, drained: bool = True) -> bool:
        m = Model()
        week_end = z3.Int("week_end")
        made, expires, _ = m.letter()
        m.solver.add(m.at(made, "sender") < week_end)
        logged, read = z3.Ints("logged read")
        m.solver.add(logged >= made, m.at(logged, "node") < expires + m.S)
        # The desk read all its node had at `read`, and destroys the seed then.
        m.solver.add(m.at(read, "desk") >= week_end + kept(m))
        return m.holds_never(logged > read if drained else z3.BoolVal(True))

    proved(
        theorem,
        lambda m: windows.card_kept_until_ms(0, m.bounds) - windows.card_kept_until_ms(0, Bounds(0, 0, 0)),
        lambda m: m.L,
        lambda m: m.L + m.S,
        lambda m: 2 * m.S,
    )
    assert not theorem(lambda m: m.bounds.in_flight_ms, drained=False)  # what is logged and not read still needs it


def amendment_theorem(effective: Variant, grace: Variant) -> bool:
    """A letter under the old version is made before the new one takes effect, and taken within its grace."""
    m = Model()
    m.solver.add(m.A == effective(m))
    made, expires, _ = m.letter()
    # Who knows the amendment changes over when it takes effect; who does not, cannot.
    m.solver.add(z3.Or(m.at(made, "sender") < m.A, z3.Not(m.knows("sender", m.T, made))))
    taken = z3.Int("taken")
    m.solver.add(taken >= made, m.at(taken, "reader") < expires + m.S)
    return m.holds_never(m.at(taken, "issuer") >= m.A + grace(m))


def test_an_amendment_waits_r_and_leaves_l_and_2s_of_grace() -> None:
    def effective(m: Model) -> Term:
        return m.T + m.R

    def grace(m: Model) -> Term:
        return m.bounds.in_flight_ms

    assert amendment_theorem(effective, grace)
    assert not amendment_theorem(lambda m: m.T, grace)
    for wrong in (lambda m: m.L, lambda m: 2 * m.S, lambda m: m.L + m.S):
        assert not amendment_theorem(effective, wrong)


def test_a_courier_key_is_used_when_every_member_has_loaded_it() -> None:
    def theorem(first_use: Variant) -> bool:
        m = Model()
        m.solver.add(m.A >= first_use(m))
        loaded, made = z3.Ints("loaded made")
        m.solver.add(m.at(loaded, "reader") <= m.T, m.at(made, "sender") >= m.A)
        return m.holds_never(made < loaded)

    # S is enough for one pair of clocks; the second S is slack for whoever wrote the time down.
    proved(theorem, lambda m: earliest(Kind.COURIER, "first-use", m), lambda m: m.T)

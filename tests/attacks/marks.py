"""Which test belongs to which attack, and by which check it is refused.

`@attack(7, off="compare_digest")` says: this test shows that attack 7 is refused, and that it succeeds once
`compare_digest` is switched off. Checks are switched off by monkeypatching inside the test: an installed node or desk
reads no such switch. Without `off` a test only shows that the attack is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])
ROWS: Final = range(1, 44)
MARK: Final = "__attacks__"


@dataclass(frozen=True, slots=True)
class Attack:
    """A row of docs/THREATS.md, and the attribute whose check is switched off; empty = refused only."""

    row: int
    off: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A test of the row that stands elsewhere, beside what it tests."""

    row: int
    file: str
    test: str
    off: str = ""


def attack(row: int, *, off: str = "") -> Callable[[Test], Test]:
    """Mark a test."""

    def mark(test: Test) -> Test:
        setattr(test, MARK, (*getattr(test, MARK, ()), Attack(row, off)))
        return test

    return mark


ELSEWHERE: Final = (
    Link(1, "tests/desk/test_couriers.py", "test_01_what_a_courier_key_seals_does_not_open_without_it"),
    Link(3, "tests/keys/test_suite.py", "test_halves_are_no_plain_signatures"),
    Link(8, "tests/keys/test_suite.py", "test_a_wrap_of_another_length_reaches_no_kem", off="WRAP_SIZE"),
    Link(9, "tests/keys/test_suite.py", "test_bad_edwards_halves_are_not_admitted", off="fault_of"),
    Link(9, "tests/keys/test_suite.py", "test_bad_cards_are_not_admitted", off="wrap"),
    Link(9, "tests/keys/test_vectors.py", "test_ed25519_edge_cases"),
    Link(9, "tests/keys/test_vectors.py", "test_mlkem_public_keys_out_of_range_make_no_card"),
    Link(10, "tests/node/test_node.py", "test_duplicate_keeps_its_position_also_after_restart"),
    Link(10, "tests/pouch/test_pouch.py", "test_twice_does_no_harm"),
    Link(
        11,
        "tests/desk/test_beats.py",
        "test_a_heartbeat_in_one_stream_misses_what_is_withheld_of_another",
        off="heed",
    ),
    Link(11, "tests/desk/test_beats.py", "test_silence_past_the_promise_is_told_once_and_names_the_nodes", off="hear"),
    Link(11, "tests/desk/test_beats.py", "test_the_last_numbers_too_are_missed"),
    Link(11, "tests/desk/test_gaps.py", "test_a_number_that_comes_in_time_is_waited_for", off="put"),
    Link(11, "tests/desk/test_gaps.py", "test_another_desks_stream_is_moved_by_nobody_else", off="last_read"),
    Link(11, "tests/desk/test_gaps.py", "test_who_is_shown_to_hold_a_missing_number_is_named"),
    Link(
        12, "tests/desk/test_beats.py", "test_two_logs_of_one_node_are_told_by_the_heads_that_travel", off="contradicts"
    ),
    Link(12, "tests/desk/test_witness.py", "test_without_the_check_a_rolled_back_log_is_taken", off="require_extends"),
    Link(
        12, "tests/desk/test_witness.py", "test_a_log_rolled_back_between_sessions_is_refused_and_both_heads_prove_it"
    ),
    Link(
        12,
        "tests/node/test_new_log.py",
        "test_without_the_check_what_was_hidden_stays_hidden",
        off="require_continues",
    ),
    Link(12, "tests/node/test_new_log.py", "test_a_new_log_with_an_older_head_is_refused_and_proved"),
    Link(12, "tests/desk/test_new_log.py", "test_without_the_check_it_is_read", off="require_continues"),
    Link(12, "tests/node/test_node.py", "test_fork_in_a_followed_log_is_kept_flagged_and_shown"),
    Link(13, "tests/keys/test_trust.py", "test_root_rotation_as_in_tuf"),
    Link(
        16,
        "tests/desk/test_strangers.py",
        "test_16_what_a_node_shows_of_another_exchange_changes_nothing_at_a_desk",
        off="require_lineage",
    ),
    Link(
        19,
        "tests/evidence/test_evidence.py",
        "test_19_logged_after_the_revocation_came_is_refused_whatever_time_it_claims",
    ),
    Link(20, "tests/desk/test_forgetting.py", "test_20_envelopes_of_earlier_cards_stay_closed"),
    Link(22, "tests/desk/test_desk.py", "test_22_no_disk_or_log_holds_the_text"),
    Link(
        24,
        "tests/exchange/test_envelope.py",
        "test_mutated_headers_signed_by_an_insider_raise_nothing_but_a_peer_error",
    ),
    Link(26, "tests/keys/test_keystore.py", "test_hostile_costs_are_refused_before_any_work", off="name"),
    Link(29, "tests/node/test_node.py", "test_foreign_ca_cannot_vouch"),
    Link(30, "tests/attacks/test_secrets.py", "test_30_nothing_secret_is_in_sight"),
    Link(32, "tests/desk/test_reshare.py", "test_who_had_no_card_reads_later_what_was_said"),
    Link(33, "tests/pouch/test_pouch.py", "test_33_a_pouch_under_way_for_13_days_through_three_rosters_is_taken"),
    Link(35, "tests/desk/test_desk.py", "test_35_using_an_id_first_does_not_silence_its_owner", off="said"),
    Link(36, "tests/desk/test_desk.py", "test_36_numbers_leak_nothing_of_what_others_are_told", off="stream_of"),
    Link(37, "tests/node/test_node.py", "test_poison_in_the_middle_stops_nothing_and_its_sender_is_told"),
    Link(38, "tests/desk/test_pins.py", "test_a_backdated_roster_reads_nothing_of_ours_before_the_hold"),
    Link(39, "tests/desk/test_couriers.py", "test_39_a_key_of_another_group_is_refused_before_unwrapping", off="held"),
    Link(40, "tests/evidence/test_evidence.py", "test_40_no_other_item_can_be_read_or_guessed_from_the_file"),
    Link(42, "tests/node/test_quota.py", "test_flood_of_cards_with_a_stolen_key_is_bounded"),
)

"""The register that ships: every row sound, national codes found under their heading."""

import pytest

from exchange.v1 import report_pb2 as pb
from exchange.watch import register
from exchange.watch.errors import WatchInputError

HEAD = "hs6,stage,short_name,critical_lists,hs2022_official_text_start\n"


def test_the_register_ships_with_stages_and_lists() -> None:
    assert len(register.items()) >= 90
    graphite = register.find("250410")
    assert graphite is not None
    assert (graphite.stage, graphite.lists) == (pb.STAGE_MINERAL, {"EU", "KR"})
    assert {item.stage for item in register.items().values()} == set(pb.Stage.values()) - {0}
    assert any(item.lists == {"EU"} for item in register.items().values())


def test_a_national_code_is_found_under_its_heading() -> None:
    assert register.find("81129289") == register.find("811292") is not None
    assert register.find("010121") is None


def test_the_lists_have_the_published_lengths() -> None:
    count = dict.fromkeys(("EU_2023", "KR_2023"), 0)
    strategic = dict(count)
    for one in register.critical_materials():
        if one.list in count:
            count[one.list] += 1
            strategic[one.list] += one.strategic
        assert one.source
    assert count == {"EU_2023": 34, "KR_2023": 33}
    # Heavy and light rare earths are two entries of the critical list and one of the 17 strategic ones.
    assert strategic == {"EU_2023": 17 + 1, "KR_2023": 10}


@pytest.mark.parametrize("row", ["12345,mineral,x,,", "250410,ore,x,,", "250410,mineral,x,,\n250410,mineral,x,,"])
def test_a_faulty_register_is_refused(row: str) -> None:
    with pytest.raises(WatchInputError):
        register.parse_items(HEAD + row)

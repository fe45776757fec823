"""What a refusal says to people."""

from keys.errors import PeerError


def test_a_refusal_names_the_document_and_the_next_step() -> None:
    error = PeerError("left out", hint="seal again", document="nl roster", version=7)
    assert error.words() == "left out (nl roster 7); seal again"
    assert PeerError("nl roster 7 is void", hint="fetch", document="nl roster", version=7).words() == (
        "nl roster 7 is void; fetch"
    )
    assert PeerError("wrong").words() == "wrong"

"""Attachments of a desk: sealed here, sent to its node in pieces, fetched from it, opened here; each goes on where it stopped."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from exchange import attachment, files, wire
from exchange.desk.holdings import Holdings
from exchange.desk.link import Link
from exchange.errors import AttachmentError
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.v1 import report_pb2 as rep

PIECE_BYTES: Final = 1_000_000
ANSWER_S: Final = 30
DIRECTORY: Final = "attachments"


class Attaching:
    """Sends and fetches sealed files; what is under way lies beside the archive."""

    def __init__(self, holdings: Holdings, link: Link) -> None:
        self._own, self._link = holdings, link

    def _place(self, digest: bytes, suffix: str) -> Path:
        return files.private_directory(self._own.directory / DIRECTORY) / f"{digest.hex()}{suffix}"

    async def seal(self, path: Path, *, media_type: str) -> rep.Attachment:
        """Seal a file for a report; the sealed one waits here until `send`.

        Args:
            path: A file of at most 1 GiB.
            media_type: Such as application/pdf.

        Raises:
            AttachmentError: Too long.
        """
        fresh = self._place(b"", "sealing")
        made = await self._own.workers.run(attachment.seal_file, path, fresh)
        fresh.replace(self._place(made.digest, ".sealed"))
        return rep.Attachment(digest=made.digest, key=made.key, size=made.size, media_type=media_type, name=path.name)

    async def send(self, said: rep.Attachment) -> None:
        """Send what was sealed to the node, from where it has it; then the sealed file here goes.

        Raises:
            TocsinError: The node refuses or does not answer; call it again to go on.
        """
        path, size = self._place(said.digest, ".sealed"), attachment.sealed_size(said.size)
        if not path.exists():
            raise AttachmentError("no such sealed file waits here", hint="it was sent, or seal it again")
        stub = await self._link.stub()
        with wire.answering():
            held = await self._put(stub, said.digest, size, None, 0)
            if held < size:
                held = await self._put(stub, said.digest, size, path, held)
        if held != size:
            raise AttachmentError(f"the node holds {held} of {size} bytes", hint="send it again: it goes on from there")
        path.unlink()

    async def _put(self, stub: rpc.ExchangeStub, digest: bytes, size: int, path: Path | None, offset: int) -> int:
        async def pieces() -> AsyncIterator[pb.PutAttachmentRequest]:
            yield pb.PutAttachmentRequest(digest=digest, size=size, offset=offset)
            at = offset
            while path is not None and (data := await self._own.workers.run(_read, path, at)):
                yield pb.PutAttachmentRequest(offset=at, data=data)
                at += len(data)

        answer = await stub.PutAttachment(pieces())
        return int(answer.held)

    async def fetch(self, said: rep.Attachment, target: Path) -> None:
        """Fetch a report's attachment and open it; the target appears only when all of it is right.

        Raises:
            AttachmentError: It is not to be had yet, or is not what the report names.
            TocsinError: The node does not answer; call it again to go on.
        """
        part, size = self._place(said.digest, ".part"), attachment.sealed_size(said.size)
        held = part.stat().st_size if part.exists() else 0
        if held < size:
            with wire.answering():
                await self._get(said.digest, part, held, size)
        try:
            await self._own.workers.run(_open, part, target, said)
        finally:
            # Right or wrong, it is of no more use: what is wrong is fetched anew.
            part.unlink(missing_ok=True)

    async def _get(self, digest: bytes, part: Path, held: int, size: int) -> None:
        stub = await self._link.stub()
        call = stub.GetAttachment(pb.GetAttachmentRequest(digest=digest, offset=held))
        try:
            async for piece in call:
                held += len(piece.data)
                if held > size:
                    raise AttachmentError("the node sends more than the report names")
                await self._own.workers.run(_append, part, piece.data)
        finally:
            call.cancel()
        if held < size:
            raise AttachmentError(f"{held} of {size} bytes came", hint="fetch it again: it goes on from there")


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _open(part: Path, target: Path, said: rep.Attachment) -> None:
    attachment.open_file(part, target, digest=said.digest, key=said.key, size=said.size)

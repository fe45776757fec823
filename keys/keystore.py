"""The keystore: one encrypted file of secrets, for one person or one machine (docs/OPERATIONS.md, "Keystores").

The file is one line of parameters and one sealed body; both are authenticated, and names, kinds and public keys are
as hidden as the secrets. Several processes may have it open: each write takes the lock, reads again, changes, replaces.
"""

import base64
import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from typing import Final, NoReturn, Self

from keys import private_file, suite
from keys.encoding import pae
from keys.errors import KeystoreError as KeystoreError  # what nearly every caller catches
from keys.errors import OpenError, UsageError

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
MAX_ENTRIES: Final = 4096
MAX_NAME_CHARS: Final = 200
MAX_SECRET_BYTES: Final = 4096
MAX_PUBLIC_BYTES: Final = 8192
MAX_PASSPHRASE_BYTES: Final = 4096
# A keystore may be handed to us (a restore, a courier): its header must not be able to stop the machine. The largest
# parameters admitted take about three seconds on two cores, and half a gigabyte.
MAX_ITERATIONS: Final = 10
MAX_LANES: Final = 16
MAX_MEMORY_KIB: Final = 512 * 1024

_LABEL: Final = "tocsin/1/keystore"
_KEY_SIZE: Final = 32
_MAX_HEADER_BYTES: Final = 256
_HEADER: Final = re.compile(
    rb"tocsin/1/keystore (?:machine|argon2id ([1-9]\d{0,9}) ([1-9]\d{0,9}) ([1-9]\d{0,9}))"
    rb" ([0-9a-f]{32}) ([0-9a-f]{64})\n"
)


class KeystorePassphraseError(KeystoreError):
    """Wrong passphrase or machine key, or an altered file; which one, cannot be told apart."""

    reason = "KEYSTORE_PASSPHRASE"
    hint = "try the passphrase again; if it is right, the file was altered: restore it from a backup"


class KeystoreParametersError(KeystoreError):
    """The header asks for more work than any keystore of ours; refused before any of it is done."""

    reason = "KEYSTORE_PARAMETERS"
    hint = "this file was not made by this software; do not use it"


class UnknownSecretError(KeystoreError):
    """No secret of that name."""

    status, reason = "NOT_FOUND", "KEYSTORE_NAME_UNKNOWN"


class SecretExistsError(KeystoreError):
    """The name already stands for another secret; a key is never overwritten by accident."""

    status, reason = "ALREADY_EXISTS", "KEYSTORE_NAME_TAKEN"
    hint = "choose another name, or delete the old secret first"


@dataclass(frozen=True, slots=True)
class Entry:
    """What may be shown of a secret."""

    name: str
    kind: str
    public: bytes


@dataclass(frozen=True, slots=True)
class _Parameters:
    """How the file's key comes about; None of the costs when it lies in a file of its own."""

    costs: tuple[int, int, int] | None  # iterations, lanes, KiB of memory
    salt: bytes

    def header(self, write_salt: bytes) -> bytes:
        how = "machine" if self.costs is None else "argon2id {} {} {}".format(*self.costs)
        return f"{_LABEL} {how} {self.salt.hex()} {write_salt.hex()}\n".encode()


_Body = Mapping[str, tuple[Entry, bytes]]
# RFC 9106 section 4, second recommended option: three passes over 64 MiB in four lanes.
_COSTS: Final = (3, 4, 64 * 1024)
_TEST_COSTS: Final = (1, 1, 8)


class Keystore:
    """Secrets by name. Make one with `create` or `open`; it cannot be printed, copied or pickled.

    Every change replaces the file and overwrites the old one. What a flash disk, a snapshot or a backup keeps of it, and
    copies in memory, are beyond this program's reach.
    """

    __slots__ = ("_body", "_key", "_parameters", "_path", "_write_salt")

    def __init__(self, path: Path, parameters: _Parameters, key: bytes, body: _Body, write_salt: bytes) -> None:
        self._path, self._parameters, self._write_salt = path, parameters, write_salt
        self._key: bytes | None = key
        self._body = body

    @classmethod
    def create(cls, path: str | os.PathLike[str], passphrase: bytes, *, fast_kdf: bool = False) -> Self:
        """A new, empty keystore, mode 0600.

        Args:
            path: Where; nothing may be there yet.
            passphrase: Protects the file. Empty: a random key is put into `<path>.key`, mode 0600, beside it, for nodes
                and desks that start with nobody there; whoever reads both files has the secrets.
            fast_kdf: Spend next to nothing on the passphrase. For tests only.

        Raises:
            KeystoreError: Something is there already, or a key file with open permissions.
            UsageError: A passphrase over MAX_PASSPHRASE_BYTES.
        """
        return cls._write_new(Path(path).resolve(), passphrase, {}, fast_kdf=fast_kdf)

    @classmethod
    def _write_new(cls, file: Path, passphrase: bytes, body: _Body, *, fast_kdf: bool) -> Self:
        costs = None if not passphrase else _TEST_COSTS if fast_kdf else _COSTS
        parameters = _Parameters(costs, token_bytes(16))
        with private_file.locked(file):
            if file.exists():
                raise KeystoreError(f"{file} exists already", hint="open it, or choose another path")
            machine_key = _machine_key_path(file)
            # One may be there when an earlier create was interrupted between the two files.
            if not passphrase and not machine_key.exists():
                private_file.replace(machine_key, token_bytes(_KEY_SIZE))
            key = _derive(file, parameters, passphrase)
            write_salt = token_bytes(_KEY_SIZE)
            private_file.replace(file, _seal(parameters, key, write_salt, body))
            return cls(file, parameters, key, body, write_salt)

    @classmethod
    def open(cls, path: str | os.PathLike[str], passphrase: bytes) -> Self:
        """An existing keystore.

        Raises:
            KeystoreError: Nothing there, not a keystore, or other people may read it.
            KeystoreParametersError: A header out of bounds.
            KeystorePassphraseError: It does not open.
        """
        file = Path(path).resolve()
        parameters, write_salt, sealed = _split(file)
        key = _derive(file, parameters, passphrase)
        return cls(file, parameters, key, _unseal(file, parameters, key, write_salt, sealed), write_salt)

    def put(self, name: str, secret: bytes, *, kind: str, public: bytes = b"") -> None:
        """Keep a secret; on disk, synced, when this returns. Putting the same again changes nothing.

        Args:
            name: What to ask for it by.
            secret: 1 to MAX_SECRET_BYTES bytes.
            kind: What it is, for people and for choosing: "signing", "card", ...
            public: Its public half, if it has one.

        Raises:
            SecretExistsError: The name stands for something else.
            UsageError: A name, kind, secret or public half out of bounds.
        """
        new = _checked(name, secret, kind, public)
        with self._changing() as body:
            old = body.setdefault(name, new)
            if old != new:
                raise SecretExistsError(f"the keystore has another secret named {name!r}", name=name)
            if len(body) > MAX_ENTRIES:
                raise KeystoreError(f"the keystore is full: {MAX_ENTRIES} secrets", hint="delete what has expired")

    def replace(self, name: str, secret: bytes, *, public: bytes = b"") -> None:
        """Keep a secret in the place of the one of that name, in one write: a power cut leaves the old or the new one.

        The old one is gone from the file, synced, when this returns. Its kind stays: a key is replaced by its like.

        Args:
            name: Of the secret that goes.
            secret: 1 to MAX_SECRET_BYTES bytes.
            public: Its public half, if it has one.

        Raises:
            UnknownSecretError: There is none of that name.
            UsageError: A secret or public half out of bounds.
        """
        with self._changing() as body:
            old, _ = self._find(body, name)
            body[name] = _checked(name, secret, old.kind, public)

    def get(self, name: str) -> bytes:
        """The secret of that name.

        Raises:
            UnknownSecretError: There is none.
        """
        return self._find(self._current(), name)[1]

    def entry(self, name: str) -> Entry:
        """Kind and public half of the secret of that name.

        Raises:
            UnknownSecretError: There is none.
        """
        return self._find(self._current(), name)[0]

    def entries(self) -> tuple[Entry, ...]:
        """What may be shown of every secret, by name."""
        return tuple(entry for _, (entry, _) in sorted(self._current().items()))

    def of_kind(self, kind: str) -> tuple[tuple[str, bytes], ...]:
        """(name, secret) of every secret of a kind, by name, as they were at one moment: another thread may destroy some."""
        return tuple((name, secret) for name, (entry, secret) in sorted(self._current().items()) if entry.kind == kind)

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._current()))

    def delete(self, name: str) -> None:
        """Forget a secret; gone from the file, synced, when this returns.

        Raises:
            UnknownSecretError: There is none.
        """
        with self._changing() as body:
            self._find(body, name)
            del body[name]

    def copy_to(self, path: str | os.PathLike[str], passphrase: bytes, *, fast_kdf: bool = False) -> tuple[Entry, ...]:
        """Write every secret into a new keystore, opened again to be sure; this one stays. For backup and restore.

        A copy has its own salts and keys: nothing shows that two files hold the same secrets.

        Args:
            path: Where; nothing may be there yet.
            passphrase: Of the copy, as in `create`.
            fast_kdf: For tests only.

        Returns:
            What the copy holds.

        Raises:
            KeystoreError: Something is there already, or the copy does not open and is removed again.
            UsageError: A passphrase over MAX_PASSPHRASE_BYTES.
        """
        file = Path(path).resolve()
        body = dict(self._current())
        type(self)._write_new(file, passphrase, body, fast_kdf=fast_kdf).close()
        try:
            with type(self).open(file, passphrase) as copy:
                if copy._current() != body:
                    raise KeystoreError(f"{file} does not hold what was written", hint="use another disk")
                return copy.entries()
        except KeystoreError:
            file.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Let go of the secrets; closing twice is fine."""
        self._key, self._body = None, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Keystore {str(self._path)!r} {'closed' if self._key is None else 'open'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keystore is not copied or pickled; open it again")

    def _find(self, body: _Body, name: str) -> tuple[Entry, bytes]:
        found = body.get(name)
        if found is None:
            near = difflib.get_close_matches(name, body, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "list the names it has"
            raise UnknownSecretError(f"no secret named {name!r} in {self._path}", hint=hint, name=name)
        return found

    def _current(self) -> _Body:
        """The secrets as another process may have left them since."""
        if self._key is None:
            raise UsageError("the keystore is closed")
        # Every write draws a new salt; file times are too coarse to tell two quick writes apart.
        parameters, write_salt, sealed = _split(self._path)
        if parameters != self._parameters:
            raise KeystoreError(f"{self._path} was replaced by another keystore", hint="open it again")
        if write_salt != self._write_salt:
            self._body = _unseal(self._path, parameters, self._key, write_salt, sealed)
            self._write_salt = write_salt
        return self._body

    @contextmanager
    def _changing(self) -> Iterator[dict[str, tuple[Entry, bytes]]]:
        with private_file.locked(self._path):
            before = self._current()
            body = dict(before)
            yield body
            if body != before and self._key is not None:
                write_salt = token_bytes(_KEY_SIZE)
                private_file.replace(self._path, _seal(self._parameters, self._key, write_salt, body))
                self._body, self._write_salt = body, write_salt


def _checked(name: str, secret: bytes, kind: str, public: bytes) -> tuple[Entry, bytes]:
    for what, text in (("name", name), ("kind", kind)):
        if not text or len(text) > MAX_NAME_CHARS or not text.isprintable():
            raise UsageError(f"a secret's {what} has 1 to {MAX_NAME_CHARS} printable characters")
    if not 0 < len(secret) <= MAX_SECRET_BYTES or len(public) > MAX_PUBLIC_BYTES:
        raise UsageError(f"a secret has 1 to {MAX_SECRET_BYTES} bytes, its public half at most {MAX_PUBLIC_BYTES}")
    return Entry(name, kind, bytes(public)), bytes(secret)


def _machine_key_path(file: Path) -> Path:
    return file.with_name(file.name + ".key")


def _derive(file: Path, parameters: _Parameters, passphrase: bytes) -> bytes:
    if len(passphrase) > MAX_PASSPHRASE_BYTES:
        raise UsageError(f"passphrase over {MAX_PASSPHRASE_BYTES} bytes")
    if parameters.costs is None:
        # Refused, not ignored: someone who types a passphrase must not be handed a store that anybody could have made.
        if passphrase:
            raise KeystoreError(f"{file} opens with its key file, not with a passphrase", hint="give no passphrase")
        key = private_file.read(_machine_key_path(file), _KEY_SIZE)
        if len(key) != _KEY_SIZE:
            raise KeystoreError(f"{_machine_key_path(file)} is not a key file", hint="restore it from a backup")
        return suite.hkdf_extract(parameters.salt, key)
    if not passphrase:
        raise KeystoreError(f"{file} needs its passphrase", hint="give it by file or at the prompt")
    iterations, lanes, memory_kib = parameters.costs
    return suite.argon2id(passphrase, salt=parameters.salt, iterations=iterations, lanes=lanes, memory_kib=memory_kib)


def _split(file: Path) -> tuple[_Parameters, bytes, bytes]:
    """Parameters within bounds, write salt, sealed body."""
    data = private_file.read(file, MAX_FILE_BYTES)
    match = _HEADER.match(data[:_MAX_HEADER_BYTES])
    if match is None:
        raise KeystoreError(f"{file} is not a keystore of this version")
    iterations, lanes, memory_kib, salt, write_salt = match.groups()
    costs = None if iterations is None else (int(iterations), int(lanes), int(memory_kib))
    if costs is not None and not (
        costs[0] <= MAX_ITERATIONS and costs[1] <= MAX_LANES and 8 * costs[1] <= costs[2] <= MAX_MEMORY_KIB
    ):
        raise KeystoreParametersError(
            f"{file} asks for {costs[0]} passes over {costs[2]} KiB in {costs[1]} lanes; "
            f"at most {MAX_ITERATIONS}, {MAX_MEMORY_KIB} and {MAX_LANES}"
        )
    return _Parameters(costs, bytes.fromhex(salt.decode())), bytes.fromhex(write_salt.decode()), data[match.end() :]


def _write_key(key: bytes, write_salt: bytes) -> bytes:
    # A fresh key per write, because the cipher's nonce is fixed.
    return suite.hkdf_expand(key, pae(_LABEL, write_salt), _KEY_SIZE)


def _seal(parameters: _Parameters, key: bytes, write_salt: bytes, body: _Body) -> bytes:
    rows = [
        {"name": e.name, "kind": e.kind, "public": _text(e.public), "secret": _text(secret)}
        for e, secret in body.values()
    ]
    header = parameters.header(write_salt)
    data = header + suite.aead_seal(_write_key(key, write_salt), json.dumps(rows).encode(), header)
    if len(data) > MAX_FILE_BYTES:  # it could not be opened again
        raise KeystoreError(f"the keystore would be over {MAX_FILE_BYTES} bytes", hint="delete what has expired")
    return data


def _unseal(file: Path, parameters: _Parameters, key: bytes, write_salt: bytes, sealed: bytes) -> _Body:
    try:
        plain = suite.aead_open(_write_key(key, write_salt), sealed, parameters.header(write_salt))
    except OpenError:
        raise KeystorePassphraseError(f"{file} does not open") from None
    rows = json.loads(plain)
    return {
        row["name"]: (Entry(row["name"], row["kind"], _bytes(row["public"])), _bytes(row["secret"])) for row in rows
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)

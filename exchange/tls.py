"""TLS identities: a node's small CA, the certificates it issues, and the check that a caller is who it says.

A chain to *some* trusted CA proves nothing here: the leaf must be issued directly by the CA pinned in the roster for
the claimed name (docs/PROTOCOL.md section 11). No intermediates, no host names from outside.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from exchange.errors import IdentityError
from keys import node_keys
from keys.trust import Trust, mission_of, party_of
from keys.v1 import documents_pb2 as docs

SCHEME: Final = "tocsin://"
CA_DAYS: Final = 3650
LEAF_DAYS: Final = 30
MAX_COMMON_NAME: Final = 64
MALFORMED: Final = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What the X.509 library raises on bytes that are no certificate or request, some of it only when a field is read."""
TlsKey = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: TlsKey = field(repr=False)

    @property
    def der(self) -> bytes:
        """The certificate as documents and keystores name it."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


def new_key() -> TlsKey:
    """A P-256 key: TLS authentication only, confidentiality comes from the hybrid key exchange and the envelopes."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: TlsKey) -> bytes:
    """The private key, unencrypted PEM, for the TLS library alone; files hold it inside the keystore."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes) -> TlsKey:
    """The inverse of `key_pem`."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError("the TLS key is not an elliptic-curve key")
    return key


def make_ca(node: str, key: TlsKey, *, now_ms: int) -> x509.Certificate:
    """The self-signed CA certificate of a node; its common name is the node's name."""
    name = _distinguished(node)
    return (
        _builder(name, name, key.public_key(), now_ms, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def issue(
    ca: x509.Certificate, ca_key: TlsKey, name: str, public: ec.EllipticCurvePublicKey, *, now_ms: int
) -> x509.Certificate:
    """A certificate for a desk or node: identity in the URI SAN, a node's name also as DNS name for its clients."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(SCHEME + name)]
    if "/" not in name:
        names.append(x509.DNSName(name))
    subject = _distinguished(name)
    return (
        _builder(subject, ca.subject, public, now_ms, LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .sign(ca_key, hashes.SHA256())
    )


def request(name: str, key: TlsKey) -> bytes:
    """A PKCS#10 request, DER."""
    subject = _distinguished(name)
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.DER)


def pair(name: str, key: TlsKey, certificate_der: bytes, *, ca: bytes) -> Pair:
    """What a request was answered with, if it is a certificate of that CA for that name and key.

    Raises:
        IdentityError: It is not; whoever took it would not be let in.
    """
    try:
        found, issuer = x509.load_der_x509_certificate(certificate_der), x509.load_der_x509_certificate(ca)
        fits = name_in(found) == name and found.public_key() == key.public_key() and issued_by(found, issuer)
    except MALFORMED:
        fits = False
    if not fits:
        raise IdentityError(f"the certificate that came is not one for {name} and its key", name=name)
    return Pair(found, key)


def pem(certificate: x509.Certificate) -> bytes:
    """PEM of a certificate."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def der_to_pem(der: bytes) -> bytes:
    """PEM of a DER certificate."""
    return pem(x509.load_der_x509_certificate(der))


def name_in(certificate: x509.Certificate) -> str:
    """The one name a certificate claims.

    Raises:
        IdentityError: None, or more than one.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise IdentityError("the certificate names nobody") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith(SCHEME):
        raise IdentityError("the certificate names not exactly one desk or node")
    return uris[0].removeprefix(SCHEME)


def hosting_node(trust: Trust, name: str) -> str | None:
    """The node whose CA vouches for a name: a node's own, or the one that hosts the desk's mission."""
    if "/" not in name:
        return name if trust.node(name) else None
    party = party_of(name)
    if party not in trust.parties:
        return None
    view = trust.roster(party)
    mission = view.missions.get(mission_of(name))
    return mission.node if mission is not None and name in view.desks else None


def caller_name(certificate_pem: bytes, trust: Trust, *, now_ms: int) -> str:
    """Who a TLS peer is, by the certificate it proved to hold.

    Raises:
        IdentityError: The name is unknown, its CA is not the pinned one, or the certificate is out of date.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        name = name_in(certificate)
    except MALFORMED:
        raise IdentityError("the certificate is malformed") from None
    node = hosting_node(trust, name)
    cas = pinned_cas(trust, node, now_ms=now_ms) if node else ()
    if not cas:
        raise IdentityError(f"{name} is in no roster, or its node has no usable CA there", name=name)
    if not any(issued_by(certificate, ca) for ca in cas):
        raise IdentityError(f"the certificate of {name} is not issued by the CA of {node}", name=name)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise IdentityError(f"the certificate of {name} is out of date", name=name)
    return name


def trusted_cas(trust: Trust, *, now_ms: int) -> bytes:
    """PEM bundle of every node's CAs: opens the handshake; `caller_name` decides afterwards."""
    return b"".join(pem(ca) for node in trust.nodes() for ca in pinned_cas(trust, node.node, now_ms=now_ms))


def pinned_cas(trust: Trust, node: str, *, now_ms: int) -> tuple[x509.Certificate, ...]:
    """The CAs a node's certificates may be issued by now, the newest first; two while one replaces the other.

    Source: docs/PROTOCOL.md section 11.2; keys/node_keys.py.
    """
    if trust.node(node) is None:
        return ()
    accepted = node_keys.cas_accepted(trust, node, now_ms=now_ms)
    found = (pinned_ca(docs.Node(node=node, tls_ca=der)) for der in accepted)
    return tuple(ca for ca in found if ca is not None)


def issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Whether a CA issued a certificate, directly."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (*MALFORMED, TypeError, InvalidSignature):
        return False
    return True


def pinned_ca(node: docs.Node) -> x509.Certificate | None:
    """The CA a roster pins for a node; None when it is none, or bears a name that is not the node's.

    The TLS library finds an issuer by its subject, so a CA under another node's name could stand in that one's way.
    """
    try:
        ca = x509.load_der_x509_certificate(node.tls_ca)
        subject, issuer = ca.subject, ca.issuer
    except MALFORMED:
        return None
    return ca if subject == issuer == _distinguished(node.node) else None


def _distinguished(name: str) -> x509.Name:
    # RFC 5280 stops at 64 characters; the whole name is in the alternative name.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:MAX_COMMON_NAME])])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now_ms: int, days: int
) -> x509.CertificateBuilder:
    start = datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )

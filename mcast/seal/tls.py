"""TLS 1.3 from the key file, for clients and peers: mutual, with no certificate to hand out, renew or lose.

Every key of the ring gives one certificate authority, its private key derived by HKDF, so all who hold the key file
have the same ones. A process draws a leaf key, signs it with the first key's authority and keeps it in memory; it
trusts the authorities of all keys, so a rotation needs no pause. Validity is unlimited on purpose, and no clock is
looked at: a node that believes it is 1970 must still be let in, and what ends a certificate's life is the end of the
process, or of the key.

Whoever holds the key can sign any name: names keep honest nodes apart, they do not stop a holder of the key.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mcast.errors import EnvironmentProblem
from mcast.seal.keys import KeyRing, derive

_CURVE: Final = ec.SECP256R1()
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (SEC 2, 2.4.2)
_SCALAR_BYTES: Final = 48  # 128 bits more than the order, so that the remainder is even
_BEFORE: Final = datetime(1950, 1, 1, tzinfo=UTC)  # the earliest that a certificate's short form of time can say
_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # "no well-defined end" (RFC 5280, 4.1.2.5)
_NO_CHECK_TIME: Final = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for
_NODE: Final = "node"
_CLIENT: Final = "client"

_WRONG_KEY_ALERTS: Final = ("UNKNOWN_CA", "CERTIFICATE_VERIFY_FAILED", "DECRYPT_ERROR", "BAD_CERTIFICATE")
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


def server_context(ring: KeyRing, node: str) -> ssl.SSLContext:
    """For the connections that node `node` accepts: the other side must hold one of the ring's keys too."""
    return _context(ssl.PROTOCOL_TLS_SERVER, ring, node)


def client_context(ring: KeyRing, node: str = "") -> ssl.SSLContext:
    """For the connections that a client, or node `node` as a peer, opens. Compare `peer_node` with whom was meant."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, ring, node)


def peer_node(connection: ssl.SSLObject | ssl.SSLSocket) -> str:
    """The id of the node at the other end, by its certificate; "" for a client that is no node."""
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None:
        return ""
    names = {name.oid: str(name.value) for name in x509.load_der_x509_certificate(certificate).subject}
    return names.get(NameOID.COMMON_NAME, "") if names.get(NameOID.ORGANIZATIONAL_UNIT_NAME) == _NODE else ""


def explain(error: BaseException) -> str | None:
    """What an error before a connection's first answer says about keys, in an operator's words; None if nothing.

    A refused client often sees no alert: with TLS 1.3 its own side of the handshake is over by then, and all it reads
    is the connection's end. So an end before the first answer (EOFError, a reset) is explained too, as a likelihood.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return "wrong key: the other side does not hold this key file's key"
    if isinstance(error, (ssl.SSLEOFError, EOFError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)):
        return "the connection was closed before its first answer: keys differ, or only one side has a key file"
    reason = str(getattr(error, "reason", "")) if isinstance(error, ssl.SSLError) else ""
    if any(alert in reason for alert in _WRONG_KEY_ALERTS):
        return "wrong key: the other side refused this key file's key"
    if "CERTIFICATE_REQUIRED" in reason:
        return "the other side asks for a certificate: name its key file here too"
    if any(word in reason for word in _NOT_TLS):
        return "the other side does not speak TLS: it runs without a key file"
    return None


def _context(protocol: int, ring: KeyRing, node: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # names are node ids, compared by the caller
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # every connection proves its key anew
    keys = [_authority_key(secret) for secret in ring.keys]
    context.load_verify_locations(cadata="".join(_pem(_authority(key)) for key in keys))
    _load_leaf(context, keys[0], node)
    return context


def _load_leaf(context: ssl.SSLContext, authority_key: ec.EllipticCurvePrivateKey, node: str) -> None:
    key = ec.generate_private_key(_CURVE)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with _at_a_path(private + _pem(_leaf(authority_key, key.public_key(), node)).encode()) as path:
        context.load_cert_chain(path)


@contextmanager
def _at_a_path(secret: bytes) -> Iterator[str]:
    """Where OpenSSL, which loads a key from a path only, finds it for the moment: in memory, if the system can.

    A container may have no folder to write to, and a secret on a disk is not gone when its name is.
    """
    descriptor, path = -1, ""
    with suppress(OSError, AttributeError):
        descriptor = os.memfd_create("mcast", os.MFD_CLOEXEC)
    if descriptor >= 0 and os.access(f"/proc/self/fd/{descriptor}", os.R_OK):
        path = f"/proc/self/fd/{descriptor}"
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(secret)
            yield path
        return
    if descriptor >= 0:
        os.close(descriptor)
    try:
        descriptor, path = tempfile.mkstemp(prefix="mcast-")  # its mode is 0600
    except OSError as error:
        raise EnvironmentProblem(
            f"no folder for a temporary file: {error.strerror or error}", "set TMPDIR to one that this user can write"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
        yield path
    finally:
        os.unlink(path)


def _authority_key(secret: bytes) -> ec.EllipticCurvePrivateKey:
    scalar = int.from_bytes(derive(secret, b"", b"mcast tls authority", _SCALAR_BYTES), "big")
    return ec.derive_private_key(scalar % (_ORDER - 1) + 1, _CURVE)


def _authority_name(public_key: ec.EllipticCurvePublicKey) -> x509.Name:
    digest = x509.SubjectKeyIdentifier.from_public_key(public_key).digest
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mcast"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"authority {digest.hex()[:16]}"),
    ])  # fmt: skip


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEFORE)
        .not_valid_after(_AFTER)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _authority_name(key.public_key())
    return (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    authority_key: ec.EllipticCurvePrivateKey, public_key: ec.EllipticCurvePublicKey, node: str
) -> x509.Certificate:
    authority = authority_key.public_key()
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mcast"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, _NODE if node else _CLIENT),
        x509.NameAttribute(NameOID.COMMON_NAME, node or _CLIENT),
    ]
    return (
        _builder(x509.Name(subject), _authority_name(authority), public_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
